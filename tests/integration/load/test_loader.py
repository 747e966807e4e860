"""A small zoo of schemas: what a load must leave as it was, and what it must refuse by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from perfdata import (
    BoundaryError,
    ConnectError,
    Event,
    RefusedError,
    SchemaError,
    ServerRefusedError,
    Settings,
    SnapshotError,
    TableRows,
    append_rows,
    create_snapshot,
    find_snapshot,
    restore_snapshot,
)
from tests.integration.databases import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    SchemaOf = Callable[[str], str]

NAME = "zoo"
FLAG = "is_test_data boolean NOT NULL DEFAULT false"


@pytest.fixture
def zoo(
    empty_url: str, settings: Settings
) -> Iterator[Callable[..., Callable[[], dict[str, int]]]]:
    """Make tables, save their flagged rows, and return what restores them."""

    def make(*statements: str, all_rows: bool = False) -> Callable[[], dict[str, int]]:
        run(empty_url, *statements)
        create_snapshot(empty_url, NAME, all_rows=all_rows, settings=settings, replace=True)
        return lambda: restore_snapshot(empty_url, NAME, settings=settings).rows

    yield make
    (settings.home / "snapshots" / f"{NAME}.json.zst").unlink(missing_ok=True)


PARENT_AND_CHILD = (
    f"CREATE TABLE parent (id int PRIMARY KEY, name text, {FLAG})",
    "CREATE TABLE child (id int PRIMARY KEY,"
    f" parent_id int REFERENCES parent ON DELETE CASCADE, {FLAG})",
    "COMMENT ON CONSTRAINT child_parent_id_fkey ON child IS 'it''s kept'",
    "CREATE INDEX child_parent ON child (parent_id)",
    "CREATE INDEX child_commented ON child (id, parent_id)",
    "COMMENT ON INDEX child_commented IS 'this too'",
    "INSERT INTO parent SELECT g, 'p' || g, true FROM generate_series(1, 50) g",
    "INSERT INTO child SELECT g, g, true FROM generate_series(1, 50) g",
)
OIDS = "SELECT relname, oid FROM pg_class WHERE relname LIKE 'child_%' ORDER BY 1"
DEFINED = (
    "SELECT c.relname, pg_get_indexdef(c.oid), obj_description(c.oid) FROM pg_class c"
    " WHERE c.relkind = 'i' AND c.relname LIKE 'child_%' ORDER BY 1"
)


def test_comments_and_triggers_are_as_before_and_no_trigger_fires(
    zoo: Callable[..., Any], empty_url: str
) -> None:
    restore = zoo(
        *PARENT_AND_CHILD,
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'fired'; END $$",
        *(
            f"CREATE TRIGGER t{n} {what} ON child FOR EACH {each} EXECUTE FUNCTION no()"
            for n, (what, each) in enumerate(
                [("BEFORE INSERT OR DELETE", "ROW"), ("BEFORE TRUNCATE", "STATEMENT"),
                 ("AFTER INSERT", "STATEMENT"), ("AFTER UPDATE", "ROW")]
            )
        ),
        "ALTER TABLE child ENABLE ALWAYS TRIGGER t1, ENABLE REPLICA TRIGGER t2, DISABLE TRIGGER t3",
    )  # fmt: skip
    states = "SELECT tgname, tgenabled::text FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"
    comment = "SELECT obj_description(oid) FROM pg_constraint WHERE contype = 'f'"
    assert restore() == {"parent": 50, "child": 50}
    assert run(empty_url, states) == [("t0", "O"), ("t1", "A"), ("t2", "R"), ("t3", "D")]
    assert run(empty_url, comment) == [("it's kept",)]


def test_indexes_that_come_back_whole_are_rebuilt(
    zoo: Callable[..., Any], empty_url: str, own: Callable[[str], None]
) -> None:
    """The plain one is a new index of the same definition; the commented one was never dropped."""
    own(empty_url)
    restore = zoo(*PARENT_AND_CHILD)
    before, defined = dict(run(empty_url, OIDS)), run(empty_url, DEFINED)
    restore()
    after = dict(run(empty_url, OIDS))
    assert {name for name in before if before[name] != after[name]} == {
        "child_parent",
        "child_pkey",
    }
    assert run(empty_url, DEFINED) == defined


def test_indexes_of_more_rows_than_come_are_left(
    zoo: Callable[..., Any], empty_url: str, settings: Settings
) -> None:
    """To build an index of a million rows anew for a hundred that come would be the dearest."""
    zoo(*PARENT_AND_CHILD)
    run(empty_url, "INSERT INTO child SELECT g, NULL, false FROM generate_series(100, 149) g")
    before = dict(run(empty_url, OIDS))
    restore_snapshot(empty_url, NAME, rebuild_indexes=True, settings=settings)
    assert dict(run(empty_url, OIDS)) == before
    run(empty_url, "DELETE FROM child WHERE id = 149")
    restore_snapshot(empty_url, NAME, rebuild_indexes=True, settings=settings)
    after = dict(run(empty_url, OIDS))
    assert {name for name in before if before[name] != after[name]} == {
        "child_parent",
        "child_pkey",
    }


def test_indexes_that_would_come_back_as_others_are_left(
    zoo: Callable[..., Any], empty_url: str, own: Callable[[str], None], schema_of: SchemaOf
) -> None:
    """What a definition does not say: comments, marks, targets, options, who depends on them."""
    own(empty_url)
    restore = zoo(
        *PARENT_AND_CHILD,
        f"CREATE TABLE kept (id int PRIMARY KEY, a int, b int, c int, d int, {FLAG})",
        "ALTER TABLE kept ADD CONSTRAINT commented UNIQUE (a), ADD CONSTRAINT filled UNIQUE (b)"
        " WITH (fillfactor = 70)",
        "COMMENT ON CONSTRAINT commented ON kept IS 'kept'",
        "CREATE INDEX clustered ON kept (c)",
        "ALTER TABLE kept CLUSTER ON clustered",
        "CREATE INDEX targeted ON kept ((c + d))",
        "ALTER INDEX targeted ALTER COLUMN 1 SET STATISTICS 500",
        "CREATE UNIQUE INDEX identity ON kept (id, a)",
        "CREATE INDEX options ON kept (d) WITH (fillfactor = 60)",
        "ALTER TABLE kept ALTER a SET NOT NULL",
        "ALTER TABLE kept REPLICA IDENTITY USING INDEX identity",
        "CREATE VIEW grouped AS SELECT id, a FROM kept GROUP BY id",
        f"CREATE TABLE late (id int, UNIQUE (id) DEFERRABLE INITIALLY DEFERRED, {FLAG})",
        "INSERT INTO kept SELECT g, g, g, g, g, true FROM generate_series(1, 50) g",
        "INSERT INTO late SELECT g, true FROM generate_series(1, 50) g",
    )
    oids = (
        "SELECT relname, oid FROM pg_class WHERE relkind = 'i' AND relnamespace = 2200 ORDER BY 1"
    )
    before, schema = dict(run(empty_url, oids)), schema_of(empty_url)
    restore()
    after = dict(run(empty_url, oids))
    assert {name for name in before if before[name] != after[name]} == {
        "child_parent", "child_pkey", "options", "parent_pkey",
    }  # fmt: skip
    assert schema_of(empty_url) == schema


def test_a_restored_table_is_frozen_visible_and_has_statistics(
    zoo: Callable[..., Any], empty_url: str
) -> None:
    restore = zoo(*PARENT_AND_CHILD, "CREATE EXTENSION pg_visibility")
    restore()
    assert run(empty_url, "SELECT all_visible, all_frozen FROM pg_visibility_map_summary('child')")
    ((pages, visible, tuples),) = run(
        empty_url,
        "SELECT relpages, relallvisible, reltuples FROM pg_class WHERE relname = 'child'",
    )
    assert (pages, visible, tuples) == (1, 1, 50)
    frozen = "SELECT all_frozen FROM pg_visibility_map_summary('child')"
    assert run(empty_url, frozen) == [(1,)]


def test_rules_are_refused(zoo: Callable[..., Any], empty_url: str) -> None:
    restore = zoo(*PARENT_AND_CHILD)
    run(empty_url, "CREATE RULE keep AS ON DELETE TO child DO INSTEAD NOTHING")
    with pytest.raises(SchemaError, match=r"child: keep\. Nothing was touched"):
        restore()


def test_settings_of_the_database_change_no_value(
    zoo: Callable[..., Any], empty_url: str, settings: Settings
) -> None:
    """Whatever a database's own settings are when it is saved, and when it is restored."""
    name = psycopg.conninfo.conninfo_to_dict(empty_url)["dbname"]
    strange = [
        f'ALTER DATABASE "{name}" SET {one}'
        for one in (
            "datestyle = 'SQL, DMY'", "intervalstyle = 'sql_standard'", "extra_float_digits = -5",
            "bytea_output = 'escape'", "timezone = 'Asia/Tokyo'", "array_nulls = off",
        )
    ]  # fmt: skip
    digest = "SELECT sum(hashtextextended(v::text, 0)) FROM v"
    restore = zoo(
        f"CREATE TABLE v (d date, ts timestamptz, i interval, f float8, b bytea, a text[], {FLAG})",
        "INSERT INTO v VALUES ('2026-02-03', '2026-02-03 04:05:06.789+09', '-1 day 2:03',"
        " 0.1::float8 + 0.2, '\\x00ff5c', '{null,\"NULL\",\"\"}', true)",
    )
    before = run(empty_url, digest)
    run(empty_url, *strange)
    create_snapshot(empty_url, NAME, settings=settings, replace=True)
    restore()
    run(empty_url, *[one.partition(" SET ")[0] + " RESET ALL" for one in strange[:1]])
    assert run(empty_url, digest) == before
    restore()
    assert run(empty_url, digest) == before


