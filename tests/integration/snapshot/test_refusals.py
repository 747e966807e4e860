"""Refusals: what is found before the first change is named, and the target stays as it was."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from perfdata import (
    BoundaryError,
    ConfigError,
    PerfdataError,
    RefusedError,
    SchemaError,
    Settings,
    SnapshotStaleError,
    create_snapshot,
    restore_snapshot,
)
from tests.integration.databases import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "refusals"
FLAG = "is_test_data boolean"  # null is no flag either
TABLES = (
    "CREATE TYPE mood AS ENUM ('happy', 'sad')",
    f"CREATE TABLE parent (id int PRIMARY KEY, name varchar(10) NOT NULL, m mood, n int, {FLAG})",
    f"CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent, {FLAG})",
    "CREATE TABLE flagless (parent_id int REFERENCES parent ON DELETE CASCADE)",
    "INSERT INTO parent SELECT g, 'p' || g, 'sad', g, true FROM generate_series(1, 20) g",
    "INSERT INTO child SELECT g, g, true FROM generate_series(1, 20) g",
)


@pytest.fixture
def saved(empty_url: str, settings: Settings) -> Iterator[str]:
    """A database, of whose flagged rows there is a snapshot."""
    run(empty_url, *TABLES)
    path = create_snapshot(empty_url, NAME, settings=settings, replace=True).path
    yield empty_url
    path.unlink()


@pytest.fixture
def refused(saved: str, settings: Settings, state: Callable[[str], Any]) -> Callable[..., Any]:
    """Return a context in which a restore is refused with an error, and nothing is touched."""

    def attempt(error: type[PerfdataError], said: str, **options: Any) -> None:
        before = state(saved)
        with pytest.raises(error, match=said):
            restore_snapshot(saved, NAME, settings=settings, **options)
        assert state(saved) == before

    return attempt


COMPATIBLE = {
    "ALTER TABLE parent ADD note text": r"parent\.note \(text\) is not in the snapshot",
    "ALTER TABLE parent ADD at timestamptz NOT NULL DEFAULT now()":
        r"parent\.at \(timestamp with time zone not null\) is not in the snapshot",
    "ALTER TABLE child ADD no int GENERATED ALWAYS AS IDENTITY":
        r"child\.no \(integer not null\) is not in the snapshot",
    "ALTER TABLE parent ALTER name DROP NOT NULL":
        r"parent\.name is character varying\(10\), in the snapshot .*\(10\) not null",
    "ALTER TYPE mood ADD VALUE 'so, so' BEFORE 'sad'":
        r"parent\.m is public\.mood \('happy', 'so, so', 'sad'\), in the snapshot public\.mood",
    "ALTER TABLE parent ALTER name TYPE varchar(12)": r"parent\.name is character varying\(12\)",
    "ALTER TABLE parent ALTER name TYPE text": r"parent\.name is text not null, in the snapshot",
    "ALTER TABLE parent ALTER n TYPE bigint": r"parent\.n is bigint, in the snapshot integer",
}  # fmt: skip
INCOMPATIBLE = {
    "ALTER TABLE parent DROP n": r"parent\.n is missing",
    "ALTER TABLE child ADD no int NOT NULL DEFAULT 1; ALTER TABLE child ALTER no DROP DEFAULT":
        r"child\.no \(integer not null\) is not in the snapshot",
    "ALTER TABLE parent ALTER n SET NOT NULL": r"parent\.n is integer not null, in the snapshot",
    "ALTER TABLE parent ALTER n TYPE smallint": r"parent\.n is smallint, in the snapshot integer",
    "ALTER TABLE parent ALTER name TYPE varchar(9)": r"parent\.name is character varying\(9\)",
    "ALTER TABLE parent ALTER name TYPE char(12)": r"parent\.name is character\(12\)",
    "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'":
        r"parent\.m is public\.mood \('happy', 'blue'\)",
    "DROP TABLE child": "table child is missing",
}  # fmt: skip


@pytest.mark.parametrize("change", COMPATIBLE)
def test_compatible_drift_passes_when_that_is_asked_for_and_is_told(
    saved: str, settings: Settings, refused: Callable[..., None], change: str
) -> None:
    run(saved, change)
    refused(SchemaError, f"{COMPATIBLE[change]}.*allow_drift=True accepts this")
    run(saved, "DELETE FROM child WHERE id > 5")
    restored = restore_snapshot(saved, NAME, allow_drift=True, settings=settings)
    assert restored.rows == {"parent": 20, "child": 20}
    assert "accepted drift" in restored.notes[0]
    assert run(saved, "SELECT count(*), min(m::text), sum(n) FROM parent") == [(20, "sad", 210)]


@pytest.mark.parametrize("change", INCOMPATIBLE)
def test_all_other_drift_is_refused_however_it_is_asked_for(
    saved: str, refused: Callable[..., None], change: str
) -> None:
    run(saved, *change.split("; "))
    refused(SchemaError, INCOMPATIBLE[change])
    refused(SchemaError, INCOMPATIBLE[change], allow_drift=True)


def test_what_was_generated_and_is_stored_now_would_come_back_empty(
    databases: Any, settings: Settings, digests: Callable[[str], Any]
) -> None:
    source, target = databases.make("template0"), databases.make("template0")
    run(source, f"CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a * 2) STORED, {FLAG})",
        "INSERT INTO t VALUES (1, DEFAULT, true)")  # fmt: skip
    run(target, f"CREATE TABLE t (a int, b int, {FLAG})", "INSERT INTO t VALUES (5, 6, true)")
    made = create_snapshot(source, "made", settings=settings)
    assert made.manifest.generated == {"t": ["b"]}
    before = digests(target)
    for allowed in (False, True):
        with pytest.raises(SchemaError, match=r"t\.b was generated, .* lacks its values"):
            restore_snapshot(target, "made", allow_drift=allowed, settings=settings)
    assert digests(target) == before
    # One that makes itself makes itself here too.
    restore_snapshot(source, "made", settings=settings)
    assert run(source, "SELECT a, b FROM t") == [(1, 2)]
    made.path.unlink()


def test_a_table_that_is_only_called_alembic_version_is_like_others(
    databases: Any, settings: Settings
) -> None:
    url = databases.make("template0")
    run(
        url,
        "CREATE SCHEMA other",
        f"CREATE TABLE other.alembic_version (id int, {FLAG})",
        "INSERT INTO other.alembic_version VALUES (1, true), (2, false)",
        "CREATE TABLE alembic_version (version_num text)",
        "INSERT INTO alembic_version VALUES ('0001')",
    )
    made = create_snapshot(url, "versions", settings=settings)
    assert made.manifest.stats == {"other.alembic_version": 1}
    assert [one.revision for one in made.manifest.migrations] == ["0001"]
    run(url, "UPDATE other.alembic_version SET id = 7 WHERE is_test_data")
    restore_snapshot(url, "versions", settings=settings)
    assert run(url, "SELECT id FROM other.alembic_version ORDER BY 1") == [(1,), (2,)]
    made.path.unlink()


def test_migrations_that_came_since_pass_as_drift(
    saved: str, settings: Settings, refused: Callable[..., None]
) -> None:
    run(
        saved,
        "CREATE TABLE alembic_version (version_num text)",
        "INSERT INTO alembic_version VALUES ('0009_newer')",
    )
    refused(
        SnapshotStaleError,
        r"only in the database: 0009_newer\)\. No row was touched, and the database stays at "
        "0009_newer. .* or use allow_drift=True: every row still fits",
    )
    run(saved, "ALTER TABLE parent DROP name")
    missing = r"stays at 0009_newer\. .*rows no longer fit .*parent.name is missing"
    refused(SnapshotStaleError, missing)
    run(saved, "ALTER TABLE parent ADD name varchar(10) NOT NULL DEFAULT ''")
    restored = restore_snapshot(saved, NAME, allow_drift=True, settings=settings)
    assert "migrations only in the database: 0009_newer" in restored.notes[0]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("INSERT INTO child VALUES (77, 3, false)",
         r"child → parent \(child_parent_id_fkey\): 1 of child, e.g. 77"),
        ("INSERT INTO child VALUES (78, 3, NULL)", "1 of child, e.g. 78"),
        ("INSERT INTO flagless SELECT 3 FROM generate_series(1, 7)",
         r"flagless → parent \(flagless_parent_id_fkey\): 7 of flagless, e.g. 3, 3, 3, 3, 3 and 2 "
         r"more\. Point those rows to rows that stay, or delete them; or add flagless, which has "
         r"no column is_test_data, to "),
    ],
)  # fmt: skip
def test_what_hangs_on_rows_that_would_go_is_named(
    saved: str, refused: Callable[..., None], row: str, said: str
) -> None:
    """Also by a flag that is null, from a table without any, and where it would be cascaded."""
    run(saved, row)
    refused(BoundaryError, said)


def test_a_key_that_a_staying_row_has_is_named(saved: str, refused: Callable[..., None]) -> None:
    """Integer keys start at 1 again: a real row may have any of them."""
    run(saved, "DELETE FROM child WHERE id = 7", "UPDATE child SET is_test_data = NULL, id = 7,"
        " parent_id = NULL WHERE id = 8")  # fmt: skip
    refused(BoundaryError, r"constraint child_pkey: Key \(id\)=\(7\) already exists")


def test_keeping_rows_beside_a_snapshot_of_all_is_refused(
    saved: str, settings: Settings, refused: Callable[..., None]
) -> None:
    create_snapshot(saved, NAME, all_rows=True, replace=True, settings=settings)
    refused(RefusedError, "Leave out clean_existing=False", clean_existing=False)


def test_a_rule_that_swallows_deletes_is_named(saved: str, refused: Callable[..., None]) -> None:
    run(saved, "CREATE RULE swallow AS ON DELETE TO parent DO INSTEAD NOTHING")
    refused(SchemaError, "parent: swallow")


def test_a_disk_that_is_too_small_is_found_out(
    saved: str, refused: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the disk itself only its number is another: the folder is the server's own."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=1_000_000))
    refused(RefusedError, r"the rows need about \d+ MB .* disk of /.* has 1 MB free")
    assert run(saved, "SELECT count(*) FROM parent") == [(20,)]


@pytest.mark.parametrize("seconds", [0, -1, 1e9, float("nan")])
def test_a_wait_that_is_none_or_without_end_is_refused(
    refused: Callable[..., None], seconds: float
) -> None:
    refused(ConfigError, "is out of range", lock_timeout_s=seconds)
