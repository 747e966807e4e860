"""What others see while a restore works beside real rows: dumps, old snapshots, subscribers."""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perfdata import RefusedError, Settings, create_snapshot, restore_snapshot
from perfdata.server.binaries import find_binaries
from tests.integration.databases import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "readers"
FLAG = "is_test_data boolean NOT NULL DEFAULT false"
SCHEMA = (
    f"CREATE TABLE parent (id int PRIMARY KEY, name text, {FLAG})",
    "CREATE TABLE child (id int PRIMARY KEY, name text,"
    f" parent_id int NOT NULL CONSTRAINT child_parent REFERENCES parent, {FLAG})",
    "COMMENT ON CONSTRAINT child_parent ON child IS 'kept'",
    "CREATE UNIQUE INDEX child_name ON child (name)",
    "CREATE INDEX child_of ON child (parent_id)",
)
FLAGGED = (
    "INSERT INTO parent SELECT g, 'p' || g, true FROM generate_series(1, 300) g",
    "INSERT INTO child SELECT g, 'c' || g, g, true FROM generate_series(1, 300) g",
)
REAL = (
    "INSERT INTO parent SELECT g, 'real ' || g FROM generate_series(1001, 1100) g",
    "INSERT INTO child SELECT g, 'real ' || g, g FROM generate_series(1001, 1100) g",
)
INDEXES = "SELECT relname, oid FROM pg_class WHERE relkind = 'i' AND relnamespace = 2200 ORDER BY 1"
FILES = (
    "SELECT relname, pg_relation_filenode(oid) FROM pg_class"
    " WHERE relkind = 'r' AND relnamespace = 2200 ORDER BY 1"
)
KEY = "SELECT oid, convalidated, obj_description(oid) FROM pg_constraint WHERE contype = 'f'"


@pytest.fixture
def beside(empty_url: str, settings: Settings) -> Iterator[str]:
    """A database with flagged rows, a snapshot of them, and real rows that came later."""
    run(empty_url, *SCHEMA, *FLAGGED)
    create_snapshot(empty_url, NAME, settings=settings, replace=True)
    run(empty_url, *REAL)
    yield empty_url
    (settings.home / "snapshots" / f"{NAME}.json.zst").unlink(missing_ok=True)


