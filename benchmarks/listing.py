"""List many snapshots: only manifests are read, however large the files are.

    python benchmarks/listing.py [--count 1000] [--megabytes 50] [--tables 20]

Makes sparse files, each with a manifest of its own, in a temporary home, and prints how long
``list_snapshots`` and the whole of ``invoke snapshot.list`` take: least and median of five.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata import Manifest, Settings, list_snapshots
from perfdata.snapshot.format.manifest import Body, fingerprint_schema
from perfdata.snapshot.format.writer import manifest_frame
from perfdata.snapshot.store import snapshot_path

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 5


def manifest(name: str, tables: int, size_bytes: int) -> Manifest:
    """Describe a snapshot of some tables with twenty columns each."""
    columns = {f"column_{number}": "character varying(255) not null" for number in range(20)}
    schema = {f"table_{number}": columns for number in range(tables)}
    return Manifest(
        name=name,
        description="one of many",
        created_at="2026-01-01T00:00:00+00:00",
        stats=dict.fromkeys(schema, 50_000),
        as_of=None,
        all_rows=False,
        flag_column="is_test_data",
        server_version="18.6",
        server_encoding="UTF8",
        schema_fingerprint=fingerprint_schema(schema),
        migrations=(),
        dataset_fingerprint=None,
        requires=(),
        left_out=[],
        schema=schema,
        primary_keys={key: ["column_0"] for key in schema},
        body=Body(size_bytes * 5, size_bytes, "0" * 64),
    )


def fill(settings: Settings, count: int, tables: int, size_bytes: int) -> None:
    """Write the files: a manifest, and a hole where the rows would be."""
    settings.make_home()
    for number in range(count):
        name = f"snapshot_{number:04}"
        path = snapshot_path(name, settings)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(manifest_frame(manifest(name, tables, size_bytes)))
        os.truncate(path, path.stat().st_size + size_bytes)


def seconds(work: Callable[[], object]) -> str:
    """Do something five times; write the least and the median."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return f"{min(found):.2f} s, median {statistics.median(found):.2f} s"


def main() -> None:
    """Make the files and list them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--tables", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="perfdata-listing-") as home:
        settings = Settings.load(ROOT, {"PERFDATA_HOME": home})
        fill(settings, given.count, given.tables, given.megabytes * 1_000_000)
        command = [sys.executable, "-m", "invoke", "snapshot.list"]
        environ = {**os.environ, "PERFDATA_HOME": home}

        def whole() -> None:
            subprocess.run(command, cwd=ROOT, env=environ, check=True, stdout=subprocess.DEVNULL)

        print(f"{given.count:,} snapshots of {given.megabytes} MB and {given.tables} tables")
        print(f"list_snapshots: {seconds(lambda: list_snapshots(settings))}")
        print(f"invoke snapshot.list: {seconds(whole)}")


if __name__ == "__main__":
    main()
