from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy
import zstandard
from invoke.context import Context
from sqlalchemy.orm import Session

from perfdata import (
    BoundaryError,
    ConfigError,
    Event,
    GuardError,
    LoadError,
    RefusedError,
    SchemaError,
    Settings,
    SnapshotDamagedError,
    SnapshotExistsError,
    SnapshotStaleError,
    create_snapshot,
    find_snapshot,
    restore_snapshot,
    verify_snapshot,
)
from perfdata.snapshot.format.reader import SnapshotFile
from perfdata.snapshot.format.writer import compressor
from perfdata.tasks import snapshot
from tests.integration.databases import run
from tests.integration.inner import entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TABLES = ("staffs", "offices", "office_staffs", "welfare_recipients",
          "office_welfare_recipients", "support_plan_cycles")  # fmt: skip


def state(url: str) -> dict[str, Any]:
    """Everything about the rows and the tables: digests, and what pg_dump would write."""
    digests = {
        table: run(url, f"SELECT count(*), sum(hashtextextended(t::text, 0)) FROM {table} t")[0]
        for table in TABLES
    }
    objects = run(
        url,
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated,"
        " obj_description(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace"
        " ORDER BY 1, 2",
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid), indisvalid"
        " FROM pg_index WHERE indrelid::regclass::text = ANY (ARRAY['staffs', 'offices',"
        " 'support_plan_cycles', 'welfare_recipients']) ORDER BY 1",
    )
    sequence = run(url, "SELECT last_value, is_called FROM support_plan_cycles_id_seq")
    return {"digests": digests, "objects": objects, "sequence": sequence}


@pytest.fixture
def loaded(loaded_url: Callable[[str], str]) -> str:
    return loaded_url("10_offices")


@pytest.fixture
def small(settings: Settings, loaded: str) -> Iterator[str]:
    """The name of a snapshot of ten offices that a test may damage."""
    path = create_snapshot(loaded, "small", "ten offices", settings=settings).path
    yield "small"
    path.unlink(missing_ok=True)


REAL = (
    "INSERT INTO staffs (id, email, hashed_password, full_name, role) VALUES"
    " ('00000000-0000-4000-8000-000000000001', 'real@real.test', 'x', 'r', 'owner')",
    "INSERT INTO offices (id, name, type, created_by, last_modified_by) VALUES"
    " ('00000000-0000-4000-8000-000000000002', 'real', 'type_A_office', {creator}, {creator})",
)
REAL_STAFF = "'00000000-0000-4000-8000-000000000001'"


def test_a_restore_gives_the_very_rows(
    small: str, loaded: str, database_url: str, settings: Settings
) -> None:
    restored = restore_snapshot(database_url, small, settings=settings)
    assert restored.strategy == "whole tables"
    assert restored.rows["support_plan_cycles"] == 100
    assert state(database_url) == state(loaded)
    again = restore_snapshot(database_url, small, settings=settings)
    assert again.rows == restored.rows
    assert state(database_url) == state(loaded)


def test_the_file_is_json_to_every_tool(small: str, settings: Settings) -> None:
    """To zstd's own program where it is installed; to its library, reading all frames, anywhere."""
    path = find_snapshot(small, settings).path
    frames = zstandard.ZstdDecompressor().stream_reader(path.read_bytes(), read_across_frames=True)
    text = frames.read()
    if shutil.which("zstd"):
        done = subprocess.run(["zstd", "-dc", path], capture_output=True, check=True)
        assert done.stdout == text
    document = json.loads(text)
    assert document["stats"] == {
        "staffs": 51, "offices": 10, "office_staffs": 50, "welfare_recipients": 100,
        "office_welfare_recipients": 100, "support_plan_cycles": 100,
    }  # fmt: skip
    for key, table in document["tables"].items():
        assert len(table["rows"]) == document["stats"][key]
        assert len(table["columns"]) == len(table["types"]) == len(table["rows"][0])
    assert [len(one["sha256"]) for one in document["migrations"]] == [64] * 3
    assert text.count(b"\n[") == sum(document["stats"].values())


def test_the_next_cycle_gets_a_free_key(small: str, database_url: str, settings: Settings) -> None:
    restore_snapshot(database_url, small, settings=settings)
    ((number,),) = run(
        database_url,
        "INSERT INTO support_plan_cycles (welfare_recipient_id, office_id)"
        " SELECT welfare_recipient_id, office_id FROM support_plan_cycles LIMIT 1 RETURNING id",
    )
    assert number == 101


