"""Comparisons of an application whose tables come from metadata, and whose build git ignores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.acceptance.repository import Repository
from tests.homes import project_home
from tests.integration.inner import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TABLES = """
from sqlalchemy import Boolean, Column, Integer, MetaData, Table, Text

metadata = MetaData()
notes = Table(
    "notes", metadata,
    Column("id", Integer, primary_key=True),
    Column("text", Text, nullable=False),
    Column("is_test_data", Boolean, nullable=False),
)
"""
DATASETS = """
from datetime import date

from perfdata import Dataset, Project, TableRows

def generate(dataset):
    lines = (f"{n}\\tnote {n}\\tt\\n".encode() for n in range(1, 101))
    yield TableRows("notes", ("id", "text", "is_test_data"), lines)

project = Project(
    name="notes",
    metadata="note_tables:metadata",
    tables_from_metadata=True,
    datasets=(Dataset(name="100_notes", generate=generate, as_of=date(2026, 1, 1)),),
)
"""
TESTS = """
import pytest
from note_tables import notes
from sqlalchemy import select

@pytest.mark.perf(dataset="100_notes")
def test_notes(perf):
    assert len(perf(lambda session: session.execute(select(notes)).all())) == 100
"""
SETTINGS = PROJECT.replace("perfdata.welfare:project", "note_project:project")


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Repository]:
    """A repository of its own home, whose tables are made from metadata."""
    with project_home(tmp_path) as settings:
        repository = Repository(tmp_path, settings)
        repository.write("pyproject.toml", SETTINGS)
        repository.write(".gitignore", "home/\n_build.py\n")
        repository.write("note_tables.py", TABLES)
        repository.write("note_project.py", DATASETS)
        repository.write("tests/perf/test_shop.py", TESTS)
        repository.commit()
        yield repository


def test_tables_from_metadata_are_compared(notes: Repository) -> None:
    code, out, said = notes.compare("--rev", "HEAD")
    assert code in {0, 1}, said
    assert "100_notes" in out
    assert "error" not in said
    assert notes.left() == []


@pytest.mark.parametrize("imported_by", ["note_tables.py", "tests/perf/test_shop.py"])
def test_a_module_that_git_ignores_is_named_and_the_way_out_leads_out(
    notes: Repository, imported_by: str
) -> None:
    """It is missing where tables are made, or where tests are collected."""
    text = (notes.folder / imported_by).read_text(encoding="utf-8")
    notes.write(imported_by, f"import _build\n{text}")
    notes.write("_build.py", "")
    notes.commit()
    code, out, said = notes.compare("--rev", "HEAD")
    assert (code, out) == (2, ""), said
    assert "can't import _build: git ignores _build.py, which was built in this tree" in said
    assert "git add --force _build.py" in said
    assert "Traceback" not in said
    assert notes.left() == []
    notes.git("add", "--force", "_build.py")
    commit = notes.commit()
    assert notes.compare("--rev", commit)[0] in {0, 1}
