"""Locks: waited for so long and no longer; who holds them, and who queues, is named."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perfdata import (
    LoadError,
    SchemaError,
    Settings,
    create_snapshot,
    diff_snapshots,
    restore_snapshot,
    verify_snapshot,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "locked"
FLAG = "is_test_data boolean"
TABLES = (
    f"CREATE TABLE parent (id int PRIMARY KEY, {FLAG})",
    f"CREATE TABLE parted (id int, {FLAG}) PARTITION BY LIST (id)",
    "CREATE TABLE parted_one PARTITION OF parted FOR VALUES IN (1)",
    "INSERT INTO parent VALUES (1, true)",
    "INSERT INTO parted VALUES (1, true)",
)
USES: dict[str, Callable[..., Any]] = {
    "create": lambda url, **options: create_snapshot(url, "other", **options),
    "restore": lambda url, **options: restore_snapshot(url, NAME, **options),
    "fresh": lambda url, **options: restore_snapshot(url, NAME, fresh=True, **options),
    "verify": lambda url, **options: verify_snapshot(NAME, database=url, **options),
    "diff": lambda url, **options: diff_snapshots(NAME, database=url, **options),
}


@pytest.fixture
def saved(empty_url: str, settings: Settings) -> Iterator[str]:
    """A database, of whose flagged rows there is a snapshot."""
    with psycopg.connect(empty_url, autocommit=True) as connection:
        for statement in TABLES:
            connection.execute(statement)
    path = create_snapshot(empty_url, NAME, settings=settings, replace=True).path
    yield empty_url
    path.unlink()


@pytest.fixture
def waits(saved: str, settings: Settings) -> Callable[[str], str]:
    """Return a function from a use to what it says where it waited too long."""

    def use(name: str) -> str:
        with pytest.raises(LoadError, match=r"within 0\.3 s; nothing was touched") as caught:
            USES[name](saved, lock_timeout_s=0.3, settings=settings)
        assert "lock_timeout_s" in str(caught.value)
        return str(caught.value)

    return use


@contextmanager
def held(url: str, *statements: str) -> Iterator[int]:
    """Hold locks in a transaction of another application; give its pid."""
    with psycopg.connect(url, application_name="the shop") as holder:
        for statement in statements:
            holder.execute(statement)
        yield holder.info.backend_pid
        holder.rollback()


@contextmanager
def queued(url: str, statement: str) -> Iterator[int]:
    """Have another session wait for a lock; give its pid."""
    with psycopg.connect(url, application_name="a migration", autocommit=True) as waiting:
        pid = waiting.info.backend_pid
        thread = threading.Thread(target=_cancelled, args=(waiting, statement))
        thread.start()
        with psycopg.connect(url, autocommit=True) as watching:
            waits = "SELECT FROM pg_locks WHERE pid = %s AND NOT granted"
            while watching.execute(waits, (pid,)).fetchone() is None:
                pass
        try:
            yield pid
        finally:
            waiting.cancel()
            thread.join()


def _cancelled(connection: psycopg.Connection[Any], statement: str) -> None:
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute(statement)


@pytest.mark.parametrize("use", USES)
def test_who_holds_a_table_is_named(saved: str, waits: Callable[[str], str], use: str) -> None:
    with held(saved, "LOCK TABLE parent") as pid:
        assert f"AccessExclusiveLock holds parent (pid {pid}, the shop, user" in waits(use)


@pytest.mark.parametrize("use", ["create", "verify", "restore"])
def test_who_queues_before_and_who_is_waited_for_are_named(
    saved: str, waits: Callable[[str], str], use: str
) -> None:
    """What is held lets readers in; what queues for it does not."""
    with (
        held(saved, "SELECT count(*) FROM parent") as holder,
        queued(saved, "ALTER TABLE parent ADD note text") as waiting,
    ):
        said = waits(use)
    assert f"AccessShareLock holds parent (pid {holder}, the shop" in said
    assert f"AccessExclusiveLock waits for parent (pid {waiting}, a migration" in said


def test_who_holds_a_load_up_is_named_to_who_waits_for_that(
    saved: str, waits: Callable[[str], str]
) -> None:
    load = "SELECT pg_advisory_lock(1885696614)", "LOCK TABLE parent"
    with (
        held(saved, "SELECT count(*) FROM parent") as holder,
        queued(saved, f"DO $$ BEGIN PERFORM {load[0][7:]}; {load[1]}; END $$") as waiting,
    ):
        said = waits("create")
    assert f"holds perfdata's advisory lock (pid {waiting}, a migration" in said
    assert f"AccessShareLock holds parent (pid {holder}, the shop" in said


@pytest.mark.parametrize("use", ["create", "restore"])
def test_who_holds_a_partition_is_named(saved: str, waits: Callable[[str], str], use: str) -> None:
    with held(saved, "LOCK TABLE parted_one") as pid:
        assert f"holds parted_one (pid {pid}, the shop" in waits(use)


def test_who_keeps_no_reader_out_is_not_named(saved: str, waits: Callable[[str], str]) -> None:
    with (
        held(saved, "CREATE TABLE more ()", "INSERT INTO parted VALUES (1, true)") as innocent,
        held(saved, "LOCK TABLE parent") as pid,
    ):
        said = waits("create")
    assert f"pid {pid}" in said
    assert f"pid {innocent}" not in said


@pytest.mark.parametrize("use", ["create", "verify", "diff"])
def test_a_writer_is_named_only_to_a_caller_who_waits_for_it(
    saved: str, settings: Settings, use: str
) -> None:
    """In a caller's transaction a create holds writers off; who only reads waits for no writer."""
    with (
        held(saved, "INSERT INTO parted VALUES (1, true)") as writer,
        held(saved, "LOCK TABLE parent") as pid,
        psycopg.connect(saved) as joined,
    ):
        joined.execute("SELECT 1")
        with pytest.raises(LoadError) as caught:
            USES[use](joined, lock_timeout_s=0.3, settings=settings)
    assert f"AccessExclusiveLock holds parent (pid {pid}" in str(caught.value)
    assert (f"pid {writer}" in str(caught.value)) == (use == "create")


def test_the_lock_of_loads_is_told(saved: str, waits: Callable[[str], str]) -> None:
    with held(saved, "SELECT pg_advisory_lock(1885696614)") as pid:
        assert f"perfdata's advisory lock (pid {pid}, the shop" in waits("restore")


@pytest.mark.parametrize("path", ["public", "other"])
@pytest.mark.parametrize("use", ["create", "restore"])
def test_tables_are_called_the_same_on_every_search_path(
    saved: str, settings: Settings, use: str, path: str
) -> None:
    flagged = f"CREATE SCHEMA other; CREATE TABLE other.more (id int, {FLAG})"
    rule = "CREATE RULE r AS ON DELETE TO {} DO INSTEAD NOTHING"
    with psycopg.connect(saved, autocommit=True) as connection:
        connection.execute(flagged)
    create_snapshot(saved, NAME, settings=settings, replace=True)
    url = f"{saved}&options=-csearch_path%3D{path}"
    with held(saved, "LOCK TABLE parent, other.more"), pytest.raises(LoadError) as caught:
        USES[use](url, lock_timeout_s=0.2, settings=settings)
    assert " holds parent (" in str(caught.value)
    assert " holds other.more (" in str(caught.value)
    with psycopg.connect(saved, autocommit=True) as connection:
        connection.execute(rule.format("parent"))
        connection.execute(rule.format("other.more"))
    if use == "restore":
        with pytest.raises(SchemaError, match=r"other\.more: r, parent: r\."):
            USES[use](url, settings=settings)