def dump_behind(url: str, settings: Settings) -> str:
    """Restore while pg_dump, which has its snapshot, waits for the locks; return its output."""
    program = find_binaries(settings).bin / "pg_dump"
    waiting = "SELECT pid FROM pg_locks WHERE NOT granted AND mode = 'AccessShareLock'"
    dumps: list[subprocess.Popen[str]] = []

    def start_dump(_event: object) -> None:
        if not dumps:
            dump = subprocess.Popen(
                [program, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            dumps.append(dump)
            while not run(url, waiting):
                time.sleep(0.01)

    restore_snapshot(url, NAME, settings=settings, report=start_dump)
    output, errors = dumps[0].communicate(timeout=60)
    assert (dumps[0].returncode, errors) == (0, "")
    return output


def test_a_dump_that_runs_beside_a_restore_has_every_real_row_and_index(
    beside: str, settings: Settings
) -> None:
    """Its snapshot is older than the restore, and it reads the tables when that has ended."""
    written = dump_behind(beside, settings)
    assert written.count("\treal ") == 200
    for name in ("child_name", "child_of", "child_pkey", "parent_pkey", "child_parent"):
        assert f" {name} " in written


def test_a_transaction_with_an_older_snapshot_sees_every_real_row(
    beside: str, settings: Settings
) -> None:
    with psycopg.connect(beside) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1 FROM pg_class LIMIT 1")
        restored = restore_snapshot(beside, NAME, settings=settings)
        assert reader.execute("SELECT count(*) FROM child WHERE NOT is_test_data").fetchone() == (
            100,
        )
        assert reader.execute("SELECT count(*) FROM child WHERE is_test_data").fetchone() == (300,)
        (note,) = [note for note in restored.notes if "can't be used again yet" in note]
        assert f"pid {reader.info.backend_pid} " in note
        assert "600 deleted rows" in note
    assert not [n for n in restore_snapshot(beside, NAME, settings=settings).notes if "again" in n]


def test_no_index_is_dropped_in_a_database_that_perfdata_does_not_own(
    empty_url: str, settings: Settings, own: Callable[[str], None]
) -> None:
    """Nor in its own beside real rows; where only test data is there, it rebuilds them."""
    run(empty_url, *SCHEMA, *FLAGGED)
    create_snapshot(empty_url, NAME, settings=settings, replace=True)
    before = run(empty_url, INDEXES)
    restore_snapshot(empty_url, NAME, settings=settings)
    assert run(empty_url, INDEXES) == before
    own(empty_url)
    restore_snapshot(empty_url, NAME, settings=settings)
    rebuilt = run(empty_url, INDEXES)
    assert not set(rebuilt) & set(before)
    run(empty_url, *REAL)
    restore_snapshot(empty_url, NAME, settings=settings)
    assert run(empty_url, INDEXES) == rebuilt


def test_keys_stay_where_they_are_beside_real_rows(beside: str, settings: Settings) -> None:
    """From 18 on they are NOT ENFORCED meanwhile; before, they are dropped and made again."""
    ((before, valid, comment),) = run(beside, KEY)
    restore_snapshot(beside, NAME, settings=settings)
    ((after, *rest),) = run(beside, KEY)
    version = run(beside, "SELECT current_setting('server_version_num')::int")[0][0]
    assert (after == before) == (version >= 180000)
    assert rest == [valid, comment] == [True, "kept"]
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        run(beside, "INSERT INTO child VALUES (5000, 'x', 9999, false)")


def test_indexes_are_rebuilt_beside_real_rows_where_that_is_asked_for(
    beside: str, settings: Settings
) -> None:
    before = run(beside, INDEXES)
    restore_snapshot(beside, NAME, rebuild_indexes=True, settings=settings)
    assert not set(run(beside, INDEXES)) & set(before)


def test_a_dump_is_named_where_indexes_would_be_dropped(beside: str, settings: Settings) -> None:
    before = run(beside, INDEXES)
    with (
        psycopg.connect(beside, application_name="pg_dump") as dump,
        pytest.raises(RefusedError, match=rf"dump that runs .*pid {dump.info.backend_pid} "),
    ):
        restore_snapshot(beside, NAME, rebuild_indexes=True, settings=settings)
    assert run(beside, INDEXES) == before


def test_a_dump_that_comes_while_indexes_are_rebuilt_ends_the_restore(
    beside: str, settings: Settings, digests: Callable[[str], Any]
) -> None:
    before, rows = run(beside, INDEXES), digests(beside)
    with ExitStack() as stack:

        def report(_event: object) -> None:
            stack.enter_context(psycopg.connect(beside, application_name="pg_dump"))

        with pytest.raises(RefusedError, match="everything is as it was: rebuild_indexes=True"):
            restore_snapshot(beside, NAME, rebuild_indexes=True, settings=settings, report=report)
    assert run(beside, INDEXES) == before
    assert digests(beside) == rows


def test_tables_that_publish_deletes_need_a_replica_identity(
    beside: str, settings: Settings, digests: Callable[[str], Any]
) -> None:
    run(
        beside,
        f"CREATE TABLE plain (a int, {FLAG})",
        "INSERT INTO plain VALUES (1, true), (2, false)",
    )
    create_snapshot(beside, NAME, settings=settings, replace=True)
    run(beside, "CREATE PUBLICATION out FOR ALL TABLES")
    before = digests(beside)
    with pytest.raises(RefusedError, match=r"no replica identity.*plain \(publication out\)"):
        restore_snapshot(beside, NAME, settings=settings)
    assert digests(beside) == before
    run(beside, "ALTER TABLE plain REPLICA IDENTITY FULL")
    restored = restore_snapshot(beside, NAME, rebuild_indexes=True, settings=settings)
    assert any("publication out sends" in note and "slots: none" in note for note in restored.notes)


def test_a_published_table_is_never_truncated(
    empty_url: str, settings: Settings, own: Callable[[str], None]
) -> None:
    """A subscriber would lose rows of its own; no real row need be here for that."""
    run(empty_url, *SCHEMA, *FLAGGED, "CREATE PUBLICATION out FOR TABLE child")
    create_snapshot(empty_url, NAME, settings=settings, replace=True)
    own(empty_url)
    before = dict(run(empty_url, FILES))
    restore_snapshot(empty_url, NAME, settings=settings)
    after = dict(run(empty_url, FILES))
    assert {name for name in before if before[name] != after[name]} == {"parent"}


def test_tables_with_real_rows_are_not_truncated_whole_tables_neither(
    empty_url: str, settings: Settings
) -> None:
    """Of a whole table every row comes back; a reader's older snapshot would see none."""
    whole = replace(settings, whole_tables=("kind",))
    run(
        empty_url,
        "CREATE TABLE kind (name text PRIMARY KEY)",
        "INSERT INTO kind VALUES ('a'), ('b')",
        *SCHEMA,
        *FLAGGED,
    )
    create_snapshot(empty_url, NAME, settings=whole, replace=True)
    before = run(empty_url, FILES)
    restore_snapshot(empty_url, NAME, settings=whole)
    assert run(empty_url, FILES) == before
    assert run(empty_url, "SELECT count(*) FROM kind") == [(2,)]
