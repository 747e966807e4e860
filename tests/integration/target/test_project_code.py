"""Exceptions of a project's own code: one line that names the file, and exit code 2."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, NoReturn

import pytest

from perfdata import (
    Dataset,
    MigrationFailedError,
    Project,
    ProjectCodeError,
    Settings,
    TableRows,
    Target,
    build_dataset,
)
from perfdata.migrations.history import read_history, tables_digest
from perfdata.migrations.job import ChildTraceback, Job, run_job
from perfdata.project import load_project
from tests.processes import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

PYPROJECT = '[tool.perfdata]\nproject = "shop_perf:project"\n'
MODULE = """
from datetime import date
from pathlib import Path
from perfdata import Dataset, Project, TableRows
import shop_rows

project = Project(
    name="shop", metadata="shop_tables:metadata", tables_from_metadata=True,
    datasets=(Dataset(name="some", generate=shop_rows.generate, as_of=date(2026, 1, 1)),),
)
"""
TABLES = """
from sqlalchemy import Boolean, Column, Integer, MetaData, Table

metadata = MetaData()
Table("customers", metadata, Column("id", Integer, primary_key=True),
      Column("is_test_data", Boolean, nullable=False))
"""
ROWS = """
import os
from perfdata import TableRows

def blocks():
    yield b"1\\tt\\n"
    os.environ["SHOP_ROWS"]

def generate(dataset):
    {first}
    yield TableRows("customers", ("id", "is_test_data"), blocks())
