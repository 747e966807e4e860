"""Whole processes on a running server: seconds and peak memory, beside the ORM way.

    python benchmarks/commands.py [--rounds 5] [--histories]

Prints a table: the median over the rounds, interpreter start and imports counted. With
``--histories`` only a restore is measured, in projects with 3 and with 150 revisions.
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
PERFDATA = [sys.executable, "-c", "from perfdata.tasks import main; main()"]
PROJECT = """
from dataclasses import replace
from pathlib import Path
from perfdata.welfare import project as welfare
project = replace(welfare, migrations=Path("migrations"))
"""
REVISION = 'revision = "{revision}"\ndown_revision = "{parent}"\ndef upgrade(): pass\n'
HISTORIES = (3, 150)
ORM = [sys.executable, str(ROOT / "benchmarks" / "orm_way.py")]


def measured(
    command: list[str], environ: dict[str, str], folder: Path = ROOT
) -> tuple[float, float]:
    """Run a command; return its seconds and its peak memory in MB (its children's not)."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=output, stderr=output)
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
    parser.add_argument("--histories", action="store_true")
    options = parser.parse_args()
    rounds = options.rounds
    if options.histories:
        show(measure_histories(rounds))
        return
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


def measure_histories(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return seconds and MB of each round of a restore, by the number of revisions."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    for name in ("PERFDATA_DATABASE_URL", "PERFDATA_HOME"):
        environ.pop(name, None)
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="perfdata-bench-") as temporary:
        folders = {count: Path(temporary, str(count)) for count in HISTORIES}
        try:
            for count, folder in folders.items():
                write_project(folder, count)
                measured([*PERFDATA, "dataset.build", "--name", "100_offices"], environ, folder)
            restore = [*PERFDATA, "snapshot.restore", "--name", "100_offices"]
            for _ in range(rounds):
                for count, folder in folders.items():
                    label = f"restore, {count} revisions"
                    found.setdefault(label, []).append(measured(restore, environ, folder))
        finally:
            for folder in folders.values():
                subprocess.run([*PERFDATA, "db.stop"], cwd=folder, env=environ, check=False)
    return found


def write_project(folder: Path, revisions: int) -> None:
    """Write a project with the bundled one's datasets, revisions and so many more."""
    shutil.copytree(ROOT / "perfdata" / "welfare" / "migrations", folder / "migrations")
    (folder / "pyproject.toml").write_text('[tool.perfdata]\nproject = "bench_perf:project"\n')
    (folder / "bench_perf.py").write_text(PROJECT)
    versions = folder / "migrations" / "versions"
    parent = max(path.stem for path in versions.glob("0*.py"))
    for number in range(len(list(versions.glob("0*.py"))) + 1, revisions + 1):
        revision = f"{number:04}_more"
        (versions / f"{revision}.py").write_text(REVISION.format(revision=revision, parent=parent))
        parent = revision


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
