"""Whole processes on a running server: seconds and peak memory, beside the ORM way.

    python benchmarks/commands.py [--rounds 5]

Prints a table: the median over the rounds, interpreter start and imports counted.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INVOKE = [sys.executable, "-m", "invoke"]
ORM = [sys.executable, str(ROOT / "benchmarks" / "orm_way.py")]


def measured(command: list[str], environ: dict[str, str]) -> tuple[float, float]:
    """Run a command; return its seconds and its peak memory in MB (its children's not)."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{command} failed:\n{output.read().decode()}")
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    """Measure every command in turn, round by round, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    home = tempfile.mkdtemp(prefix="perfdata-bench-")
    environ = {**os.environ, "PERFDATA_HOME": home}
    environ.pop("PERFDATA_DATABASE_URL", None)
    try:
        subprocess.run([*INVOKE, "db.start"], cwd=ROOT, env=environ, check=True)
        show(measure_all(rounds, home, environ))
    finally:
        subprocess.run([*INVOKE, "db.stop"], cwd=ROOT, env=environ, check=True)
        shutil.rmtree(home)


def measure_all(
    rounds: int, home: str, environ: dict[str, str]
) -> dict[str, list[tuple[float, float]]]:
    """Return seconds and MB of each round, by command."""
    name = ["--name", "100_offices"]
    subprocess.run([*INVOKE, "dataset.build", *name], cwd=ROOT, env=environ, check=True)
    url = subprocess.run(
        [*INVOKE, "db.url", "--driver", "psycopg"],
        cwd=ROOT, env=environ, check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    orm = [url, str(Path(home) / "orm.json")]
    commands = {
        "invoke --list": [*INVOKE, "--list"],
        "invoke dataset.build": [*INVOKE, "dataset.build", *name],
        "invoke snapshot.create": [*INVOKE, "snapshot.create", "--replace", "--name", "again"],
        "invoke snapshot.restore": [*INVOKE, "snapshot.restore", *name],
        "ORM build": [*ORM, "build", *orm],
        "ORM create": [*ORM, "create", *orm],
        "ORM restore": [*ORM, "restore", *orm],
    }
    found: dict[str, list[tuple[float, float]]] = {label: [] for label in commands}
    for _ in range(rounds):
        for label, command in commands.items():
            found[label].append(measured(command, environ))
    sizes = {
        "snapshot": Path(home, "snapshots", "100_offices.json.zst").stat().st_size,
        "ORM JSON": Path(home, "orm.json").stat().st_size,
    }
    print("file:", ", ".join(f"{label} {size / 1e6:.2f} MB" for label, size in sizes.items()))
    return found


def show(found: dict[str, list[tuple[float, float]]]) -> None:
    """Print a line a command."""
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    print(f"{'100_offices, whole process':28} {'seconds':>8} {'(least)':>8} {'peak MB':>8}")
    for label, measurements in found.items():
        seconds = [one[0] for one in measurements]
        memory = max(one[1] for one in measurements)
        print(f"{label:28} {statistics.median(seconds):8.2f} {min(seconds):8.2f} {memory:8.0f}")


if __name__ == "__main__":
    main()
