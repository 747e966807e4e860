"""What large datasets take: rates of distributed builds, and what follows for larger ones.

    python -m benchmarks.scale [--datasets 1000_offices,10000_offices] [--workers 0,1,2]

Builds each dataset once by each number of Dask workers of this machine (0: by one process), on an
embedded server.
Prints rows a second of each phase: workers generate and load, while indexes of the tables before
are built; the rest is checked; the snapshot is saved. What comes before, connecting, cloning the
database and importing the project, is left out. From the last build it prints what 100,000
and 10 million offices take if every rate stays the same.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from benchmarks.peers import ROOT, machine
from perfdata import Settings, build_dataset, open_target
from perfdata.generate.tables import GeneratedTable
from perfdata.project import load_project
from perfdata.server.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata import Event, Target

OFFICES = (100_000, 10_000_000)


@dataclass
class Phases:
    """When a build's phases begin or end, in seconds; a callback for its progress."""

    began: float = 0.0
    loaded: float = 0.0
    saving: float = 0.0

    def __call__(self, event: Event) -> None:
        """Note when loading began and ended, and when saving began."""
        now = time.perf_counter()
        self.began = self.began or now
        if event.text.startswith("saving "):
            self.saving = self.saving or now
        elif event.finished and not self.saving:
            self.loaded = now


@dataclass(frozen=True)
class Rates:
    """A build: its rows, the seconds of each phase, and its bytes."""

    rows: int
    load_s: float
    check_s: float
    save_s: float
    snapshot_bytes: int

    def row(self, label: str) -> str:
        """Return a line of the table."""
        phases = (self.load_s, self.check_s, self.save_s)
        rates = " | ".join(f"{self.rows / seconds:,.0f}" for seconds in (*phases, sum(phases)))
        return f"| {label} | {self.rows:,} | {rates} |"


def generated_rate(settings: Settings, name: str) -> float:
    """Return the rows a second that one core generates, without a database."""
    dataset = load_project(settings).dataset(name)
    began, rows = time.process_time(), 0
    for table in dataset.generate(dataset):
        if not isinstance(table, GeneratedTable):
            continue
        for number in range(min(table.blocks.block_count, 24)):
            rows += table.blocks.block(number).count(b"\n")
    return rows / (time.process_time() - began)


@contextmanager
def scheduler(workers: int) -> Iterator[str | None]:
    """Run a cluster of so many workers, and yield its address; None without any."""
    from distributed import LocalCluster

    if not workers:
        yield None
        return
    with LocalCluster(
        n_workers=workers, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1"
    ) as cluster:
        yield cluster.scheduler_address


def measure(target: Target, name: str, workers: int) -> Rates:
    """Build a dataset by so many workers, or by this process alone."""
    with scheduler(workers) as address:
        phases = Phases()
        built = build_dataset(target, name, dask=address, report=phases)
        ended = time.perf_counter()
    return Rates(
        sum(built.rows.values()),
        phases.loaded - phases.began,
        phases.saving - phases.loaded,
        ended - phases.saving,
        built.snapshot.size_bytes if built.snapshot else 0,
    )


def database_bytes(target: Target) -> int:
    """Return the size of the target's database."""
    with psycopg.connect(target.conninfo) as connection:
        rows = connection.execute("SELECT pg_database_size(current_database())").fetchall()
    return int(rows[0][0])


def moved_rate(target: Target) -> float:
    """Return the rows a second that one connection moves from a table into another."""
    with psycopg.connect(target.conninfo) as connection:
        connection.execute("CREATE TABLE moved (LIKE welfare_recipients)")
        began = time.perf_counter()
        moved = connection.execute("INSERT INTO moved SELECT * FROM welfare_recipients")
        seconds = time.perf_counter() - began
        connection.rollback()
    return moved.rowcount / seconds


def main() -> None:
    """Measure, and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", default="1000_offices,10000_offices")
    parser.add_argument("--workers", default="0,1,2")
    parser.add_argument("--home", help="a folder for the server's data")
    arguments = parser.parse_args()
    names = arguments.datasets.split(",")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(arguments.home or folder)
        settings = Settings.load(ROOT, {"PERFDATA_HOME": str(home)})
        target = open_target(settings)
        empty = database_bytes(target)
        try:
            print(f"{machine(settings)}\n")
            rate = generated_rate(settings, names[-1])
            print(f"One core generates {rate:,.0f} rows a second.\n")
            print("| build | rows | loaded a second | checked | saved | all |")
            print("|---|---|---|---|---|---|")
            for name in names:
                for workers in map(int, arguments.workers.split(",")):
                    rates = measure(target, name, workers)
                    by = f"by {workers} workers" if workers else "by one process"
                    print(rates.row(f"{name} {by}"), flush=True)
            print(f"\nOne connection moves {moved_rate(target):,.0f} rows a second.")
            print_larger(names[-1], rates, database_bytes(target) - empty)
        finally:
            EmbeddedServer(settings).stop()


def print_larger(name: str, rates: Rates, disk_bytes: int) -> None:
    """Print what follows from a build for larger datasets, at the same rates."""
    offices = int(name.partition("_")[0])
    print("\n| offices | rows | on disk | snapshot | load | check | save |")
    print("|---|---|---|---|---|---|---|")
    for wanted in OFFICES:
        times = wanted / offices
        gigabytes = [size * times / 1e9 for size in (disk_bytes, rates.snapshot_bytes)]
        phases = (rates.load_s, rates.check_s, rates.save_s)
        hours = " | ".join(f"{seconds * times / 3600:,.2f} h" for seconds in phases)
        sizes = " | ".join(f"{size:,.1f} GB" for size in gigabytes)
        print(f"| {wanted:,} | {rates.rows * times:,.0f} | {sizes} | {hours} |")


if __name__ == "__main__":
    main()
