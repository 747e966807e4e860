"""What init writes, and what it leaves alone."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from perfdata import ConfigError
from perfdata.scaffold import texts
from perfdata.scaffold.plan import plan_init

if TYPE_CHECKING:
    from pathlib import Path

MODELS = """
from sqlalchemy import Column, Integer, MetaData, Table
metadata = MetaData()
Table("items", metadata, Column("id", Integer, primary_key=True))
"""


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        (root / f"{name}.py").write_text(text, encoding="utf-8")


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, shop=MODELS)
    plan_init(tmp_path).write()
    before = contents(tmp_path)
    assert set(before) == {
        "shop.py", "pyproject.toml", "perf_project.py", "tests/perf/test_first.py",
        ".github/workflows/perf.yml",
    }  # fmt: skip
    again = plan_init(tmp_path)
    assert not any(file.text for file in again.files)
    again.write()
    assert contents(tmp_path) == before


def test_what_was_removed_since_is_not_written_again(tmp_path: Path) -> None:
    """Another model would be the first one now, and a test of its dataset would find none."""
    write(tmp_path, shop=MODELS)
    plan_init(tmp_path).write()
    (tmp_path / "tests/perf/test_first.py").unlink()
    before = contents(tmp_path)
    again = plan_init(tmp_path)
    again.write()
    assert contents(tmp_path) == before
    assert again.commands == ("perfdata dataset.list",)


def test_a_plan_alone_writes_nothing_and_a_file_of_the_same_name_stays(tmp_path: Path) -> None:
    write(tmp_path, shop=MODELS, perf_project="mine = True\n")
    before = contents(tmp_path)
    plan = plan_init(tmp_path)
    assert contents(tmp_path) == before
    plan.write()
    assert contents(tmp_path)["perf_project.py"] == b"mine = True\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# ours\n[tool.x]\na = 1 # kept", "# ours\n[tool.x]\na = 1 # kept\n\n{table}"),
        ("[tool.perfdata] # ours\nhome = 'x'\n", "{table}home = 'x'\n"),
        (
            "[tool.perfdata]\nenvironment = { DB_URL = '{url}' }\n",
            "{table}environment = {{ DB_URL = '{{url}}' }}\n",
        ),
        (
            "[tool.perfdata.environment]\nDB_URL = '{url}'\n",
            "[tool.perfdata.environment]\nDB_URL = '{{url}}'\n\n{table}",
        ),
        ("[tool.x]\r\na = 1\r\n", "[tool.x]\r\na = 1\r\n\r\n{table}"),
    ],
)
def test_pyproject_keeps_its_text(tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "pyproject.toml").write_bytes(old.encode())
    if "environment" in old:
        write(tmp_path, app="import os\nurl = os.environ['DB_URL']\n")
    plan_init(tmp_path).write()
    text = (tmp_path / "pyproject.toml").read_bytes().decode()
    table = '[tool.perfdata]\nproject = "perf_project:project"\n'
    if "# ours\nhome" in old:
        table = table.replace("]\n", "] # ours\n", 1)
    if "\r\n" in old:
        table = table.replace("\n", "\r\n")
    assert text == new.format(table=table)
    assert tomllib.loads(text)["tool"]["perfdata"]["project"] == "perf_project:project"


def test_a_table_that_cannot_be_completed_is_an_error_with_the_lines(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool]\nperfdata = { home = 'x' }\n")
    with pytest.raises(ConfigError, match=r"can't be added .* Write it yourself: \[tool"):
        plan_init(tmp_path)


def test_another_project_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.perfdata]\nproject = "shop.perf"\n')
    plan = plan_init(tmp_path)
    assert [(file.path, file.text) for file in plan.files] == [("pyproject.toml", "")]


def test_the_folder_above_the_application_is_refused(tmp_path: Path) -> None:
    (tmp_path / "backend").mkdir()
    (tmp_path / "backend" / "pyproject.toml").write_text("[project]\nname = 'shop'\n")
    with pytest.raises(ConfigError, match=r"Run perfdata init there: cd backend"):
        plan_init(tmp_path)
    (tmp_path / "backend" / "app").mkdir()
    assert plan_init(tmp_path / "backend" / "app").root == tmp_path / "backend"


def test_the_nearest_alembic_ini_is_named_and_the_others_are_told(tmp_path: Path) -> None:
    for folder in ("", "other/"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "alembic.ini").write_text("[alembic]\n")
    plan = plan_init(tmp_path)
    (module,) = [file.text for file in plan.files if file.path == "perf_project.py"]
    assert 'migrations=Path("alembic.ini"),' in module
    assert plan.notes[0] == "perf_project.py names alembic.ini; there are also other/alembic.ini"


def test_installed_packages_tests_and_broken_files_are_not_read(tmp_path: Path) -> None:
    for folder in (".venv", "tests", "node_modules", "env"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, shop=MODELS)
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    write(tmp_path, broken="def (")
    assert plan_init(tmp_path).found == ()


def test_what_is_written_compiles_without_any_table(tmp_path: Path) -> None:
    for file in plan_init(tmp_path).files:
        if file.path.endswith(".py"):
            compile(file.text, file.path, "exec")


def test_the_migrations_of_django_apps_are_named(tmp_path: Path) -> None:
    for name in ("shop", "core/bills"):
        (tmp_path / name / "migrations").mkdir(parents=True)
        (tmp_path / name / "migrations" / "0001_initial.py").write_text("")
    (tmp_path / "manage.py").write_text("")
    assert plan_init(tmp_path).found == ("Django migrations of core/bills, shop",)
    (module,) = [file.text for file in plan_init(tmp_path).files if file.path == "perf_project.py"]
    assert 'files=("core/bills/migrations/*.py", "shop/migrations/*.py"),' in module
    assert "WHERE app IN ('bills', 'shop')" in module
    compile(module, "perf_project.py", "exec")


def test_the_nightly_run_fails_if_something_was_not_judged(tmp_path: Path) -> None:
    """A cron job's log is read only when it is red."""
    (text,) = [file.text for file in plan_init(tmp_path).files if file.path.endswith("perf.yml")]
    assert "run: pytest tests/perf --perf-strict\n" in text


def test_the_environment_is_a_line_of_toml() -> None:
    line = texts.environment_line({"DATABASE_URL": "{url}", "DB_HOST": "{host}"})
    assert tomllib.loads(line) == {"environment": {"DATABASE_URL": "{url}", "DB_HOST": "{host}"}}
    assert texts.environment_line({}) == ""
