"""What a dry restore tells is found by the checks of a restore, and nothing is changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from invoke.exceptions import Exit

from perfdata import (
    BoundaryError,
    ConfigError,
    PerfdataError,
    RefusedError,
    SchemaError,
    SnapshotDamagedError,
    Target,
    create_snapshot,
)
from perfdata.postgres.url import normalise_url
from perfdata.snapshot.options import RestoreOptions
from perfdata.snapshot.preview import RestorePreview, preview_restore
from perfdata.tasks.dry_run import tell_restore
from tests.integration.databases import run
from tests.integration.inner import entry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from perfdata import Settings

NAME = "foreseen"
FLAG = "is_test_data boolean"
TABLES = (
    "CREATE TABLE countries (code text PRIMARY KEY)",
    f"CREATE TABLE shops (id int PRIMARY KEY, code text REFERENCES countries, {FLAG})",
    "CREATE TABLE visits (shop int REFERENCES shops ON DELETE CASCADE)",
    "INSERT INTO countries VALUES ('jp'), ('ch')",
    "INSERT INTO shops SELECT g, 'jp', g < 4 FROM generate_series(1, 5) g",
)
CHANGES: dict[str, tuple[type[PerfdataError], str]] = {
    "INSERT INTO visits VALUES (1)": (BoundaryError, "visits → shops .*: 1 of visits"),
    "INSERT INTO countries VALUES ('de')": (RefusedError, "countries: 1, e.g"),
    "ALTER TABLE shops ADD note text": (SchemaError, "shops.note .text. is not in the snapshot"),
    "CREATE RULE r AS ON DELETE TO shops DO INSTEAD NOTHING": (SchemaError, "shops: r"),
}


@pytest.fixture
def here(settings: Settings, tmp_path: Path, empty_url: str) -> Target:
    """A database of whose flagged rows, and of one whole table, there is a snapshot."""
    own = replace(
        settings,
        home=tmp_path,
        allow=(entry(empty_url, "test_*"),),
        whole_tables=("countries",),
        database_url=empty_url,
        configured=False,
    )
    run(empty_url, *TABLES)
    create_snapshot(empty_url, NAME, settings=own)
    return Target(own, normalise_url(empty_url), embedded=False)


def foresee(here: Target, **options: Any) -> RestorePreview:
    found = preview_restore(here, NAME, RestoreOptions(**options), lambda _: None, may_build=False)
    assert isinstance(found, RestorePreview)
    return found


def test_rows_that_go_stay_and_come_are_counted(
    here: Target, state: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    before = state(here.conninfo)
    found = foresee(here)
    assert [
        (one.key, one.whole, one.removal and (one.removal.going, one.removal.staying), one.coming)
        for one in found.tables
    ] == [("countries", True, (2, 0), 2), ("shops", False, (3, 2), 3)]
    tell_restore(here.settings, NAME, RestoreOptions(), may_build=True, report=lambda _: None)
    told = capsys.readouterr().out
    assert "all checks that precede the first change passed" in told
    assert [line.split() for line in told.splitlines()[-2:]] == [
        ["countries", "(whole)", "2", "0", "2"],
        ["shops", "3", "2", "3"],
    ]
    assert state(here.conninfo) == before


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_restore_refuses_is_refused(
    here: Target,
    state: Callable[[str], Any],
    capsys: pytest.CaptureFixture[str],
    change: str,
) -> None:
    error, said = CHANGES[change]
    run(here.conninfo, change)
    before = state(here.conninfo)
    with pytest.raises(error, match=said):
        foresee(here)
    with pytest.raises(Exit) as ended:
        tell_restore(here.settings, NAME, RestoreOptions(), may_build=True, report=lambda _: None)
    assert ended.value.code == 2
    told = capsys.readouterr().out.splitlines()[-1]
    assert told.startswith("would be refused" if issubclass(error, RefusedError) else "would fail")
    assert state(here.conninfo) == before


def test_a_damaged_body_is_found(here: Target) -> None:
    path = here.settings.home / "snapshots" / f"{NAME}.json.zst"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SnapshotDamagedError):
        foresee(here)


def test_a_fresh_database_is_foreseen(here: Target) -> None:
    with pytest.raises(RefusedError, match="rows that are not test data, and they would not be in"):
        foresee(here, fresh=True)
    allowed = replace(here, settings=replace(here.settings, allow=(entry(here.conninfo),)))
    found = foresee(allowed, fresh=True)
    assert found.fresh
    assert found.lost == ("shops: 2",)
    with (
        psycopg.connect(here.conninfo, application_name="the shop"),
        pytest.raises(RefusedError, match="the shop, user"),
    ):
        foresee(allowed, fresh=True)


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError):
        RestoreOptions(fresh=True, clean_existing=False)


@pytest.fixture
def stopped(settings: Settings, tmp_path: Path) -> Settings:
    """Settings whose embedded server was never started."""
    return replace(settings, home=tmp_path / "stopped")


def told(settings: Settings, name: str) -> None:
    tell_restore(settings, name, RestoreOptions(), may_build=True, report=lambda _: None)


def give(name: str, settings: Settings, stopped: Settings) -> Path:
    """Copy a snapshot into the home of the stopped server."""
    path = stopped.home / "snapshots" / f"{name}.json.zst"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((settings.home / "snapshots" / path.name).read_bytes())
    return path


def test_what_needs_no_server_is_checked_without_one(
    settings: Settings,
    stopped: Settings,
    loaded_url: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The exit code is the restore's, as far as it can be known; no server is started."""
    create_snapshot(loaded_url("10_offices"), NAME, settings=settings, replace=True)
    path = give(NAME, settings, stopped)
    told(stopped, NAME)
    assert "not checked: the database, whose server would be started" in capsys.readouterr().out
    with pytest.raises(Exit) as ended:
        told(replace(stopped, pg_bin=path.parent), NAME)
    assert ended.value.code == 2
    assert "would fail: PERFDATA_PG_BIN is " in capsys.readouterr().out
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    with pytest.raises(Exit) as ended:
        told(stopped, NAME)
    assert ended.value.code == 2
    assert [one.name for one in stopped.home.iterdir()] == ["snapshots"]


def test_other_migrations_are_found_without_a_server(
    settings: Settings, stopped: Settings, empty_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(empty_url, f"CREATE TABLE shops (id int, {FLAG})")
    create_snapshot(empty_url, NAME, settings=settings, replace=True)
    give(NAME, settings, stopped)
    with pytest.raises(Exit) as ended:
        told(stopped, NAME)
    assert ended.value.code == 2
    assert "would fail: snapshot foreseen was made with other migrations" in capsys.readouterr().out
