"""Print digests of datasets as JSON, of blocks that several processes generate in any order.

python -m tests.unit.generate.digests --workers 4 --backwards kinds 1000_customers
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, cast

from perfdata.faker_lists import faker_digest, named_lists
from perfdata.sources import source_files
from perfdata.welfare import project as welfare
from perfdata.welfare import rows
from tests.unit.generate.kinds import dataset_of, kinds

if TYPE_CHECKING:
    from perfdata import Project
    from perfdata.generate import GeneratedTable

ROOT = Path(__file__).resolve().parents[3]
SHOP = ROOT / "examples" / "shop"


@cache
def tables_of(name: str) -> list[GeneratedTable]:
    """Return the tables of the dataset with that name."""
    if name.endswith("customers"):
        return cast("list[GeneratedTable]", shop().dataset(name).generate(shop().dataset(name)))
    if "offices" in name:
        return rows.tables(welfare.dataset(name))
    return kinds(dataset_of())


def shop() -> Project:
    """Return the project of the shop."""
    sys.path.insert(0, str(SHOP))
    import perf_project  # type: ignore[import-not-found]

    return cast("Project", perf_project.project)


def block(name: str, table: int, number: int) -> bytes:
    """Return a block of a dataset's table."""
    return tables_of(name)[table].blocks.block(number)


def digest(name: str, workers: int, *, backwards: bool) -> str:
    """Return the SHA-256 of all blocks in their order, whoever generated them and when."""
    jobs = [
        (name, place, number)
        for place, table in enumerate(tables_of(name))
        for number in range(table.blocks.block_count)
    ]
    if backwards:
        jobs.reverse()
    if workers == 1:
        blocks = list(starmap(block, jobs))
    else:
        with ProcessPoolExecutor(workers) as pool:
            blocks = list(pool.map(block, *zip(*jobs, strict=True)))
    if backwards:
        blocks.reverse()
    return hashlib.sha256(b"".join(blocks)).hexdigest()


def main() -> None:
    """Print the digests, and the one of the lists of Faker that the datasets draw from."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--backwards", action="store_true")
    options = parser.parse_args()
    found = {
        name: digest(name, options.workers, backwards=options.backwards) for name in options.names
    }
    lists, _ = named_lists(
        [
            SHOP / "perf_project.py",
            *source_files(["perfdata.welfare.rows", "perfdata.welfare.staffs"]),
        ]
    )
    sys.stdout.write(json.dumps({"faker": faker_digest(lists), **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