def test_real_rows_stay_as_they_were(small: str, database_url: str, settings: Settings) -> None:
    run(database_url, *[statement.format(creator=REAL_STAFF) for statement in REAL])
    run(database_url, "SELECT setval('support_plan_cycles_id_seq', 5000)")
    before = run(database_url, "SELECT o::text FROM offices o WHERE NOT is_test_data")
    for _ in range(2):
        restored = restore_snapshot(database_url, small, settings=settings)
        assert restored.strategy == "beside other data"
        assert run(database_url, "SELECT o::text FROM offices o WHERE NOT is_test_data") == before
        assert run(database_url, "SELECT count(*) FROM offices") == [(11,)]
    assert run(database_url, "SELECT last_value FROM support_plan_cycles_id_seq") == [(5000,)]


def test_real_rows_are_left_in_place(small: str, database_url: str, settings: Settings) -> None:
    """Their pages are not written again."""
    restore_snapshot(database_url, small, settings=settings)
    run(
        database_url,
        "INSERT INTO staffs (email, hashed_password, full_name, role)"
        " SELECT 'r' || g || '@real.test', 'x', 'r', 'owner' FROM generate_series(1, 60) g",
    )
    before = run(
        database_url, "SELECT ctid, s::text FROM staffs s WHERE NOT is_test_data ORDER BY 1"
    )
    restored = restore_snapshot(database_url, small, settings=settings)
    assert before == run(
        database_url, "SELECT ctid, s::text FROM staffs s WHERE NOT is_test_data ORDER BY 1"
    )
    assert restored.notes == ()


def test_a_real_office_of_a_flagged_creator_is_named_and_nothing_touched(
    small: str, database_url: str, settings: Settings
) -> None:
    restore_snapshot(database_url, small, settings=settings)
    run(
        database_url, REAL[1].format(creator="(SELECT id FROM staffs WHERE role = 'owner' LIMIT 1)")
    )
    before = state(database_url)
    with pytest.raises(BoundaryError) as caught:
        restore_snapshot(database_url, small, settings=settings)
    said = str(caught.value)
    assert "offices_created_by_fkey" in said
    assert "00000000-0000-4000-8000-000000000002" in said
    assert "set is_test_data on those of offices if they are test data" in said
    assert state(database_url) == before


def test_a_key_that_a_real_row_has_is_named_and_nothing_touched(
    small: str, database_url: str, settings: Settings
) -> None:
    run(database_url, *[statement.format(creator=REAL_STAFF) for statement in REAL])
    run(
        database_url,
        "INSERT INTO welfare_recipients (id, first_name, last_name, first_name_furigana,"
        " last_name_furigana, birth_day, gender) VALUES (gen_random_uuid(), 'a', 'b', 'c', 'd',"
        " '2000-01-01', 'other')",
        "INSERT INTO support_plan_cycles (id, welfare_recipient_id, office_id)"
        " SELECT 7, r.id, o.id FROM welfare_recipients r, offices o",
    )
    before = state(database_url)
    with pytest.raises(BoundaryError, match=r"support_plan_cycles_pkey: Key \(id\)=\(7\)"):
        restore_snapshot(database_url, small, settings=settings)
    assert state(database_url) == before


def test_existing_flagged_rows_are_kept_when_asked(
    small: str, database_url: str, settings: Settings
) -> None:
    restored = restore_snapshot(database_url, small, clean_existing=False, settings=settings)
    assert restored.strategy == "added to what was there"
    assert run(database_url, "SELECT count(*) FROM staffs") == [(51,)]
    before = state(database_url)
    with pytest.raises(BoundaryError, match="same key as an existing row that is kept"):
        restore_snapshot(database_url, small, clean_existing=False, settings=settings)
    assert state(database_url) == before


@pytest.mark.parametrize("form", ["Engine", "Connection", "Session", "psycopg"])
def test_a_callers_open_transaction_is_joined(
    form: str, small: str, database_url: str, settings: Settings
) -> None:
    """The restore is seen inside and gone after the rollback; an Engine has none to join."""
    engine = sqlalchemy.create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    before = run(database_url, "SHOW lock_timeout")
    if form == "Engine":
        restore_snapshot(engine, small, settings=settings)
        assert run(database_url, "SELECT count(*) FROM offices") == [(10,)]
    elif form == "psycopg":
        with psycopg.connect(database_url) as connection:
            connection.execute("SET LOCAL lock_timeout = '3s'")
            restore_snapshot(connection, small, settings=settings)
            assert connection.execute("SELECT count(*) FROM offices").fetchone() == (10,)
            assert connection.execute("SHOW lock_timeout").fetchone() == ("3s",)
            connection.rollback()
    else:
        maker: Any = Session if form == "Session" else sqlalchemy.Engine.connect
        with maker(engine) as connection:
            restore_snapshot(connection, small, settings=settings)
            counted = connection.execute(sqlalchemy.text("SELECT count(*) FROM offices"))
            assert counted.scalar() == 10
            connection.rollback()
    engine.dispose()
    if form != "Engine":
        assert run(database_url, "SELECT count(*) FROM offices") == [(0,)]
    assert run(database_url, "SHOW lock_timeout") == before