def test_types_whose_cast_to_text_loses_something(zoo: Callable[..., Any], empty_url: str) -> None:
    restore = zoo(
        "CREATE TYPE pair AS (a int, b text)",
        "CREATE FUNCTION shout(pair) RETURNS text LANGUAGE sql AS $$ SELECT 'pair!' $$",
        "CREATE CAST (pair AS text) WITH FUNCTION shout(pair)",
        "CREATE DOMAIN of_pair AS pair",
        f"CREATE TABLE v (id int, c bpchar, c5 char(5), p pair, d of_pair, r regclass, {FLAG})",
        "CREATE SCHEMA elsewhere",
        "CREATE TABLE elsewhere.v ()",
        "INSERT INTO v VALUES (1, 'ab  ', 'cd', (1, 'x'), (2, null), 'elsewhere.v', true),"
        " (2, null, null, null, (null, null), null, true)",
    )
    digest = "SELECT id, c::bytea, c5, (p).b, (d).a, d IS NULL, r::oid FROM v ORDER BY id"
    before = run(empty_url, digest.replace("c::bytea", "bpcharsend(c)"))
    restore()
    assert run(empty_url, digest.replace("c::bytea", "bpcharsend(c)")) == before


def test_a_snapshot_is_of_one_moment(
    zoo: Callable[..., Any], empty_url: str, settings: Settings
) -> None:
    """Rows that another session deletes in between are there all the same."""
    zoo(*PARENT_AND_CHILD)

    def interfere(event: Event) -> None:
        if event.text == "parent" and event.done == 0:
            run(empty_url, "DELETE FROM child", "DELETE FROM parent")

    made = create_snapshot(empty_url, NAME, settings=settings, replace=True, report=interfere)
    assert made.manifest.stats == {"parent": 50, "child": 50}


