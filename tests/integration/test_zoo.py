"""A zoo of schemas: every row comes back, and everything about the tables is as it was."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from perfdata import SchemaError, Settings, create_snapshot, restore_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    RoundTrip = Callable[..., tuple[str, str, Any]]

NAME = "zoo_all"


def run(url: str, *statements: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


@contextmanager
def owning(url: str, *tables: str) -> Iterator[psycopg.Connection[Any]]:
    """Connect as a plain role that owns the tables and may make others."""
    with psycopg.connect(url, autocommit=True) as connection:
        name = connection.info.dbname
        role = f"owner_of_{name}"
        for query, *names in (
            ("CREATE ROLE {}", role),
            ("GRANT ALL ON SCHEMA public TO {}", role),
            ("GRANT ALL ON DATABASE {} TO {}", name, role),
            *(("ALTER TABLE {} OWNER TO {}", table, role) for table in tables),
            ("SET ROLE {}", role),
        ):
            connection.execute(sql.SQL(query).format(*map(sql.Identifier, names)))
        yield connection
        connection.execute("RESET ROLE")
        connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def allowing(settings: Settings) -> Settings:
    """Allow what the guard allows a superuser of the embedded server."""
    return Settings(root=settings.root, home=settings.home, allow=("local/*",))


REFERENCING = (
    "CREATE TABLE parent (id int PRIMARY KEY)",
    "CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent ON DELETE CASCADE)",
)
REFERENCING_ROWS = (
    "INSERT INTO parent SELECT generate_series(1, 9)",
    "INSERT INTO child SELECT g, g FROM generate_series(1, 9) g",
)
ORPHAN = "INSERT INTO child VALUES (100, 100)"
KEY_STATES = (
    "SELECT t.tgrelid::regclass::text, p.proname, t.tgenabled::text, k.convalidated"
    " FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_constraint k"
    " ON k.oid = t.tgconstraint WHERE t.tgisinternal ORDER BY 1, 2"
)


def test_a_disabled_key_stays_disabled_with_rows_that_break_it(round_trip: RoundTrip) -> None:
    source, target, _ = round_trip(
        [*REFERENCING, "ALTER TABLE child DISABLE TRIGGER ALL"], [*REFERENCING_ROWS, ORPHAN]
    )
    assert run(target, KEY_STATES) == run(source, KEY_STATES)
    assert {state for *_, state, _ in run(target, KEY_STATES)} == {"D", "O"}


def test_a_key_that_is_disabled_in_part_is_put_back_by_a_superuser(round_trip: RoundTrip) -> None:
    """Its checks on one end are on: rows that break it are found, good ones come in."""
    schema = [*REFERENCING, "ALTER TABLE parent DISABLE TRIGGER ALL"]
    source, target, _ = round_trip(schema, REFERENCING_ROWS)
    assert run(target, KEY_STATES) == run(source, KEY_STATES)
    assert {state for *_, state, _ in run(target, KEY_STATES)} == {"D", "O"}


def test_a_disabled_key_on_a_partition_alone_stays_disabled(round_trip: RoundTrip) -> None:
    schema = [
        REFERENCING[0],
        "CREATE TABLE part (p int REFERENCES parent) PARTITION BY LIST (p)",
        "CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1)",
        "CREATE TABLE part_2 PARTITION OF part DEFAULT",
        "ALTER TABLE part_1 DISABLE TRIGGER ALL",
    ]
    source, target, _ = round_trip(
        schema, [REFERENCING_ROWS[0], "INSERT INTO part VALUES (1), (2)"]
    )
    assert run(target, KEY_STATES) == run(source, KEY_STATES)
    assert ("part_1", "RI_FKey_check_ins", "D", True) in run(target, KEY_STATES)


def test_a_disabled_key_that_a_role_cannot_put_back_is_refused(
    round_trip: RoundTrip, settings: Settings
) -> None:
    """A key that may stay in place needs no superuser; one whose table has rows does."""
    flag = "ALTER TABLE {} ADD is_test_data boolean DEFAULT true"
    source, target, _ = round_trip(
        [*REFERENCING, *(flag.format(name) for name in ("parent", "child"))], REFERENCING_ROWS
    )
    create_snapshot(source, NAME, settings=settings, replace=True)
    run(target, "ALTER TABLE child DISABLE TRIGGER ALL")
    allowed = allowing(settings)
    with owning(target, "parent", "child") as owner:
        before = run(target, KEY_STATES)
        with pytest.raises(SchemaError, match="child_p_fkey of child; nothing was touched"):
            restore_snapshot(owner, NAME, settings=allowed)
        assert run(target, KEY_STATES) == before
        run(target, "TRUNCATE parent, child")
        assert restore_snapshot(owner, NAME, settings=allowed).rows == {"parent": 9, "child": 9}
        assert run(target, KEY_STATES) == before


def test_keys_and_triggers_of_single_partitions_are_as_they_were(round_trip: RoundTrip) -> None:
    schema = [
        REFERENCING[0],
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'fired'; END $$",
        "CREATE TABLE part (p int, q int) PARTITION BY LIST (p)",
        "CREATE TABLE part_1 PARTITION OF part (CONSTRAINT own FOREIGN KEY (q) REFERENCES parent)"
        " FOR VALUES IN (1)",
        "CREATE TABLE part_2 PARTITION OF part FOR VALUES IN (2) PARTITION BY LIST (q)",
        "CREATE TABLE part_2_x PARTITION OF part_2 (PRIMARY KEY (q)) DEFAULT",
        "CREATE TABLE to_leaf (q int REFERENCES part_2_x)",
        "COMMENT ON CONSTRAINT own ON part_1 IS 'of one partition'",
        "CREATE TRIGGER lone BEFORE INSERT ON part_1 FOR EACH ROW EXECUTE FUNCTION no()",
        "CREATE TRIGGER every BEFORE INSERT ON part FOR EACH ROW EXECUTE FUNCTION no()",
        "ALTER TABLE part_2_x DISABLE TRIGGER every",
        "ALTER TABLE part_1 ENABLE ALWAYS TRIGGER every",
    ]
    described = (
        "SELECT tgrelid::regclass::text, tgname, tgenabled::text FROM pg_trigger"
        " WHERE NOT tgisinternal UNION ALL SELECT conrelid::regclass::text, conname,"
        " pg_get_constraintdef(oid) || coalesce(obj_description(oid, 'pg_constraint'), '')"
        " FROM pg_constraint ORDER BY 1, 2"
    )
    source, target, _ = round_trip(
        schema,
        [
            "SET session_replication_role = replica",
            REFERENCING_ROWS[0],
            "ALTER TABLE part_1 DISABLE TRIGGER every",
            "INSERT INTO part SELECT 1 + g % 2, g FROM generate_series(1, 9) g",
            "INSERT INTO to_leaf VALUES (1), (3)",
            "ALTER TABLE part_1 ENABLE ALWAYS TRIGGER every",
        ],
    )
    assert run(target, described) == run(source, described)
    states = {row[:2]: row[2] for row in run(target, described)}
    assert states["part_1", "every"] == "A"
    assert states["part_2_x", "every"] == "D"
    assert states["part", "every"] == states["part_1", "lone"] == "O"
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        run(target, "INSERT INTO to_leaf VALUES (77)")


EVENT = (
    "CREATE TABLE seen (at timestamptz)",
    "CREATE FUNCTION see() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN {}; END $$",
    "CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('ALTER TABLE')"
    " EXECUTE FUNCTION see()",
)


def test_event_triggers_fire_and_are_told_or_stay_quiet(
    round_trip: RoundTrip, settings: Settings
) -> None:
    """From 17 on a superuser keeps them quiet; who can't is told that they fired."""
    _, target, _ = round_trip([EVENT[0], *REFERENCING], REFERENCING_ROWS)
    see = EVENT[1].format("INSERT INTO public.seen VALUES (now())")
    run(target, "TRUNCATE parent, child", see, EVENT[2], "TRUNCATE seen")
    restored = restore_snapshot(target, "round_trip", settings=settings)
    ((fired, version),) = run(
        target, "SELECT count(*) > 0, current_setting('server_version_num')::int FROM seen"
    )
    assert fired == (version < 170000)
    assert restored.notes == (
        ("event triggers fired when keys, triggers or indexes were taken off and put back: watch",)
        if fired
        else ()
    )


def test_what_would_not_come_back_is_found_before_the_commit(
    round_trip: RoundTrip, settings: Settings
) -> None:
    """An event trigger changes a table while the keys are put back, and nothing keeps it quiet."""
    _, target, _ = round_trip([EVENT[0], *REFERENCING], REFERENCING_ROWS)
    run(target, "TRUNCATE parent, child",
        EVENT[1].format("EXECUTE format('COMMENT ON TABLE child IS %L', clock_timestamp())"),
        EVENT[2])  # fmt: skip
    with owning(target, "parent", "child", "seen") as owner:
        with pytest.raises(SchemaError, match=r"left the tables as they were \(table child\)"):
            restore_snapshot(owner, "round_trip", settings=allowing(settings))
        assert run(target, "SELECT count(*) FROM child") == [(0,)]
        see = EVENT[1].format("NULL").replace("CREATE", "CREATE OR REPLACE", 1)
        run(target, see, "TRUNCATE parent, child")
        restored = restore_snapshot(owner, "round_trip", settings=allowing(settings))
        assert "event triggers fired" in restored.notes[0]
