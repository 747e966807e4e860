"""Peak memory of create and restore: many rows, one table of very many, lines of megabytes.

    python benchmarks/memory.py [--rows 16000000] [--offices 5000]

Each runs in a process of its own, whose peak is the kernel's VmHWM (Linux), imports counted. The
server's memory is its own affair.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
from psycopg import sql

from perfdata import (
    Settings,
    Target,
    build_dataset,
    create_snapshot,
    open_target,
    restore_snapshot,
)
from perfdata.server.embedded import EmbeddedServer

ROOT = Path(__file__).resolve().parent.parent
LINE_MB = 20


def main() -> None:
    """Measure each case, and print a line a step; or be one such step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=16_000_000)
    parser.add_argument("--offices", type=int, default=5000)
    parser.add_argument("--step", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        step(*given.step)
        return
    with tempfile.TemporaryDirectory(prefix="perfdata-memory-") as home:
        settings = Settings.load(ROOT, {"PERFDATA_HOME": home})
        server = EmbeddedServer(settings)
        target = open_target(settings)
        try:
            print(f"{'':40} {'peak MB':>8} {'seconds':>8}")
            offices(target, server, f"{given.offices}_offices")
            for rows in (given.rows // 10, given.rows):
                one_table(
                    server,
                    settings,
                    f"{rows}_rows",
                    f"SELECT g, g % 100 AS v FROM generate_series(1, {rows}) g",
                )
            one_table(
                server,
                settings,
                f"lines_of_{LINE_MB}_MB",
                f"SELECT g, repeat(md5(g::text), {LINE_MB} * 32768) AS v"
                " FROM generate_series(1, 10) g",
            )
        finally:
            server.stop()


def offices(target: Target, server: EmbeddedServer, name: str) -> None:
    """Measure the bundled dataset, by its flag."""
    build_dataset(target, name, snapshot=False)
    measured("create", target.conninfo, name, target.settings)
    run(server, "postgres", "CREATE DATABASE bare TEMPLATE perfdata")
    run(server, "bare", "TRUNCATE staffs, offices, welfare_recipients CASCADE")
    measured("restore", server.conninfo("bare"), name, target.settings)


def one_table(server: EmbeddedServer, settings: Settings, name: str, rows: str) -> None:
    """Measure all rows of one table."""
    for database in ("filled", "bare"):
        run(server, "postgres", f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        run(server, "postgres", f"CREATE DATABASE {database} TEMPLATE template0")
    run(server, "filled", f"CREATE TABLE one AS {rows}")
    run(server, "bare", f"CREATE TABLE one AS {rows} LIMIT 0")
    measured("create", server.conninfo("filled"), name, settings)
    run(server, "postgres", "DROP DATABASE filled WITH (FORCE)")
    measured("restore", server.conninfo("bare"), name, settings)


def run(server: EmbeddedServer, database: str, statement: str) -> None:
    """Run a statement in a database of the server."""
    with psycopg.connect(server.conninfo(database), autocommit=True) as connection:
        connection.execute(sql.SQL(statement))


def measured(what: str, conninfo: str, name: str, settings: Settings) -> None:
    """Run a step in a process of its own and print what it says."""
    command = [sys.executable, __file__, "--step", what, conninfo, name, str(settings.home)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    peak, seconds = done.stdout.split()
    print(f"{what + ' ' + name:40} {int(peak) / 1000:8.0f} {float(seconds):8.1f}", flush=True)


def step(what: str, conninfo: str, name: str, home: str) -> None:
    """Create or restore, and print the peak memory in kB and the seconds."""
    settings = Settings.load(ROOT, {"PERFDATA_HOME": home})
    began = time.perf_counter()
    if what == "create":
        every = not name.endswith("_offices")
        create_snapshot(conninfo, name, all_rows=every, replace=True, settings=settings)
    else:
        restore_snapshot(conninfo, name, settings=settings)
    seconds = time.perf_counter() - began
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (peak,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    print(peak, seconds)


if __name__ == "__main__":
    main()