def test_an_all_rows_snapshot_wants_empty_tables(
    zoo: Callable[..., Any], empty_url: str, settings: Settings
) -> None:
    restore = zoo("CREATE TABLE free (a int)", "INSERT INTO free VALUES (1)", all_rows=True)
    with pytest.raises(RefusedError, match=r"free has 1 row\b"):
        restore()
    with pytest.raises(RefusedError, match="into empty tables only"):
        restore_snapshot(empty_url, NAME, clean_existing=False, settings=settings)
    run(empty_url, "TRUNCATE free")
    assert restore() == {"free": 1}


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_transaction_that_sees_no_commits_is_refused(
    zoo: Callable[..., Any], empty_url: str, settings: Settings, level: str
) -> None:
    zoo(*PARENT_AND_CHILD)
    with psycopg.connect(empty_url) as connection:
        connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        with pytest.raises(RefusedError, match="read committed"):
            restore_snapshot(connection, NAME, settings=settings)


def test_a_transaction_that_has_failed_is_refused_in_the_servers_words(
    zoo: Callable[..., Any], empty_url: str, settings: Settings
) -> None:
    zoo(*PARENT_AND_CHILD)
    with psycopg.connect(empty_url) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / 0")
        with pytest.raises(ServerRefusedError, match=r"aborted[^;]*$"):
            restore_snapshot(connection, NAME, settings=settings)


