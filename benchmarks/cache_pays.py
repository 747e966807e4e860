"""From which dataset on a cached snapshot pays: what a nightly job does on a hit and on a miss.

    python benchmarks/cache_pays.py [DATASET …] [--rounds N]

Whole processes in turn, in a home that has no server yet, as on a CI machine. A miss is
``dataset.build`` (server made, migrated, rows generated and loaded, snapshot written) and
``snapshot.verify --current``; a hit is the verification alone. The file has to be fetched: the
cache pays where that is quicker than the difference, at the rate in the last column or above.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PERFDATA = Path(sys.executable).with_name("perfdata")
DATASETS = ["10_offices", "100_offices", "1000_offices", "5000_offices"]


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("datasets", nargs="*", default=DATASETS)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    print("| dataset | file, MB | miss: build, s | hit: verify, s | the cache pays from, MB/s |")
    print("| :-- | --: | --: | --: | --: |")
    for dataset in asked.datasets:
        rounds = [measure(dataset) for _ in range(asked.rounds)]
        miss_s, hit_s = (statistics.median(one[n] for one in rounds) for n in (0, 1))
        size = rounds[0][2] / 1e6
        rate = size / (miss_s - hit_s)
        print(f"| {dataset} | {size:.1f} | {miss_s:.2f} | {hit_s:.2f} | {rate:.1f} |", flush=True)


def measure(dataset: str) -> tuple[float, float, int]:
    """Return the seconds of a miss and of a hit, and the size of the file in bytes."""
    home = Path(tempfile.mkdtemp(prefix="perfdata-cache-"))
    try:
        built_s = run(home, "dataset.build", "--name", dataset)
        hit_s = run(home, "snapshot.verify", "--name", dataset, "--current")
        run(home, "db.stop")
        return built_s + hit_s, hit_s, (home / "snapshots" / f"{dataset}.json.zst").stat().st_size
    finally:
        shutil.rmtree(home, ignore_errors=True)


def run(home: Path, *command: str) -> float:
    """Run a task, and return its seconds."""
    began = time.perf_counter()
    environ = {**os.environ, "PERFDATA_HOME": str(home)}
    subprocess.run([PERFDATA, *command], check=True, env=environ, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
