"""Datasets are the same bytes on every Python, in any number of processes, in any order.

Where the committed digests change, rows change in every project: raise ``_VALUES`` in
perfdata/dataset.py. Then, and after a change of a dataset, write what ``python -m
tests.unit.generate.digests`` prints for these datasets to digests.json.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.unit.generate.digests import ROOT

COMMITTED = json.loads(Path(__file__).with_name("digests.json").read_text("utf-8"))
DATASETS = [name for name in COMMITTED if name != "faker"]


def pythons() -> list[str]:
    """Return the Pythons from 3.11 on that are there: on the path, or next to this one."""
    found = {}
    for minor in range(11, 20):
        name = f"python3.{minor}"
        beside = sorted(Path(sys.base_prefix).parent.glob(f"*/bin/{name}"))
        for path in (shutil.which(name), *map(str, beside)):
            if (
                path
                and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode
                == 0
            ):
                found[name] = path
    return list(found.values()) or [sys.executable]


def digests(python: str, *options: str) -> dict[str, str]:
    paths = os.pathsep.join((str(ROOT), sysconfig.get_path("purelib")))
    done = subprocess.run(
        [python, "-m", "tests.unit.generate.digests", *DATASETS, *options],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "random"},
    )
    found: dict[str, str] = json.loads(done.stdout)
    if found["faker"] != COMMITTED["faker"]:  # another Faker: its lists are other values
        found = {"kinds": found["kinds"]}
    return found


def expected(found: dict[str, str]) -> dict[str, str]:
    return {name: COMMITTED[name] for name in found}


@pytest.mark.parametrize("python", pythons())
def test_every_python_gives_the_committed_bytes(python: str) -> None:
    found = digests(python)
    assert found == expected(found)


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("order", [(), ("--backwards",)], ids=["forwards", "backwards"])
def test_blocks_are_the_same_in_any_process_and_order(workers: int, order: tuple[str, ...]) -> None:
    found = digests(sys.executable, "--workers", str(workers), *order)
    assert found == expected(found)