def test_real_rows_committed_while_it_waits_stay(
    zoo: Callable[..., Any], empty_url: str, settings: Settings
) -> None:
    """Also where the database's own default is repeatable read."""
    name = psycopg.conninfo.conninfo_to_dict(empty_url)["dbname"]
    zoo(
        *PARENT_AND_CHILD,
        f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'repeatable read'",
    )
    with psycopg.connect(empty_url) as other:
        other.execute("INSERT INTO parent VALUES (1000, 'real', false)")

        def commit(event: Event) -> None:
            if event.text.startswith("waiting"):
                other.commit()

        with psycopg.connect(empty_url, autocommit=True) as holder:
            holder.execute("SELECT pg_advisory_lock(1885696614)")
            told: list[Event] = []

            def release(event: Event) -> None:
                told.append(event)
                commit(event)
                holder.execute("SELECT pg_advisory_unlock_all()")

            restore_snapshot(empty_url, NAME, settings=settings, report=release)
    assert told[0].text.startswith("waiting for another load")
    assert run(empty_url, "SELECT name FROM parent WHERE NOT is_test_data") == [("real",)]


def test_tables_that_change_while_it_waits_are_found_out(
    zoo: Callable[..., Any], empty_url: str, settings: Settings
) -> None:
    zoo(*PARENT_AND_CHILD)
    with psycopg.connect(empty_url, autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(1885696614)")

        def change(event: Event) -> None:
            if event.text.startswith("waiting"):
                run(empty_url, "ALTER TABLE parent ADD note text")
                holder.execute("SELECT pg_advisory_unlock_all()")

        with pytest.raises(SchemaError, match="changed while the load waited"):
            restore_snapshot(empty_url, NAME, settings=settings, report=change)


def test_partitioned_tables_with_keys_of_their_own_are_restored(
    zoo: Callable[..., Any], empty_url: str
) -> None:
    restore = zoo(
        *PARENT_AND_CHILD,
        f"CREATE TABLE part (p int REFERENCES parent, {FLAG}, PRIMARY KEY (p))"
        " PARTITION BY LIST (p)",
        "CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1)",
        "CREATE TABLE part_rest PARTITION OF part DEFAULT",
        f"CREATE TABLE leaf (p int REFERENCES part, {FLAG})",
        "INSERT INTO part SELECT g, true FROM generate_series(1, 9) g",
        "INSERT INTO leaf VALUES (1, true), (2, true)",
    )
    for _ in range(2):
        assert restore() == {"parent": 50, "child": 50, "part": 9, "leaf": 2}
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        run(empty_url, "INSERT INTO leaf VALUES (77, false)")


def test_rows_that_stay_are_as_they_were(zoo: Callable[..., Any], empty_url: str) -> None:
    """Also those that could not be put back as they are: they are left where they lie."""
    restore = zoo(
        "CREATE FUNCTION twice(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 2'",
        f"CREATE TABLE gen (a int, b int GENERATED ALWAYS AS (twice(a)) STORED, {FLAG})",
        f"CREATE TABLE old (a int, {FLAG})",
        "INSERT INTO gen (a, is_test_data) SELECT g, g > 1 FROM generate_series(1, 9) g",
        "INSERT INTO old SELECT g, g > 1 FROM generate_series(1, 9) g",
        "ALTER TABLE old ADD CHECK (a > 1) NOT VALID",
        "CREATE OR REPLACE FUNCTION twice(int) RETURNS int IMMUTABLE LANGUAGE sql"
        " AS 'SELECT $1 * 3'",
    )
    restore()
    assert run(empty_url, "SELECT b FROM gen WHERE NOT is_test_data") == [(2,)]
    assert run(empty_url, "SELECT a FROM old WHERE NOT is_test_data") == [(1,)]


def test_sequences_that_make_no_plain_number_are_left_alone(
    zoo: Callable[..., Any], empty_url: str
) -> None:
    restore = zoo(
        "CREATE SEQUENCE bills",
        f"CREATE TABLE bill (no text DEFAULT 'B-' || nextval('bills'), s smallserial, {FLAG})",
        "INSERT INTO bill VALUES ('B-1', 32767, true)",
        f"CREATE TABLE ident (id bigint GENERATED ALWAYS AS IDENTITY (INCREMENT -1), {FLAG})",
        "INSERT INTO ident OVERRIDING SYSTEM VALUE VALUES (-41, true)",
    )
    assert restore() == {"bill": 1, "ident": 1}
    assert run(empty_url, "INSERT INTO ident DEFAULT VALUES RETURNING id") == [(-42,)]


def test_deferred_and_exclusion_constraints_name_what_collides(
    zoo: Callable[..., Any], empty_url: str
) -> None:
    restore = zoo(
        f"CREATE TABLE late (a int UNIQUE DEFERRABLE INITIALLY DEFERRED, {FLAG})",
        "INSERT INTO late SELECT g, true FROM generate_series(1, 9) g",
        f"CREATE TABLE room (during int4range, EXCLUDE USING gist (during WITH &&), {FLAG})",
        "INSERT INTO room VALUES ('[1,5)', true), ('[5,9)', true)",
    )
    restore()
    run(empty_url, "UPDATE late SET is_test_data = false WHERE a = 3")
    with pytest.raises(BoundaryError, match=r"late_a_key: Key \(a\)=\(3\)"):
        restore()
    run(
        empty_url,
        "DELETE FROM late",
        "DELETE FROM room",
        "INSERT INTO room VALUES ('[2,3)', false)",
    )
    with pytest.raises(BoundaryError, match="room_during_excl"):
        restore()


def test_one_transaction_may_restore_twice_beside_real_rows(
    zoo: Callable[..., Any], empty_url: str, settings: Settings
) -> None:
    zoo(*PARENT_AND_CHILD)
    run(empty_url, "INSERT INTO parent VALUES (1000, 'real', false)")
    with psycopg.connect(empty_url) as connection:
        for _ in range(2):
            restore_snapshot(connection, NAME, settings=settings)
        connection.commit()
    assert run(empty_url, "SELECT count(*) FROM parent") == [(51,)]


def test_an_idle_connection_commits_nothing_by_itself(
    zoo: Callable[..., Any], empty_url: str, settings: Settings
) -> None:
    zoo(*PARENT_AND_CHILD)
    with psycopg.connect(empty_url) as connection:
        append_rows(connection, [TableRows("parent", ("id", "name"), [b"7000\tx\n"])])
        connection.rollback()
        run(empty_url, "DELETE FROM child", "DELETE FROM parent")
        restore_snapshot(connection, NAME, settings=settings)
        connection.rollback()
    assert run(empty_url, "SELECT count(*) FROM parent") == [(0,)]


class Base(DeclarativeBase):
    pass


class Parent(Base):
    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    is_test_data: Mapped[bool]


def test_a_session_gives_what_is_pending_and_reads_again(
    zoo: Callable[..., Any], empty_url: str, settings: Settings
) -> None:
    zoo(*PARENT_AND_CHILD)
    engine = sqlalchemy.create_engine(empty_url.replace("postgresql:", "postgresql+psycopg:"))
    with Session(engine) as session:
        session.add(Parent(id=60, name="pending", is_test_data=True))
        create_snapshot(session, NAME, settings=settings, replace=True)
        assert find_snapshot(NAME, settings).manifest.stats["parent"] == 51
        first = session.get_one(Parent, 1)
        first.name = "changed"
        restore_snapshot(session, NAME, settings=settings)
        assert first.name == "p1"
    engine.dispose()


def test_an_engine_goes_where_its_own_creator_goes(
    zoo: Callable[..., Any], empty_url: str, settings: Settings
) -> None:
    zoo(*PARENT_AND_CHILD)
    run(empty_url, "DELETE FROM child", "DELETE FROM parent")
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://nobody@nowhere.invalid/none",
        creator=lambda: psycopg.connect(empty_url),
    )
    assert restore_snapshot(engine, NAME, settings=settings).rows["parent"] == 50
    engine.dispose()
    assert run(empty_url, "SELECT count(*) FROM parent") == [(50,)]