def test_a_refusal_leaves_a_callers_transaction_usable(
    small: str, database_url: str, settings: Settings
) -> None:
    with psycopg.connect(database_url) as connection:
        restore_snapshot(connection, small, settings=settings)
        with pytest.raises(BoundaryError):
            restore_snapshot(connection, small, clean_existing=False, settings=settings)
        assert connection.execute("SELECT count(*) FROM offices").fetchone() == (10,)


def test_create_sees_what_a_callers_transaction_did(loaded: str, settings: Settings) -> None:
    with psycopg.connect(loaded) as connection:
        connection.execute("DELETE FROM support_plan_cycles WHERE id > 90")
        made = create_snapshot(connection, "inside", settings=settings)
        connection.rollback()
    made.path.unlink()
    assert made.manifest.stats["support_plan_cycles"] == 90


def test_an_idle_connections_own_lock_timeout_is_as_before(loaded: str, settings: Settings) -> None:
    with psycopg.connect(loaded, autocommit=True) as connection:
        connection.execute("SET lock_timeout = '7s'")
        create_snapshot(connection, "timed", settings=settings, lock_timeout_s=3).path.unlink()
        assert connection.execute("SHOW lock_timeout").fetchone() == ("7s",)


def test_an_idle_connections_own_lock_timeout_is_as_before_where_the_wait_was_in_vain(
    loaded: str, settings: Settings
) -> None:
    with (
        psycopg.connect(loaded, autocommit=True) as holder,
        psycopg.connect(loaded, autocommit=True) as connection,
    ):
        holder.execute("SELECT pg_advisory_lock(1885696614)")
        connection.execute("SET lock_timeout = '7s'")
        with pytest.raises(LoadError, match="another load or create did not end"):
            create_snapshot(connection, "timed", settings=settings, lock_timeout_s=0.1)
        assert connection.execute("SHOW lock_timeout").fetchone() == ("7s",)


def test_a_joined_create_lets_nobody_write_between_two_tables(
    loaded: str, settings: Settings
) -> None:
    """A caller's transaction is read committed: what others commit meanwhile it would see."""
    kept_out: list[Exception] = []

    def write_elsewhere(event: Event) -> None:
        if event.text == "saving offices" and not kept_out:
            try:
                run(loaded, "SET lock_timeout = '50ms'", "DELETE FROM support_plan_cycles")
            except psycopg.errors.LockNotAvailable as error:
                kept_out.append(error)

    with psycopg.connect(loaded) as connection:
        made = create_snapshot(connection, "held", settings=settings, report=write_elsewhere)
    made.path.unlink()
    assert kept_out
    assert made.manifest.stats["support_plan_cycles"] == 100


@pytest.mark.parametrize("moment", ["while it reads", "when it gives the file its name"])
def test_a_name_that_is_taken_meanwhile_is_not_taken_away(
    loaded: str, settings: Settings, moment: str
) -> None:
    other = settings.home / "snapshots" / "late.json.zst"
    waiting = [moment]

    def take(_event: Event) -> None:
        if waiting == ["while it reads"]:
            other.write_bytes(b"somebody's")

    def named(event: str, args: tuple[Any, ...]) -> None:
        # No check can come between this and the call itself.
        if waiting and event in {"os.link", "os.rename"} and str(args[1]) == str(other):
            waiting.clear()
            other.write_bytes(b"somebody's")

    sys.addaudithook(named)
    with pytest.raises(SnapshotExistsError, match="'late' already"):
        create_snapshot(loaded, "late", settings=settings, report=take)
    waiting.clear()
    assert other.read_bytes() == b"somebody's"
    other.unlink()
    assert not list(settings.home.glob("snapshots/.*.tmp"))


def test_a_name_that_is_taken_meanwhile_in_another_case_is_refused(
    loaded: str, settings: Settings
) -> None:
    other = settings.home / "snapshots" / "Late.json.zst"
    with pytest.raises(SnapshotExistsError, match="'Late' already"):
        create_snapshot(loaded, "late", settings=settings, report=lambda _event: other.touch())
    other.unlink()
    assert not other.with_name("late.json.zst").exists()


