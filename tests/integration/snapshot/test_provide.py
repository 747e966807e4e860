from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from perfdata import (
    ConfigError,
    MigrationError,
    PrivilegesError,
    Project,
    SchemaError,
    Settings,
    SnapshotDamagedError,
    SnapshotError,
    SnapshotExistsError,
    SnapshotNotFoundError,
    SnapshotStaleError,
    TableRows,
    Target,
    build_dataset,
    cache_key,
    create_snapshot,
    find_snapshot,
    provide_dataset,
)
from perfdata.migrations.history import migrate, read_history
from perfdata.postgres.url import normalise_url
from perfdata.snapshot.checks.staleness import check_current
from perfdata.tasks.task import configured_project, untouched_target
from perfdata.welfare import project
from tests.integration.inner import entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata import Dataset

NAME = "10_offices"


@pytest.fixture
def own(settings: Settings, target: Target, tmp_path: Path) -> Settings:
    """Snapshots of the test's own; its databases are allowed by name."""
    return replace(settings, home=tmp_path / "home", allow=(entry(target.conninfo, "test_*"),))


@pytest.fixture
def here(own: Settings, database_url: str) -> Target:
    return Target(own, normalise_url(database_url), embedded=True)


def count(target: Target, table: str = "staffs") -> int:
    with psycopg.connect(target.conninfo) as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row
    return int(row[0])


def test_a_missing_snapshot_is_built_then_restored(here: Target) -> None:
    first = provide_dataset(here, NAME)
    assert (first.reason, first.restored) == ("no snapshot yet", None)
    assert first.built
    assert first.built.snapshot
    assert first.built.rows == dict(first.built.snapshot.manifest.stats)
    second = provide_dataset(here, NAME)
    assert (second.reason, second.built) == ("current", None)
    assert second.restored
    assert second.restored.rows == first.built.rows
    assert count(here) == 51


def test_no_build_refuses(here: Target) -> None:
    with pytest.raises(SnapshotNotFoundError):
        provide_dataset(here, NAME, build=False)
    assert count(here) == 0