def test_names_with_every_sign_are_only_names(zoo: Callable[..., Any]) -> None:
    restore = zoo(
        'CREATE SCHEMA "a.b"',
        f'CREATE TABLE "a.b"."c%s" ("i%d" int PRIMARY KEY, "q""" text, {FLAG})',
        f'CREATE TABLE "b.c" ("k%(x)s" int REFERENCES "a.b"."c%s", {FLAG})',
        "INSERT INTO \"a.b\".\"c%s\" VALUES (1, 'x', true), (2, 'real', false)",
        'INSERT INTO "b.c" VALUES (1, true), (2, true)',
    )
    assert restore() == {'"a.b".c%s': 1, '"b.c"': 2}


def test_a_callers_deferred_constraints_stay_deferred(
    zoo: Callable[..., Any], empty_url: str, settings: Settings
) -> None:
    """Those of other tables, and those of the tables that were loaded."""
    zoo(
        *PARENT_AND_CHILD,
        f"CREATE TABLE late (a int UNIQUE DEFERRABLE INITIALLY DEFERRED, {FLAG})",
        "CREATE TABLE other (a int PRIMARY KEY, b int)",
        "ALTER TABLE other ADD FOREIGN KEY (b) REFERENCES other DEFERRABLE INITIALLY DEFERRED",
    )
    with psycopg.connect(empty_url) as connection:
        restore_snapshot(connection, NAME, settings=settings)
        connection.execute("INSERT INTO other VALUES (1, 2)")
        connection.execute("INSERT INTO other VALUES (2, 1)")
        connection.execute("INSERT INTO late VALUES (1, true)")
        connection.execute("INSERT INTO late VALUES (1, true)")
        connection.execute("UPDATE late SET a = 2 WHERE ctid = (SELECT max(ctid) FROM late)")


