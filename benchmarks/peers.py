"""perfdata beside its peers: the same work on the same server and data, in turn, in pairs.

    python benchmarks/peers.py [--only create] [--datasets 100_offices] [--pairs 5]
                               [--home FOLDER] [--markdown docs/benchmarks.md]

Prints for each row of the table the median ratio of seconds over the pairs, and of both sides the
median. Work is counted in process: no interpreter starts, nothing is imported. The peers are
pg_dump and pg_restore of the same server, whole processes in C, and plain SQL. A home that is kept
(``--home``) has its datasets built only once.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from sqlalchemy import Uuid

from perfdata import (
    Settings,
    Target,
    build_dataset,
    create_snapshot,
    find_snapshot,
    open_target,
    restore_snapshot,
    snapshot_exists,
)
from perfdata.load import loader as loading
from perfdata.postgres.drivers import PsycopgLink
from perfdata.server.binaries import find_binaries
from perfdata.server.cluster import DATABASE
from perfdata.server.embedded import EmbeddedServer
from perfdata.templates.databases import mark_made
from perfdata.welfare.models import Base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from sqlalchemy import Column, Table

    from perfdata import Restored

ROOT = Path(__file__).resolve().parent.parent
SORTED = Base.metadata.sorted_tables
TABLES = [table.name for table in SORTED]
# A statement of the peer that takes so many times what we took in all is stopped: where columns
# that reference have no index, it looks through a million rows for each that it deletes.
ENOUGH = 12
NAME = "peers"  # of the snapshot that is written over and over


@dataclass(frozen=True)
class Bench:
    """One dataset on the running server, in a database of its own."""

    settings: Settings
    server: EmbeddedServer
    dataset: str
    folder: Path

    @property
    def source(self) -> str:
        """The database that holds the dataset."""
        return f"peers_{self.dataset}"

    @property
    def dump(self) -> Path:
        """Where pg_dump writes."""
        return self.folder / f"{self.dataset}.dump"

    def conninfo(self, database: str) -> str:
        """Return how to reach a database."""
        return self.server.conninfo(database)

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's own programs."""
        binary = find_binaries(self.settings).bin / program
        subprocess.run([binary, *arguments], check=True)

    def execute(self, database: str, *statements: sql.SQL | sql.Composed) -> None:
        """Run statements, each for itself."""
        with psycopg.connect(self.conninfo(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def make(self, name: str, template: str) -> None:
        """Make a database, in the place of one of that name."""
        self.drop(name)
        self.execute("postgres", named("CREATE DATABASE {} TEMPLATE {}", name, template))

    def own(self, name: str) -> None:
        """Mark a database as one that perfdata made, as the embedded server's own is."""
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            mark_made(PsycopgLink(connection), name)

    def drop(self, name: str) -> None:
        """Drop a database, and what perfdata keeps of it."""
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            kept = "SELECT datname FROM pg_database WHERE datname = %s OR datname LIKE %s"
            for (found,) in connection.execute(kept, (name, f"{name}\\_before\\_%")).fetchall():
                connection.execute(named("DROP DATABASE {} WITH (FORCE)", found))


@dataclass(frozen=True)
class Pair:
    """What both sides took, in seconds (for the file's size: in bytes).

    ``cut`` tells that the peer was stopped when the aim was reached long since: the ratio is less.
    """

    ours: float
    theirs: float
    cut: bool = False

    @property
    def ratio(self) -> float:
        """Ours by theirs."""
        return self.ours / self.theirs


@dataclass(frozen=True)
class Row:
    """One row of the table: what is done, what is aimed at (by dataset), and a pair of it."""

    work: str
    peer: str
    aims: dict[str, float]
    aim: float
    measure: Callable[[Bench], Pair]


def named(query: str, *names: str) -> sql.Composed:
    """Put quoted names into a statement."""
    return sql.SQL(query).format(*map(sql.Identifier, names))


@contextmanager
def clock(found: list[float]) -> Iterator[None]:
    """Add the seconds of a block to a list."""
    began = time.perf_counter()
    yield
    found.append(time.perf_counter() - began)


def create(bench: Bench) -> Pair:
    """Save the dataset: a snapshot, and pg_dump's custom format."""
    found: list[float] = []
    with clock(found):
        create_snapshot(bench.conninfo(bench.source), NAME, replace=True, settings=bench.settings)
    with clock(found):
        bench.run("pg_dump", "-Fc", "-f", str(bench.dump), bench.conninfo(bench.source))
    return Pair(found[0], found[1])


def file_size(bench: Bench) -> Pair:
    """Compare the sizes of the two files."""
    create(bench)
    ours = find_snapshot(NAME, bench.settings).size_bytes
    return Pair(ours, bench.dump.stat().st_size)


def restore_whole(bench: Bench) -> Pair:
    """Load whole tables in one transaction; beside it pg_restore into an empty database.

    Statistics and VACUUM are not counted: pg_restore leaves both to others.
    """
    bench.make("peers_restored", DATABASE)
    bench.own("peers_restored")
    bench.make("peers_dumped", "template0")
    found: list[float] = []
    aftercare: list[float] = []
    with (
        timed(loading, "restore_statistics", aftercare),
        timed(loading, "vacuum_and_analyze", aftercare),
    ):
        with clock(found):
            done = _restore(bench, "peers_restored")
        check_strategy(done, "whole tables")
    with clock(found):
        _pg_restore(bench)
    return Pair(found[0] - sum(aftercare), found[1])


@contextmanager
def timed(module: ModuleType, name: str, found: list[float]) -> Iterator[None]:
    """Measure each call of a module's function while a block runs."""
    real = getattr(module, name)

    def call(*args: Any, **options: Any) -> Any:
        with clock(found):
            return real(*args, **options)

    setattr(module, name, call)
    try:
        yield
    finally:
        setattr(module, name, real)


def _restore(bench: Bench, database: str, *, fresh: bool = False) -> Restored:
    return restore_snapshot(
        bench.conninfo(database), bench.dataset, fresh=fresh, settings=bench.settings
    )


def _pg_restore(bench: Bench) -> None:
    if not bench.dump.exists():
        bench.run("pg_dump", "-Fc", "-f", str(bench.dump), bench.conninfo(bench.source))
    database = bench.conninfo("peers_dumped")
    bench.run("pg_restore", "-Fc", "-j2", "--no-statistics", "-d", database, str(bench.dump))


def restore_fresh(bench: Bench) -> Pair:
    """Make the template, clone it and swap; beside it pg_restore into an empty database."""
    bench.make("peers_restored", DATABASE)
    drop_templates(bench)
    bench.make("peers_dumped", "template0")
    found: list[float] = []
    with clock(found):
        done = _restore(bench, "peers_restored", fresh=True)
    check_strategy(done, "a new template and its clone")
    with clock(found):
        _pg_restore(bench)
    return Pair(found[0], found[1])


def restore_again(bench: Bench) -> Pair:
    """Clone a template that is there and swap; beside it CREATE DATABASE, DROP and RENAME."""
    bench.make("peers_restored", DATABASE)
    _restore(bench, "peers_restored", fresh=True)
    found: list[float] = []
    with clock(found):
        done = _restore(bench, "peers_restored", fresh=True)
    check_strategy(done, "a clone of its template")
    return Pair(found[0], min(_clone(bench, way) for way in ("WAL_LOG", "FILE_COPY")))


def _clone(bench: Bench, way: str) -> float:
    bench.make("peers_cloned", DATABASE)
    create = sql.SQL("CREATE DATABASE peers_cloning TEMPLATE {} STRATEGY {}").format(
        sql.Identifier(bench.source), sql.SQL(way)
    )
    found: list[float] = []
    with clock(found):
        bench.execute(
            "postgres",
            create,
            named("DROP DATABASE {}", "peers_cloned"),
            named("ALTER DATABASE {} RENAME TO {}", "peers_cloning", "peers_cloned"),
        )
    bench.drop("peers_cloned")
    return found[0]


def restore_beside(bench: Bench) -> Pair:
    """Replace flagged rows beside others; beside it DELETE and COPY with constraints in place."""
    bench.make("peers_restored", bench.source)
    keep_some(bench, "peers_restored")
    bench.make("peers_deleted", "peers_restored")
    copies = [_rows(bench, table) for table in TABLES]
    found: list[float] = []
    with clock(found):
        done = _restore(bench, "peers_restored")
    check_strategy(done, "beside other data")
    cut = False
    with clock(found), psycopg.connect(bench.conninfo("peers_deleted")) as connection:
        try:
            _replace(connection, copies, found[0] * ENOUGH)
        except psycopg.errors.QueryCanceled:
            cut = True
    return Pair(found[0], found[1], cut)


def _replace(connection: psycopg.Connection, copies: list[bytes], timeout_s: float) -> None:
    timeout = sql.SQL("SET statement_timeout = {}").format(sql.Literal(int(timeout_s * 1000)))
    connection.execute(timeout)
    for table in reversed(TABLES):
        connection.execute(named("DELETE FROM {} WHERE is_test_data", table))
    for table, data in zip(TABLES, copies, strict=True):
        with connection.cursor().copy(named("COPY {} FROM STDIN", table)) as copy:
            copy.write(data)


def _rows(bench: Bench, table: str) -> bytes:
    with psycopg.connect(bench.conninfo(bench.source)) as connection:
        query = named("COPY (SELECT * FROM {}) TO STDOUT", table)
        with connection.cursor().copy(query) as copy:
            return b"".join(map(bytes, copy))


def keep_some(bench: Bench, database: str) -> None:
    """Put the rows of 100 offices once more beside the dataset, with other keys and no flag."""
    offices = named("SELECT id FROM {} ORDER BY created_at, id LIMIT 100", "offices")
    chosen = {
        "offices": sql.SQL("id IN (SELECT id FROM kept)"),
        "staffs": sql.SQL(
            "id IN (SELECT staff_id FROM office_staffs WHERE office_id IN (SELECT id FROM kept)"
            " UNION SELECT created_by FROM offices)"
        ),
        "welfare_recipients": sql.SQL(
            "id IN (SELECT welfare_recipient_id FROM office_welfare_recipients"
            " WHERE office_id IN (SELECT id FROM kept))"
        ),
    }
    of_office = sql.SQL("office_id IN (SELECT id FROM kept)")
    bench.execute(database, sql.SQL("CREATE TABLE kept AS {}").format(offices))
    copies = [_copied(table, chosen.get(table.name, of_office)) for table in SORTED]
    bench.execute(database, *copies, named("DROP TABLE {}", "kept"), sql.SQL("VACUUM ANALYZE"))


def _copied(table: Table, where: sql.SQL) -> sql.Composed:
    """Copy rows of a table to other keys; what it numbers by itself is left to it."""
    columns = [one for one in table.columns if str(one.type) != "INTEGER" or not one.primary_key]
    return sql.SQL("INSERT INTO {0} ({1}) SELECT {2} FROM {0} WHERE {3}").format(
        sql.Identifier(table.name),
        sql.SQL(", ").join(sql.Identifier(one.name) for one in columns),
        sql.SQL(", ").join(map(_changed, columns)),
        where,
    )


def _changed(column: Column[Any]) -> sql.Composable:
    if column.name == "is_test_data":
        return sql.SQL("false")
    if isinstance(column.type, Uuid):
        return named("md5({}::text || 'real')::uuid", column.name)
    return named("'real.' || {}" if column.name == "email" else "{}", column.name)


def check_strategy(done: Restored, wanted: str) -> None:
    """Stop where something else was measured than is said."""
    if done.strategy != wanted:
        raise SystemExit(f"restored as {done.strategy}, not as {wanted}: {'; '.join(done.notes)}")


def drop_templates(bench: Bench) -> None:
    """Drop the templates that perfdata keeps, so that the next restore makes one."""
    with psycopg.connect(bench.conninfo("postgres"), autocommit=True) as connection:
        query = (
            "SELECT datname FROM pg_database WHERE datistemplate AND datname !~ '^template[01]$'"
        )
        for (name,) in connection.execute(query).fetchall():
            connection.execute(named("ALTER DATABASE {} IS_TEMPLATE false", name))
            connection.execute(named("DROP DATABASE {} WITH (FORCE)", name))


ROWS = {
    "create": Row("create", "pg_dump -Fc", {}, 1.0, create),
    "size": Row("file size", "pg_dump -Fc", {"5000_offices": 0.9}, 0.75, file_size),
    "whole": Row(
        "restore, whole tables, one transaction, statistics not counted",
        "pg_restore -Fc -j2 into an empty database",
        {"100_offices": 2.0}, 1.5, restore_whole,
    ),
    "fresh": Row(
        "restore --fresh, first time",
        "pg_restore -Fc -j2 into an empty database",
        {"100_offices": 1.5}, 1.1, restore_fresh,
    ),
    "again": Row(
        "restore --fresh, again",
        "CREATE DATABASE … TEMPLATE, the faster strategy, and DROP of the old",
        {}, 1.3, restore_again,
    ),
    "beside": Row(
        "restore next to 32,000 unflagged rows",
        "DELETE and COPY with constraints in place",
        {}, 0.15, restore_beside,
    ),
}  # fmt: skip


def prepare(settings: Settings, dataset: str, folder: Path) -> Bench:
    """Have the dataset in a database of its own and its snapshot; built once a home."""
    server = EmbeddedServer(settings)
    bench = Bench(settings, server, dataset, folder)
    with psycopg.connect(server.conninfo("postgres")) as connection:
        query = "SELECT FROM pg_database WHERE datname = %s"
        there = connection.execute(query, (bench.source,)).fetchone() is not None
    if not (there and snapshot_exists(dataset, settings)):
        bench.make(bench.source, DATABASE)
        build_dataset(Target(settings, bench.conninfo(bench.source), embedded=True), dataset)
        bench.execute(bench.source, sql.SQL("VACUUM (FREEZE)"), sql.SQL("CHECKPOINT"))
    return bench


def measure(bench: Bench, row: Row, pairs: int) -> list[Pair]:
    """Measure pairs of a row, after one that warms caches up and is not counted.

    Where the peer had to be stopped, that one is enough.
    """
    bench.execute("postgres", sql.SQL("CHECKPOINT"))
    first = row.measure(bench)
    return [first] if first.cut else [row.measure(bench) for _ in range(pairs)]


def machine(settings: Settings) -> str:
    """Describe what was measured on."""
    with psycopg.connect(EmbeddedServer(settings).conninfo("postgres")) as connection:
        version = connection.info.parameter_status("server_version")
    model = next(
        (
            line.partition(":")[2].strip()
            for line in _read("/proc/cpuinfo").splitlines()
            if line.startswith("model name")
        ),
        platform.processor() or platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{os.cpu_count()} CPUs ({model}), {memory:.0f} GB, {platform.system()}, "
        f"Python {platform.python_version()}, PostgreSQL {version}, durability off, "
        f"data on {_file_system(settings.home)}"
    )


def _file_system(folder: Path) -> str:
    """Name the file system of a folder, as GNU stat does."""
    done = subprocess.run(
        ["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "an unknown file system"


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8") if Path(path).exists() else ""


def line(bench: Bench, row: Row, pairs: list[Pair]) -> list[str]:
    """Write one row of the table."""
    ratio = statistics.median(pair.ratio for pair in pairs)
    aim = row.aims.get(bench.dataset, row.aim)
    sides: list[Any] = [
        statistics.median(side)
        for side in zip(*((one.ours, one.theirs) for one in pairs), strict=True)
    ]
    shown = [
        f"{side / 1e6:.2f} MB" if row.measure is file_size else f"{side:.3f} s" for side in sides
    ]
    less = "< " if pairs[0].cut else ""
    if less:
        shown[1] = f"stopped after {shown[1]}"
    ratios = " ".join(f"{pair.ratio:.2f}" for pair in pairs)
    reached = "yes" if round(ratio, 2) <= aim else "no"
    return [
        row.work,
        bench.dataset,
        row.peer,
        *shown,
        f"{less}{ratio:.2f}",
        f"{aim:g}",
        reached,
        ratios,
    ]


HEADINGS = [
    "work", "dataset", "compared with", "perfdata", "peer", "ratio", "target", "met", "each pair",
]  # fmt: skip


def markdown(where: str, pairs: int, lines: list[list[str]]) -> str:
    """Write the table as a page."""
    rows = [HEADINGS, ["---"] * len(HEADINGS), *lines]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        "# Benchmarks\n\n"
        "For readers who want to know how perfdata compares with PostgreSQL's own tools. "
        "Repeat the measurement, which also writes this page, with\n\n"
        "```sh\npython benchmarks/peers.py --markdown docs/benchmarks.md\n```\n\n"
        f"{where}.\n\n{table}\n\n"
        f"Each figure is the median of {pairs} pairs: perfdata and its peer ran in turn on the "
        "same server and data. A ratio below 1 means that perfdata was faster (or its file "
        "smaller). Ratios are of seconds inside the process, without the start of the "
        "interpreter; the peers are whole processes in C, or SQL.\n\n"
        "A database consists of some 350 files, so a clone takes as long as the file system needs "
        "to create them. On ext4 without a journal that is 0.7 ms each for a minute after many "
        "files were deleted, as this benchmark does: put `--home` on another file system.\n"
    )


def main() -> None:
    """Measure what is asked for, print a line each, and write the page where that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=ROWS, action="append", help="a row; more than once")
    parser.add_argument("--datasets", nargs="+", default=["100_offices", "5000_offices"])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--home", type=Path, help="keep the server and its datasets here")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="perfdata-peers-") as folder:
        home = str((given.home or Path(folder) / "home").resolve())
        settings = Settings.load(ROOT, {"PERFDATA_HOME": home})
        try:
            open_target(settings)
            lines = []
            for dataset in given.datasets:
                bench = prepare(settings, dataset, Path(folder))
                for key in given.only or ROWS:
                    lines.append(line(bench, ROWS[key], measure(bench, ROWS[key], given.pairs)))
                    print("  ".join(lines[-1]), flush=True)
            where = machine(settings)
        finally:
            EmbeddedServer(settings).stop()
    print(where)
    if given.markdown:
        given.markdown.parent.mkdir(exist_ok=True)
        given.markdown.write_text(markdown(where, given.pairs, lines), encoding="utf-8")


if __name__ == "__main__":
    main()