def test_a_stale_snapshot_is_built_again(here: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    build_dataset(here, NAME)
    dataset = project.dataset(NAME)
    changed = replace(dataset, version=dataset.version + 1)
    others = tuple(one for one in project.datasets if one.name != NAME)
    monkeypatch.setattr("perfdata.welfare.project", replace(project, datasets=(*others, changed)))
    with pytest.raises(SnapshotStaleError, match="another definition of its dataset"):
        provide_dataset(here, NAME, build=False)
    provided = provide_dataset(here, NAME)
    assert "another definition" in provided.reason
    assert provide_dataset(here, NAME).reason == "current"


def test_a_folder_that_can_not_be_written_is_found_before_rows_are_replaced(here: Target) -> None:
    here.settings.home.mkdir()
    (here.settings.home / "snapshots").write_text("")
    with pytest.raises(SnapshotError, match="can't be written: File exists; no snapshot was chan"):
        build_dataset(here, NAME)
    assert count(here) == 0


def test_a_role_that_may_not_read_where_the_migrations_stand_is_told_what_gives_it(
    here: Target,
) -> None:
    restore = provide_dataset(here, NAME).built
    assert restore
    role = "reads_no_versions"
    with psycopg.connect(here.conninfo, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        connection.execute(f"REVOKE ALL ON alembic_version FROM {role}")
        try:
            as_role = replace(here, conninfo=here.conninfo.replace("user=perfdata", f"user={role}"))
            for attempt in (
                lambda: provide_dataset(as_role, NAME),
                lambda: create_snapshot(as_role.conninfo, "unread", settings=here.settings),
            ):
                with pytest.raises(PrivilegesError) as caught:
                    attempt()
                assert caught.value.statements == (f"GRANT SELECT ON alembic_version TO {role};",)
        finally:
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_rows_that_are_in_and_could_not_be_saved_are_told(
    here: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SnapshotError, match=r"No space left .* are built and in perfdata on the"):
        provide_dataset(here, NAME)
    assert count(here) == 51
    assert not list((here.settings.home / "snapshots").iterdir())


def test_a_project_without_migrations_is_said_to_have_none(here: Target) -> None:
    """There is nothing that could be migrated to."""
    made = create_snapshot(here.conninfo, "mine", settings=here.settings)
    with pytest.raises(SnapshotStaleError, match=r"bare has no migrations\)\. Build") as caught:
        check_current(made, Project(name="bare"))
    assert "Migrate" not in str(caught.value)
    elsewhere = replace(here.settings, database_url=here.conninfo, project=None)
    with pytest.raises(ConfigError, match=r"--current .*: no project is configured.* init"):
        configured_project(untouched_target(elsewhere), "--current")


def test_why_it_was_built_is_said_without_what_was_done_about_it(here: Target) -> None:
    """Of other migrations and of another definition alike."""
    built = build_dataset(here, NAME).snapshot
    assert built
    older = replace(built.manifest, migrations=built.manifest.migrations[:-1])
    with pytest.raises(SnapshotStaleError) as caught:
        check_current(replace(built, manifest=older), project)
    assert "Migrate the database" not in str(caught.value)  # it is not what was compared
    assert caught.value.reason.endswith("(only in the project: 0003_performance_indexes)")


def test_of_a_misspelt_name_the_near_dataset_is_named_too(here: Target) -> None:
    """Also where there is no snapshot yet."""
    with pytest.raises(SnapshotNotFoundError) as caught:
        provide_dataset(here, "10_ofices")
    said = "no snapshot or dataset is named '10_ofices'; did you mean 10_offices?"
    assert str(caught.value) == said


def test_a_damaged_snapshot_is_built_again(here: Target) -> None:
    built = build_dataset(here, NAME)
    assert built.snapshot
    built.snapshot.path.write_bytes(built.snapshot.path.read_bytes()[:-9])
    with pytest.raises(SnapshotDamagedError):
        provide_dataset(here, NAME, build=False)
    assert "is damaged" in provide_dataset(here, NAME).reason
    assert provide_dataset(here, NAME).reason == "current"


def test_a_snapshot_made_by_hand_is_never_built_over(here: Target) -> None:
    build_dataset(here, NAME, snapshot=False)
    with psycopg.connect(here.conninfo) as connection:
        connection.execute("DELETE FROM support_plan_cycles WHERE id > 1")
    create_snapshot(here.conninfo, NAME, "by hand", settings=here.settings)
    with pytest.raises(SnapshotExistsError, match="created by hand"):
        build_dataset(here, NAME)
    assert provide_dataset(here, NAME).restored
    assert count(here, "support_plan_cycles") == 1
    build_dataset(here, NAME, replace=True)
    assert count(here, "support_plan_cycles") == 100


def test_a_damaged_snapshot_made_by_hand_is_told_and_not_built_again(here: Target) -> None:
    build_dataset(here, NAME, snapshot=False)
    path = create_snapshot(here.conninfo, NAME, "by hand", settings=here.settings).path
    damaged = path.read_bytes()[:-9]
    path.write_bytes(damaged)
    with psycopg.connect(here.conninfo) as connection:
        connection.execute("DELETE FROM support_plan_cycles WHERE id > 1")
    with pytest.raises(SnapshotDamagedError, match="its body has"):
        provide_dataset(here, NAME)
    assert path.read_bytes() == damaged
    assert count(here, "support_plan_cycles") == 1


def test_a_build_replaces_flagged_rows_and_no_others(here: Target) -> None:
    with psycopg.connect(here.conninfo) as connection:
        connection.execute(
            "INSERT INTO staffs (email, hashed_password, full_name, role, is_test_data) VALUES"
            " ('real@real.test', 'x', 'r', 'owner', false),"
            " ('t@real.test', 'x', 'r', 'owner', true)"
        )
    assert build_dataset(here, NAME).strategy == "beside other data"
    assert count(here) == 52
    assert count(here, "staffs WHERE NOT is_test_data") == 1


def test_another_hash_seed_gives_the_same_bytes(here: Target, tmp_path: Path) -> None:
    """Two processes, two databases, two seeds of Python's own hashes: one body."""
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from perfdata import Settings, Target, build_dataset\n"
        "settings = Settings(Path(sys.argv[1]), Path(sys.argv[2]), allow=(sys.argv[4],),"
        " project='perfdata.welfare')\n"
        f"build_dataset(Target(settings, sys.argv[3], embedded=True), {NAME!r})\n"
    )
    bodies = set()
    for seed in ("1", "2"):
        home = tmp_path / seed
        subprocess.run(
            [sys.executable, "-c", code, here.settings.root, home, here.conninfo,
             entry(here.conninfo)],
            check=True, env={"PYTHONHASHSEED": seed},
        )  # fmt: skip
        made = find_snapshot(NAME, replace(here.settings, home=home))
        bodies.add(made.manifest.body.sha256)
    assert len(bodies) == 1


def test_a_database_behind_its_project_is_told_how_to_migrate(here: Target, empty_url: str) -> None:
    behind = Target(here.settings, normalise_url(empty_url), embedded=True)
    with pytest.raises(MigrationError, match=r"lacks migrations .*\. Run: invoke db\.migrate"):
        build_dataset(behind, NAME)
    heads = migrate(behind.conninfo, project)
    assert heads == (read_history(project).migrations[-1].revision,)
    assert build_dataset(behind, NAME).rows["offices"] == 10


def test_datasets_without_a_project_are_unknown(here: Target) -> None:
    """The bundled project is not offered; snapshots still work."""
    settings = replace(here.settings, project=None)
    stranger = Target(settings, here.conninfo, embedded=False)
    with pytest.raises(ConfigError, match=r"no project .* Run: perfdata init"):
        build_dataset(stranger, NAME)
    with pytest.raises(SnapshotNotFoundError, match=r"no project .* Run: perfdata init"):
        provide_dataset(stranger, NAME)


def test_rows_for_a_table_without_the_flag_are_refused(
    here: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(here.conninfo) as connection:
        connection.execute("CREATE TABLE countries (code text)")

    def generate(_dataset: Dataset) -> Iterator[TableRows]:
        yield TableRows("countries", ("code",), [b"JP\n"])

    wrong = replace(project.dataset(NAME), generate=generate, name="wrong", sources=())
    monkeypatch.setattr("perfdata.welfare.project", replace(project, datasets=(wrong,)))
    with pytest.raises(SchemaError, match="countries, which has no column is_test_data"):
        build_dataset(here, "wrong")
    assert count(here, "countries") == 0


def test_the_key_changes_with_the_dataset_and_the_migrations(
    own: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = cache_key(own, NAME)
    assert re.fullmatch(r"perfdata-pg\d\d-[0-9a-f]{64}-f1", str(key))
    assert key.path == own.home / "snapshots" / f"{NAME}.json.zst"
    assert cache_key(own, "100_offices") != key
    assert cache_key(own, NAME) == key
    copy = tmp_path / "migrations"
    assert isinstance(project.migrations, Path)
    for path in project.migrations.rglob("*.py"):
        (copy / path.relative_to(project.migrations)).parent.mkdir(parents=True, exist_ok=True)
        (copy / path.relative_to(project.migrations)).write_bytes(path.read_bytes())
    monkeypatch.setattr("perfdata.welfare.project", replace(project, migrations=copy))
    assert cache_key(own, NAME) == key
    version = max((copy / "versions").glob("*.py"))
    version.write_text(version.read_text() + "# a comment\n")
    assert cache_key(own, NAME) != key
    monkeypatch.setattr("perfdata.welfare.project", replace(project, migrations=None))
    with pytest.raises(MigrationError, match="has no migrations"):
        cache_key(own, NAME)


def test_the_key_names_the_version_of_the_server_that_is_used(own: Settings, here: Target) -> None:
    with psycopg.connect(here.conninfo) as connection:
        version = connection.info.server_version // 10_000
    on_server = cache_key(replace(own, database_url=here.conninfo), NAME)
    assert on_server.key.startswith(f"perfdata-pg{version}-")
    assert on_server.parts == {**cache_key(own, NAME).parts, "server": str(version)}


def test_a_snapshot_tells_what_its_key_was_made_of(
    here: Target, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_dataset(here, NAME)
    built = find_snapshot(NAME, own)
    assert cache_key(own, NAME).differing(built) == {}
    other = replace(project.dataset(NAME), seed=7)
    monkeypatch.setattr("perfdata.welfare.project", replace(project, datasets=(other,)))
    assert cache_key(own, NAME).differing(built) == {"dataset seed": ("7", "1")}
    create_snapshot(here.conninfo, "by_hand", settings=own)
    with pytest.raises(SnapshotError, match="by_hand was not built from a dataset"):
        cache_key(own, NAME).differing(find_snapshot("by_hand", own))
