"""A team's own repository, with the workflow of docs/ci.md and the action of this repository."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.rehearsal.conftest import ROOT
from tests.rehearsal.runner import GitHub

if TYPE_CHECKING:
    from pathlib import Path

    from tests.rehearsal.conftest import Origin

FILES = {
    "pyproject.toml": '[tool.perfdata]\nproject = "shop_perf:project"\n',
    ".gitignore": ".perfdata/\n__pycache__/\n",
    "shop_perf.py": """
from datetime import date

from perfdata import Dataset, Project, TableRows


def generate(dataset):
    lines = (f"{n}\\tt\\n".encode() for n in range(1, 1001))
    yield TableRows("customers", ("id", "is_test_data"), lines)


project = Project(
    name="shop",
    metadata="shop_tables:metadata",
    tables_from_metadata=True,
    datasets=(Dataset(name="1000_customers", generate=generate, as_of=date(2026, 1, 1)),),
)
""",
    "shop_tables.py": """
from sqlalchemy import Boolean, Column, Integer, MetaData, Table

metadata = MetaData()
Table("customers", metadata, Column("id", Integer, primary_key=True),
      Column("is_test_data", Boolean, nullable=False))
""",
    "tests/perf/test_shop.py": """
import pytest
from sqlalchemy import text


@pytest.mark.perf(dataset="1000_customers", max_queries=1)
def test_count(perf):
    assert perf(lambda session: session.scalar(text("SELECT count(*) FROM customers"))) == 1000
""",
}
PROVIDE = "Provide the snapshot"
PATH = ".perfdata/snapshots/1000_customers.json.zst"


def documented() -> str:
    """Return the workflow of docs/ci.md, with the placeholders filled in."""
    page = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return str(text).replace("OWNER/", "example/").replace("COMMIT", "0" * 40)


def git(folder: Path, *command: str) -> None:
    who = ("-c", "user.name=Shop", "-c", "user.email=shop@example.com")
    subprocess.run(["git", *who, *command], cwd=folder, check=True)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> GitHub:
    folder = tmp_path_factory.mktemp("shop")
    requirements = f"perfdata @ {origin.folder.as_uri()}\n"
    workflow = {".github/workflows/nightly.yml": documented(), "requirements.txt": requirements}
    for name, text in (FILES | workflow).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Begin")
    github = GitHub(tmp_path_factory.mktemp("shop-github"), folder)
    github.others["example/perfdata"] = origin.folder
    return github


def test_the_documented_workflow_builds_and_then_hits(shop: GitHub) -> None:
    first = shop.run("nightly.yml", "schedule").job("perf")
    assert first.result == "success", first.output
    assert first.steps[PROVIDE].outputs["cache-hit"] == "false"
    assert first.steps[PROVIDE].outputs["path"] == PATH
    assert "built 1,000 rows" in first.output
    assert "1 passed" in first.steps["Run the perf tests"].output
    second = shop.run("nightly.yml", "schedule").job("perf")
    assert second.result == "success", second.output
    assert second.steps[PROVIDE].outputs["cache-hit"] == "true"
    assert "perfdata: restored 1000_customers" in second.steps["Run the perf tests"].output
    assert second.summary.startswith("## ✅ 1 scenario, none regressed")


def entry(shop: GitHub) -> tuple[str, Path]:
    """Return the key of what is cached, and the cached file."""
    (key,) = (key for key, path in shop.cache.entries if path == PATH)
    return key, shop.cache.place(key, PATH) / PATH


def every_row(shop: GitHub) -> bytes:
    """Create a snapshot of every row under the dataset's name, where the last job ran."""
    machine = shop.folder / "machines" / "perf"
    program = machine / "python" / "bin" / "perfdata"
    for command in (
        ("snapshot.restore", "--name", "1000_customers"),
        ("snapshot.create", "--name", "1000_customers", "--all-rows", "--replace"),
        ("db.stop",),
    ):
        subprocess.run([str(program), *command], cwd=machine / "work", check=True)
    return (machine / "work" / PATH).read_bytes()


@pytest.mark.parametrize(
    ("poison", "found_out"),
    [
        ("by hand", "snapshot 1000_customers was created by hand, not built from the dataset"),
        ("damaged", "1000_customers.json.zst is damaged"),
    ],
)
def test_what_is_not_the_datasets_own_snapshot_is_found_out_and_built(
    shop: GitHub, poison: str, found_out: str
) -> None:
    """One of every row that somebody put under the right key, and one of which a byte is lost."""
    key, cached = entry(shop)
    if poison == "damaged":
        cached.write_bytes(cached.read_bytes()[:-1])
    else:
        cached.write_bytes(every_row(shop))
    job = shop.run("nightly.yml", "schedule").job("perf")
    assert job.result == "success", job.output
    check = job.steps[f"{PROVIDE} / Check what the cache handed over"].output
    assert found_out in check
    assert f"gh cache delete {key}" in check
    assert job.steps[f"{PROVIDE} / Build it"].outcome == "success"
    assert "perfdata: restored 1000_customers" in job.steps["Run the perf tests"].output


def test_a_snapshot_of_every_row_passes_where_that_is_said(shop: GitHub) -> None:
    _, cached = entry(shop)
    cached.write_bytes(every_row(shop))
    workflow = shop.origin / ".github" / "workflows" / "nightly.yml"
    text = workflow.read_text(encoding="utf-8")
    said = '          name: 1000_customers\n          all-rows: "true"\n'
    workflow.write_text(text.replace("          name: 1000_customers\n", said), encoding="utf-8")
    git(shop.origin, "commit", "--all", "--quiet", "--message", "Take every row")
    job = shop.run("nightly.yml", "schedule").job("perf")
    assert job.result == "success", job.output
    assert job.steps[PROVIDE].outputs["cache-hit"] == "true"