def test_a_required_row_that_is_flagged_itself_is_missing(
    database_url: str, loaded: str, settings: Settings
) -> None:
    """The restore would remove it, and what references it would dangle."""
    run(loaded, *[statement.format(creator=REAL_STAFF) for statement in REAL])
    run(loaded, "UPDATE support_plan_cycles SET office_id = '00000000-0000-4000-8000-000000000002'"
        " WHERE id = 1")  # fmt: skip
    path = create_snapshot(loaded, "needs", settings=settings).path
    run(database_url, *[statement.format(creator=REAL_STAFF) for statement in REAL])
    run(database_url, "UPDATE offices SET is_test_data = true")
    before = state(database_url)
    with pytest.raises(RefusedError, match=r"offices \(support_plan_cycles_office_id_fkey\)"):
        restore_snapshot(database_url, "needs", settings=settings)
    assert state(database_url) == before
    path.unlink()


def test_another_body_of_the_same_length_is_refused_before_any_transaction(
    small: str, database_url: str, settings: Settings
) -> None:
    """A good zstd frame of as many bytes, with other rows in it."""
    path = settings.home / "snapshots" / f"{small}.json.zst"
    file = SnapshotFile.open(path)
    manifest, offset = file.manifest, file.body_at
    head, stored = path.read_bytes()[:offset], path.read_bytes()[offset:]
    text = zstandard.ZstdDecompressor().decompressobj().decompress(stored)
    found = re.compile(rb"\d{4}-\d\d-\d\d").finditer(text)
    others = (text[: one.start()] + b"2001-01-01" + text[one.end() :] for one in found)
    forged = (compressor().compress(one) for one in others if one != text)
    body = next(one for one in forged if len(one) == manifest.body.compressed_bytes)
    path.write_bytes(head + body)
    with psycopg.connect(database_url) as connection:
        with pytest.raises(SnapshotDamagedError, match="its checksum is not the manifest's"):
            restore_snapshot(connection, small, settings=settings)
        assert connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE


def test_other_migrations_are_refused_and_named(
    small: str, database_url: str, settings: Settings
) -> None:
    ((head,),) = run(database_url, "SELECT version_num FROM alembic_version")
    run(database_url, "DELETE FROM alembic_version")
    before = state(database_url)
    with pytest.raises(SnapshotStaleError, match=rf"only in the snapshot: .*{head}"):
        restore_snapshot(database_url, small, settings=settings)
    assert state(database_url) == before


def test_changed_tables_are_refused_column_by_column(
    small: str, database_url: str, settings: Settings
) -> None:
    run(
        database_url,
        "ALTER TABLE staffs DROP COLUMN name",
        "ALTER TABLE offices ADD COLUMN floor int",
        "ALTER TABLE offices ALTER COLUMN address TYPE text",
        "ALTER TABLE welfare_recipients ALTER COLUMN birth_day DROP NOT NULL",
        "ALTER TYPE gendertype ADD VALUE 'unknown'",
        "DROP TABLE office_staffs",
    )
    with pytest.raises(SchemaError) as caught:
        restore_snapshot(database_url, small, settings=settings)
    for said in (
        "staffs.name is missing",
        "offices.floor (integer) is not in the snapshot",
        "offices.address is text, in the snapshot character varying(500)",
        "welfare_recipients.birth_day is date, in the snapshot date not null",
        "gender is public.gendertype ('male', 'female', 'other', 'unknown') not null, in the",
        "table office_staffs is missing",
    ):
        assert said in str(caught.value)
    assert run(database_url, "SELECT count(*) FROM staffs") == [(0,)]


@pytest.mark.parametrize("damage", ["cut", "changed", "longer"])
def test_a_damaged_file_never_reaches_the_database(
    damage: str, small: str, database_url: str, settings: Settings
) -> None:
    restore_snapshot(database_url, small, settings=settings)
    before = state(database_url)
    path = find_snapshot(small, settings).path
    data = path.read_bytes()
    changed = data[:-500] + bytes([data[-500] ^ 1]) + data[-499:]
    path.write_bytes({"cut": data[:-20], "changed": changed, "longer": data + b"x"}[damage])
    with pytest.raises(SnapshotDamagedError, match=r"small\.json\.zst is damaged"):
        restore_snapshot(database_url, small, settings=settings)
    with pytest.raises(SnapshotDamagedError):
        verify_snapshot(small, settings)
    assert state(database_url) == before


