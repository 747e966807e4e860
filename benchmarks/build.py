r"""Building a dataset beside psql's ``\copy`` of the same rows, in turn on the same server.

    python -m benchmarks.build [--datasets 1000_offices] [--pairs 5] [--home FOLDER]

perfdata's side is a whole process of ``dataset.build --no-snapshot`` into migrated, empty tables:
rows are generated, checked, loaded and analysed. psql's side is one of psql, which copies files
that hold the same rows into tables without constraints or indexes, and then makes these. Prints the
median ratio of seconds, both sides' medians, rows a second, and the build's peak memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commands import measured
from benchmarks.peers import ROOT, TABLES, Bench, machine
from perfdata import Settings, Target, build_dataset, open_target
from perfdata.server.binaries import find_binaries
from perfdata.server.cluster import DATABASE
from perfdata.server.embedded import EmbeddedServer

BUILT, COPIED = "bench_built", "bench_copied"
BUILD = [sys.executable, "-m", "invoke", "dataset.build", "--no-snapshot", "--name"]


@dataclass(frozen=True)
class Pair:
    """Both sides' seconds, and the peak memory of perfdata's process in MB."""

    ours: float
    theirs: float
    peak_mb: float


class Files:
    """A dataset's rows in files, one a table, and the statements around their COPY."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        bench.make(bench.source, DATABASE)
        source = bench.conninfo(bench.source)
        made = build_dataset(
            Target(bench.settings, source, embedded=True), bench.dataset, snapshot=False
        )
        self.rows = sum(made.rows.values())
        for table in TABLES:
            self._psql(source, "-c", f"\\copy {table} TO '{self._file(table)}'")
        for section in ("pre-data", "post-data"):
            bench.run("pg_dump", "--section", section, "-f", str(self._file(section)), source)
        bench.drop(bench.source)
        copies = [f"\\copy {table} FROM '{self._file(table)}'" for table in TABLES]
        script = "\n".join([*copies, f"\\i {self._file('post-data')}", ""])
        self._file("load").write_text(script, encoding="utf-8")

    def _file(self, name: str) -> Path:
        return self.bench.folder / f"{self.bench.dataset}.{name}"

    def _psql(self, database: str, *arguments: str) -> None:
        self.bench.run("psql", "-qX", "-v", "ON_ERROR_STOP=1", "-d", database, *arguments)

    def prepare_copy(self) -> None:
        """Make the tables that psql copies into, without constraints."""
        self.bench.make(COPIED, "template0")
        self._psql(self.bench.conninfo(COPIED), "-o", os.devnull, "-f", str(self._file("pre-data")))

    def copy(self) -> list[str]:
        """Return psql's command."""
        program = str(find_binaries(self.bench.settings).bin / "psql")
        options = ["-qX", "-v", "ON_ERROR_STOP=1", "-o", os.devnull]
        load = str(self._file("load"))
        return [program, *options, "-d", self.bench.conninfo(COPIED), "-f", load]


def measure(files: Files) -> Pair:
    """Build the dataset, and copy its rows."""
    bench = files.bench
    bench.make(BUILT, DATABASE)
    bench.own(BUILT)
    url = bench.conninfo(BUILT)
    environ = {**os.environ, "PERFDATA_HOME": str(bench.settings.home)}
    environ |= {"PERFDATA_DATABASE_URL": url, "PERFDATA_ALLOW": f"local/{BUILT}"}
    ours, peak_mb = measured([*BUILD, bench.dataset], environ, ROOT)
    files.prepare_copy()
    theirs, _ = measured(files.copy(), dict(os.environ), ROOT)
    for name in (BUILT, COPIED):
        bench.drop(name)
    return Pair(ours, theirs, peak_mb)


def show(files: Files, pairs: list[Pair]) -> None:
    """Print a dataset's line."""
    ratios = [pair.ours / pair.theirs for pair in pairs]
    ours = statistics.median(pair.ours for pair in pairs)
    theirs = statistics.median(pair.theirs for pair in pairs)
    print(
        f"{files.bench.dataset}: {files.rows:,} rows, perfdata {ours:.2f} s "
        f"({files.rows / ours:,.0f} rows/s, {max(pair.peak_mb for pair in pairs):.0f} MB), psql "
        f"{theirs:.2f} s, ratio {statistics.median(ratios):.2f} "
        f"({' '.join(f'{ratio:.2f}' for ratio in ratios)})",
        flush=True,
    )


def main() -> None:
    """Measure each dataset in pairs, after one pair that is not counted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", nargs="+", default=["1000_offices", "10000_offices"])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--home", type=Path, help="keep the server and its datasets here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="perfdata-build-") as folder:
        home = str((given.home or Path(folder) / "home").resolve())
        settings = Settings.load(ROOT, {"PERFDATA_HOME": home})
        try:
            open_target(settings)
            for dataset in given.datasets:
                bench = Bench(settings, EmbeddedServer(settings), dataset, Path(folder))
                files = Files(bench)
                measure(files)
                show(files, [measure(files) for _ in range(given.pairs)])
            print(machine(settings))
        finally:
            EmbeddedServer(settings).stop()


if __name__ == "__main__":
    main()
