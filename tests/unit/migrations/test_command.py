from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from perfdata import ConfigError, MigrationError, Migrations, Settings
from perfdata.libpq import program_environment
from perfdata.migrations.command import AppliedQuery, hash_files, names_of, run_command
from perfdata.server.environment import application_variables

if TYPE_CHECKING:
    from pathlib import Path

MIGRATIONS = Migrations(command=["migrate"], files="db/*.sql", applied="SELECT 1")


@pytest.mark.parametrize(
    ("file", "value"),
    [
        ("db/001_users.sql", "db/001_users.sql"),
        ("db/001_users.sql", "001_users.sql"),
        ("db/001_users.sql", "001_users"),
        ("db/001_users.sql", "001"),
        ("db/001_users.sql", 1),
        ("db/20260401120000_users.sql", 20260401120000),
        ("db/V1_2__users.sql", "1.2"),
        ("src/db/V7__users.sql", "7"),
        ("shop/migrations/0001_initial.py", "shop/migrations/0001_initial"),
    ],
)
def test_an_answer_of_the_query_stands_for_a_file(file: str, value: object) -> None:
    query = AppliedQuery("SELECT 1", (file, "db/999_other.sql"))
    assert query.revisions_of(iter([value])) == (file,)


@pytest.mark.parametrize("value", ["users", "00", "b/001_users.sql", "", None])
def test_an_answer_that_names_no_file_stays_as_it_is(value: object) -> None:
    query = AppliedQuery("SELECT 1", ("db/001_users.sql",))
    assert query.revisions_of(iter([value])) == (str(value),)


def test_an_answer_that_may_be_one_of_two_files_is_an_error() -> None:
    files = ("shop/migrations/0001_initial.py", "blog/migrations/0001_initial.py")
    query = AppliedQuery("SELECT 1", files)
    with pytest.raises(MigrationError, match=r"'0001_initial'.* can be blog.*, shop.*app \|\| "):
        query.revisions_of(iter(["0001_initial"]))
    assert query.revisions_of(iter([files[0]])) == (files[0],)


def test_a_version_is_what_a_name_begins_with() -> None:
    assert "12" not in set(names_of("db/users_12.sql"))
    assert set(names_of("a/b2.py")) == {"a/b2.py", "a/b2", "b2.py", "b2"}


def test_files_are_hashed_in_natural_order(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    for name in ("V10__c.sql", "V2__b.sql", "V1__a.sql", "V1__a.txt", "__init__.py"):
        (tmp_path / "db" / name).write_text(name)
    found = hash_files(MIGRATIONS, tmp_path)
    assert list(found) == ["db/V1__a.sql", "db/V2__b.sql", "db/V10__c.sql"]
    assert len(set(found.values())) == 3
    several = Migrations(command=["m"], files=["db/*.txt", "db/*.py", "db/*.txt"], applied="x")
    assert list(hash_files(several, tmp_path)) == ["db/V1__a.txt"]


def test_a_pattern_that_matches_nothing_or_lies_outside_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match=r"no file in .* matches Migrations\(files='db/"):
        hash_files(MIGRATIONS, tmp_path)
    outside = Migrations(command=["m"], files="/db/*.sql", applied="x")
    with pytest.raises(ConfigError, match=r"files='/db/\*\.sql'"):
        hash_files(outside, tmp_path)


@pytest.mark.parametrize(
    "changed", [{"command": "manage.py migrate"}, {"command": []}, {"files": ""}, {"applied": " "}]
)
def test_migrations_need_a_command_files_and_a_query(changed: dict[str, Any]) -> None:
    given = {"command": ["migrate"], "files": "db/*.sql", "applied": "SELECT 1", **changed}
    with pytest.raises(ConfigError, match="Migrations"):
        Migrations(**given)


def test_a_program_gets_no_other_variables_of_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSERVICE", "other")
    monkeypatch.setenv("PGTZ", "UTC")
    monkeypatch.setenv("PGPASSWORD", "other")
    monkeypatch.setenv("PGADMIN", "kept")
    found = program_environment("host=db port=5433 user=app dbname=shop")
    libpq = {name: value for name, value in found.items() if name.startswith("PG")}
    assert libpq == {
        "PGADMIN": "kept", "PGHOST": "db", "PGPORT": "5433", "PGUSER": "app",
        "PGDATABASE": "shop",
    }  # fmt: skip


def test_the_output_of_a_command_that_fails_has_no_password(tmp_path: Path) -> None:
    """Neither the target's nor that of the embedded server's port, however they are written."""
    settings = Settings(
        root=tmp_path, home=tmp_path / "home",
        environment={"DATABASE_URL": "{url}", "DB_PASSWORD": "{password}"},
    )  # fmt: skip
    variables = application_variables(settings)
    names = ("DATABASE_URL", "DB_PASSWORD", "PERFDATA_TARGET_URL", "PGPASSWORD")
    text = f"import os, sys; print(*(os.environ[name] for name in {names})); sys.exit(1)"
    failing = Migrations(command=["python", "-c", text], files="*", applied="SELECT 1")
    with pytest.raises(MigrationError, match="exited with code 1") as caught:
        run_command(failing, tmp_path, "host=db user=app password='s3cret/target'", variables)
    assert variables.password
    for password in (variables.password, "s3cret/target", "s3cret%2Ftarget"):
        assert password not in caught.value.reason
    assert "postgresql://perfdata:***@127.0.0.1" in caught.value.reason