def test_damage_is_told_before_another_name(small: str, settings: Settings) -> None:
    path = find_snapshot(small, settings).path
    other = path.with_name("other.json.zst")
    other.write_bytes(path.read_bytes())
    with pytest.raises(
        SnapshotDamagedError, match=r"holds a snapshot named 'small'\. Rename the file"
    ):
        find_snapshot("other", settings)
    other.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SnapshotDamagedError, match=r"other\.json\.zst is damaged"):
        find_snapshot("other", settings)
    other.unlink()


def test_an_existing_name_is_refused_without_replace(
    small: str, loaded: str, settings: Settings
) -> None:
    with pytest.raises(SnapshotExistsError, match="replace=True"):
        create_snapshot(loaded, small, settings=settings)
    run(loaded, "DELETE FROM support_plan_cycles WHERE id = 1")
    create_snapshot(loaded, small, replace=True, settings=settings)
    assert verify_snapshot(small, settings).manifest.stats["support_plan_cycles"] == 99
    assert not list(settings.home.glob("snapshots/.*.tmp"))


def test_rows_outside_that_are_referenced_are_required(
    database_url: str,
    loaded: str,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A flagged cycle of a real office: the office must be there before a restore."""
    run(loaded, *[statement.format(creator=REAL_STAFF) for statement in REAL])
    run(loaded, "UPDATE support_plan_cycles SET office_id = '00000000-0000-4000-8000-000000000002'"
        " WHERE id = 1")  # fmt: skip
    with pytest.raises(RefusedError, match="support_plan_cycles_office_id_fkey"):
        create_snapshot(loaded, "needs", strict=True, settings=settings)
    made = create_snapshot(loaded, "needs", settings=settings)
    try:
        (required,) = made.manifest.requires
        assert (required.table, required.complete) == ("offices", True)
        monkeypatch.setenv("PERFDATA_HOME", str(settings.home))
        monkeypatch.setenv("PERFDATA_DATABASE_URL", loaded)
        told = (
            "requires rows outside it: offices (support_plan_cycles_office_id_fkey): "
            "00000000-0000-4000-8000-000000000002"
        )
        snapshot.create(Context(), name="needs", replace=True)
        assert told in capsys.readouterr().out
        snapshot.info(Context(), name="needs")
        assert told in capsys.readouterr().out
        with pytest.raises(RefusedError, match=r"offices \(support_plan_cycles_office_id_fkey\)"):
            restore_snapshot(database_url, "needs", settings=settings)
        run(database_url, *[statement.format(creator=REAL_STAFF) for statement in REAL])
        restore_snapshot(database_url, "needs", settings=settings)
        assert run(database_url, "SELECT count(*) FROM offices") == [(11,)]
    finally:
        made.path.unlink()


def test_another_server_is_refused_unless_it_is_listed(
    small: str, database_url: str, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same server, seen by settings whose embedded server it is not."""
    home = tmp_path_factory.mktemp("other")
    (home / "snapshots").symlink_to(settings.home / "snapshots")
    stranger = replace(settings, home=home)
    with pytest.raises(GuardError, match=f"PERFDATA_ALLOW={entry(database_url)}"):
        restore_snapshot(database_url, small, settings=stranger)
    assert run(database_url, "SELECT count(*) FROM offices") == [(0,)]
    allowed = replace(stranger, allow=(entry(database_url, "test_*"),))
    restore_snapshot(database_url, small, settings=allowed)
    assert run(database_url, "SELECT count(*) FROM offices") == [(10,)]


def test_locked_tables_are_named_with_who_holds_them(
    small: str, database_url: str, settings: Settings
) -> None:
    with psycopg.connect(database_url, application_name="the shop") as holder:
        holder.execute("SELECT count(*) FROM offices")
        pid = holder.info.backend_pid
        with pytest.raises(LoadError) as caught:
            restore_snapshot(database_url, small, lock_timeout_s=0.2, settings=settings)
    said = str(caught.value)
    assert f"offices (pid {pid}, the shop, user perfdata, idle in transaction since" in said
    assert "nothing was touched" in said


def test_progress_is_told_table_by_table(small: str, database_url: str, settings: Settings) -> None:
    told: list[Event] = []
    restore_snapshot(database_url, small, settings=settings, report=told.append)
    done = {event.text: (event.done, event.total) for event in told}
    assert done["staffs"] == (51, 51)
    assert set(done) == set(TABLES)


def test_a_connection_in_pipeline_mode_is_refused(database_url: str, settings: Settings) -> None:
    with psycopg.connect(database_url) as connection, connection.pipeline():
        with pytest.raises(ConfigError, match="in pipeline mode can't be used"):
            create_snapshot(connection, "piped", settings=settings)
        assert connection.execute("SELECT 1").fetchone() == (1,)