"""


def write_project(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    texts = {"shop_perf": MODULE, "shop_tables": TABLES, "shop_rows": ROWS.format(first="")}
    for name, text in {**texts, **files}.items():
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Path]:
    folder = write_project(tmp_path / "shop")
    yield folder
    run_script(folder, "perfdata", "db.stop")


def test_an_exception_in_a_dataset_is_one_line_wherever_it_is_raised(shop: Path) -> None:
    build = ("dataset.build", "--name", "some")
    done = run_script(shop, "perfdata", *build)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    assert line == (
        "error: dataset some failed: KeyError: 'SHOP_ROWS' (shop_rows.py, line 7). "
        "Set SHOP_ROWS in [tool.perfdata] of pyproject.toml: "
        'environment = {SHOP_ROWS = "a value"}. '
        "PERFDATA_TRACEBACK=1 shows the traceback"
    )
    told = run_script(shop, "perfdata", *build, PERFDATA_TRACEBACK="1")
    assert told.returncode == 2
    assert "Traceback (most recent call last)" in told.stderr
    assert 'os.environ["SHOP_ROWS"]' in told.stderr
    assert "warning" not in told.stderr
    assert told.stderr.splitlines()[-1] == line
    for first, reason in {
        "raise SystemExit(1)": "SystemExit: 1 (shop_rows.py, line 10)",
        "assert dataset is None": "AssertionError (shop_rows.py, line 10)",
        "return 5": "KeyError: 'SHOP_ROWS' (shop_rows.py, line 7)",
    }.items():
        (shop / "shop_rows.py").write_text(ROWS.format(first=first))
        done = run_script(shop, "perfdata", "dataset.build", "--name", "some")
        if "return" in first:
            assert done.returncode == 0, done.stderr
        else:
            assert (done.returncode, reason in done.stderr) == (2, True), done.stderr


def test_a_project_or_its_metadata_that_cannot_be_imported_is_one_line(shop: Path) -> None:
    restore = ("snapshot.restore", "--name", "some")
    (shop / "shop_tables.py").write_text('import os\nos.environ["SHOP_URL"]\n')
    done = run_script(shop, "perfdata", *restore)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "error: the metadata of project shop failed: KeyError: 'SHOP_URL' "
        "(shop_tables.py, line 2). Set SHOP_URL in [tool.perfdata] of pyproject.toml: "
        'environment = {SHOP_URL = "a value"}. PERFDATA_TRACEBACK=1 shows the traceback'
    )
    told = run_script(shop, "perfdata", *restore, PERFDATA_TRACEBACK="1")
    assert 'os.environ["SHOP_URL"]' in told.stderr
    for command, text, reason in (
        (restore, "import sys; sys.exit('no settings')", "SystemExit: no settings (shop_rows.py"),
        (
            ("dataset.list",),
            "def generate(a)\n",
            "SyntaxError: expected ':' (shop_rows.py, line 1)",
        ),
        (("db.migrate",), "import nothing", "No module named 'nothing' (shop_rows.py, line 1)"),
        (("snapshot.restore",), "x = 1", "has no attribute 'generate' (shop_perf.py, line 9)"),
    ):
        (shop / "shop_rows.py").write_text(text)
        done = run_script(shop, "perfdata", *command)
        assert done.returncode == 2, done
        assert done.stderr.startswith("error: project shop_perf:project failed: ")
        assert reason in done.stderr
        assert len(done.stderr.splitlines()) == 1


def explode(*_: object) -> NoReturn:
    raise ZeroDivisionError("in the application")


def test_the_library_raises_it_with_its_cause(
    target: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    some = Dataset(name="some", generate=explode, as_of=date(2026, 1, 1), pools=explode)
    with pytest.raises(ProjectCodeError, match="dataset some failed: ZeroDivisionError") as caught:
        some.fingerprint()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "in explode" in caught.value.traceback
    project = Project(name="shop", datasets=(some,))
    monkeypatch.setattr("perfdata.snapshot.build.load_project", lambda _: project)
    with pytest.raises(ProjectCodeError, match=r"\(tests/integration/target/test_project_code\.py"):
        build_dataset(target, "some", snapshot=False)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "raising.py").write_text("raise ValueError('postgresql://app:secret@db/x')\n")
    with pytest.raises(ProjectCodeError, match=r"app:\*\*\*@db") as imported:
        load_project(Settings(root=tmp_path, home=tmp_path, project="raising"))
    assert "secret" not in imported.value.traceback
    with pytest.raises(MigrationFailedError, match="metadata of project shop failed") as in_child:
        tables_digest(Project(name="shop", metadata="raising:metadata", tables_from_metadata=True))
    assert isinstance(in_child.value, ProjectCodeError)
    assert isinstance(in_child.value.__cause__, ChildTraceback)
    assert str(in_child.value.__cause__).strip() == in_child.value.traceback.strip()
    assert "raising.py" in in_child.value.traceback


def test_a_function_that_cannot_be_called_is_the_projects_error_too(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    def takes_nothing() -> Iterator[TableRows]:
        yield TableRows("offices", (), ())

    def yields_a_tuple(_dataset: Dataset) -> Iterator[object]:
        yield ("offices", [b""])

    def yields_text(_dataset: Dataset) -> Iterator[TableRows]:
        yield TableRows("offices", ("id",), ["1\n"])  # type: ignore[list-item]

    for generate, reason in (
        (takes_nothing, "dataset some failed: TypeError: .*takes 0 positional arguments"),
        (lambda _: None, "generate returned None, expected an iterator of TableRows"),
        (yields_text, "dataset some yields a str as a block of offices, not bytes"),
        (yields_a_tuple, "dataset some yields a tuple, not TableRows"),
    ):
        some = Dataset(name="some", generate=generate, as_of=date(2026, 1, 1))  # type: ignore[arg-type]
        project = Project(name="shop", datasets=(some,))
        monkeypatch.setattr("perfdata.snapshot.build.load_project", lambda _, made=project: made)
        with pytest.raises(ProjectCodeError, match=reason):
            build_dataset(target, "some", snapshot=False)


def test_a_bug_of_perfdata_ends_in_its_own_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    """Here: a job that the child does not know."""
    with pytest.raises(Exception, match="exited with code 1 before it was done") as caught:
        run_job(Job("no_such_job", "shop"))
    assert not isinstance(caught.value, ProjectCodeError)
    assert "KeyError: 'no_such_job'" in capfd.readouterr().err


def test_an_env_py_and_a_revision_name_their_line(tmp_path: Path) -> None:
    (tmp_path / "versions").mkdir()
    (tmp_path / "env.py").write_text("")
    (tmp_path / "versions" / "first.py").write_text("revision = 'first'\n\nno_such_name\n")
    with pytest.raises(MigrationFailedError) as caught:
        read_history(Project(name="shop", migrations=tmp_path))
    place = f"({tmp_path / 'versions' / 'first.py'}, line 3)"
    assert str(caught.value).startswith(
        f"the migrations of project shop failed: NameError: name 'no_such_name' is not defined "
        f"{place}. "
    )