def test_a_folder_in_the_place_of_a_snapshot_is_told(
    zoo: Callable[..., Any], empty_url: str, settings: Settings
) -> None:
    zoo(*PARENT_AND_CHILD)
    folder = settings.home / "snapshots" / "taken.json.zst"
    folder.mkdir()
    with pytest.raises(SnapshotError, match=r"taken\.json\.zst can't be written"):
        create_snapshot(empty_url, "taken", settings=settings)
    folder.rmdir()


def test_an_engine_that_cannot_connect_is_told_without_its_password(
    zoo: Callable[..., Any], settings: Settings
) -> None:
    zoo(*PARENT_AND_CHILD)
    engine = sqlalchemy.create_engine("postgresql+psycopg://u:secret@127.0.0.1:1/d")
    with pytest.raises(ConnectError, match="Connection refused") as caught:
        restore_snapshot(engine, NAME, settings=settings)
    assert "secret" not in str(caught.value)


def test_restores_beside_real_rows_do_not_grow_a_table(
    zoo: Callable[..., Any], empty_url: str
) -> None:
    """What one restore deletes, the next one fills again."""
    restore = zoo(
        f"CREATE TABLE wide (id int PRIMARY KEY, filler text, {FLAG})",
        "INSERT INTO wide SELECT g, repeat('x', 500), true FROM generate_series(1, 2000) g",
    )
    run(empty_url, "INSERT INTO wide SELECT -g, repeat('y', 500) FROM generate_series(1, 2000) g")
    ((start,),) = run(empty_url, "SELECT pg_table_size('wide') + pg_indexes_size('wide')")
    sizes = []
    for _ in range(6):
        restore()
        ((size,),) = run(empty_url, "SELECT pg_table_size('wide') + pg_indexes_size('wide')")
        sizes.append(size / start)
    assert max(sizes) < 1.5
    assert max(sizes[2:]) <= max(sizes[:2])
    assert run(empty_url, "SELECT count(*) FROM wide WHERE NOT is_test_data") == [(2000,)]


def test_rows_of_inheriting_tables_are_not_emptied_with_their_parents(
    zoo: Callable[..., Any], empty_url: str
) -> None:
    restore = zoo(
        f"CREATE TABLE base (id int, {FLAG})",
        "INSERT INTO base VALUES (1, true)",
        "CREATE TABLE derived () INHERITS (base)",
    )
    run(empty_url, "INSERT INTO derived VALUES (2, false), (3, false)")
    for _ in range(2):
        restore()
    assert run(empty_url, "SELECT id FROM ONLY base") == [(1,)]
    assert run(empty_url, "SELECT id FROM derived ORDER BY 1") == [(2,), (3,)]
