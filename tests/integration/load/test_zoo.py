"""A zoo of schemas: every row comes back, and everything about the tables is as it was."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from perfdata import (
    LoadError,
    SchemaError,
    Settings,
    create_snapshot,
    delete_snapshot,
    restore_snapshot,
)
from tests.integration.databases import run
from tests.integration.inner import entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    RoundTrip = Callable[..., tuple[str, str, Any]]

NAME = "zoo_all"


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


def allowing(settings: Settings, url: str) -> Settings:
    """Allow what the guard allows a superuser of the embedded server."""
    return Settings(root=settings.root, home=settings.home, allow=(entry(url, "*"),))


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


def test_a_key_of_which_one_check_is_disabled_still_finds_rows_that_break_it(
    round_trip: RoundTrip, settings: Settings
) -> None:
    """It checks new rows or changed ones: half a key is no key that may stay as it is."""
    disabled = [*REFERENCING, "ALTER TABLE child DISABLE TRIGGER ALL"]
    _, target, _ = round_trip(disabled, [*REFERENCING_ROWS, ORPHAN])
    run(target, "TRUNCATE parent, child", "ALTER TABLE child ENABLE TRIGGER ALL")
    ((check,),) = run(
        target,
        "SELECT tgname FROM pg_trigger JOIN pg_proc p ON p.oid = tgfoid"
        " WHERE tgrelid = 'child'::regclass AND p.proname = 'RI_FKey_check_ins'",
    )
    run(target, f'ALTER TABLE child DISABLE TRIGGER "{check}"')
    before = run(target, KEY_STATES)
    with pytest.raises(LoadError, match="rows of child reference rows that do not exist"):
        restore_snapshot(target, "round_trip", settings=settings)
    assert run(target, KEY_STATES) == before
    assert run(target, "SELECT count(*) FROM child") == [(0,)]


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
    with owning(target, "parent", "child") as owner:
        allowed = allowing(settings, target)
        before = run(target, KEY_STATES)
        with pytest.raises(SchemaError, match=r"child_p_fkey of child\. Nothing was touched"):
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
    "CREATE EVENT TRIGGER watch ON ddl_command_end"
    " WHEN TAG IN ('ALTER TABLE', 'ALTER SEQUENCE', 'CREATE INDEX', 'REFRESH MATERIALIZED VIEW')"
    " EXECUTE FUNCTION see()",
    "CREATE TABLE numbered (id serial PRIMARY KEY, n int)",
    "CREATE MATERIALIZED VIEW numbers AS SELECT sum(n) FROM numbered",
)


def test_event_triggers_fire_and_are_told_or_stay_quiet(
    round_trip: RoundTrip, settings: Settings
) -> None:
    """From 17 on a superuser keeps them quiet; who can't is told that they fired."""
    rows = [*REFERENCING_ROWS, "INSERT INTO numbered (n) VALUES (1)",
            "REFRESH MATERIALIZED VIEW numbers"]  # fmt: skip
    _, target, _ = round_trip([EVENT[0], *EVENT[3:], *REFERENCING], rows)
    see = EVENT[1].format("INSERT INTO public.seen VALUES (now())")
    run(target, "TRUNCATE parent, child, numbered RESTART IDENTITY", see, EVENT[2], "TRUNCATE seen")
    restored = restore_snapshot(target, "round_trip", settings=settings)
    ((fired, version),) = run(
        target, "SELECT count(*) > 0, current_setting('server_version_num')::int FROM seen"
    )
    assert fired == (version < 170000)
    assert restored.notes == (
        ("event triggers fired when keys, triggers or indexes were dropped and recreated: watch",)
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
        said = r"have changed these definitions: table public\.child;"
        with pytest.raises(SchemaError, match=said):
            restore_snapshot(owner, "round_trip", settings=allowing(settings, target))
        assert run(target, "SELECT count(*) FROM child") == [(0,)]
        see = EVENT[1].format("NULL").replace("CREATE", "CREATE OR REPLACE", 1)
        run(target, see, "TRUNCATE parent, child")
        restored = restore_snapshot(owner, "round_trip", settings=allowing(settings, target))
        assert "event triggers fired" in restored.notes[0]


SEQUENCES = (
    "CREATE SEQUENCE free",
    'CREATE SEQUENCE "Down" INCREMENT -3',
    "CREATE SEQUENCE untouched",
    "CREATE SEQUENCE round MAXVALUE 5 CYCLE",
    "CREATE SEQUENCE shared",
    "CREATE TABLE a (id int PRIMARY KEY DEFAULT nextval('shared'))",
    "CREATE TABLE b (id bigint DEFAULT nextval('shared'), n numeric DEFAULT nextval('shared'))",
    "CREATE TABLE ident (id int GENERATED ALWAYS AS IDENTITY, v int,"
    " w int GENERATED BY DEFAULT AS IDENTITY (START 100))",
    "CREATE TABLE small (id smallserial)",
    "CREATE TABLE parted (id int GENERATED BY DEFAULT AS IDENTITY, p int) PARTITION BY LIST (p)",
    "CREATE TABLE parted_1 PARTITION OF parted DEFAULT",
)
NEXT = {
    "free": "SELECT nextval('free')",
    "down": "SELECT nextval('\"Down\"')",
    "untouched": "SELECT nextval('untouched')",
    "round": "SELECT nextval('round')",
    "shared": "INSERT INTO a DEFAULT VALUES RETURNING id",
    "always": "INSERT INTO ident DEFAULT VALUES RETURNING id",
    "default": "INSERT INTO ident DEFAULT VALUES RETURNING w",
    "parted": "INSERT INTO parted DEFAULT VALUES RETURNING id",
}


def test_sequences_owned_and_free_go_on_where_nothing_is_taken(round_trip: RoundTrip) -> None:
    _, target, _ = round_trip(
        SEQUENCES,
        [
            "SELECT nextval('free') FROM generate_series(1, 41)",
            "SELECT nextval('\"Down\"') FROM generate_series(1, 3)",
            "SELECT setval('round', 3)",
            "INSERT INTO a VALUES (7)",
            "INSERT INTO b VALUES (12.0, 'NaN'), (3, 99.5), (1000000, -1)",
            "INSERT INTO ident OVERRIDING SYSTEM VALUE VALUES (5, 1, 250), (6, 2, 2)",
            "SELECT setval('ident_id_seq', 1000)",
            "INSERT INTO small VALUES (32767), (-4)",
            "INSERT INTO parted VALUES (17, 1), (18, 2)",
        ],
    )
    found = {name: run(target, statement)[0][0] for name, statement in NEXT.items()}
    assert found == {
        "free": 42, "down": -10, "untouched": 1, "round": 4, "shared": 1000001,
        "always": 1001, "default": 252, "parted": 19,
    }  # fmt: skip
    with pytest.raises(psycopg.errors.SequenceGeneratorLimitExceeded):
        run(target, "INSERT INTO small DEFAULT VALUES")


def test_sequences_are_as_before_where_a_restore_fails(
    round_trip: RoundTrip, settings: Settings
) -> None:
    """Also one that was used up: ALTER SEQUENCE and the nextval after it are both undone."""
    _, target, _ = round_trip(
        [*SEQUENCES[:1], *REFERENCING, "CREATE SEQUENCE short MAXVALUE 3",
         "CREATE TABLE short_ids (id int PRIMARY KEY DEFAULT nextval('short'))"],
        [*REFERENCING_ROWS, "SELECT setval('free', 900)", "SELECT setval('short', 3)",
         "INSERT INTO short_ids VALUES (3)"],
    )  # fmt: skip
    run(
        target,
        "TRUNCATE parent, child, short_ids",
        "ALTER SEQUENCE free RESTART WITH 5",
        "ALTER SEQUENCE short RESTART WITH 2",
        "CREATE MATERIALIZED VIEW broken AS SELECT 1 / (1 - count(*)) AS x FROM short_ids",
    )
    with pytest.raises(LoadError, match="division by zero"):
        restore_snapshot(target, "round_trip", settings=settings)
    assert run(target, "SELECT last_value, is_called FROM free") == [(5, False)]
    assert run(target, "SELECT last_value, is_called FROM short") == [(2, False)]
    run(target, "DROP MATERIALIZED VIEW broken", "DROP SEQUENCE free")
    with pytest.raises(SchemaError, match="sequences free are not in the database"):
        restore_snapshot(target, "round_trip", settings=settings)


def test_a_sequence_that_is_ahead_is_not_put_back(
    round_trip: RoundTrip, settings: Settings
) -> None:
    _, target, _ = round_trip([SEQUENCES[0], *REFERENCING], ["SELECT setval('free', 41)"])
    run(target, "SELECT setval('free', 5000)")
    restore_snapshot(target, "round_trip", settings=settings)
    assert run(target, "SELECT last_value FROM free") == [(5000,)]


VIEWS = (
    *REFERENCING,
    "CREATE TABLE part (p int) PARTITION BY LIST (p)",
    "CREATE TABLE part_1 PARTITION OF part DEFAULT",
    # By name the last comes first: only the order of what they are made of is right.
    "CREATE MATERIALIZED VIEW z_base AS SELECT count(*) AS n FROM child WITH NO DATA",
    "CREATE VIEW between_them AS SELECT n + 1 AS n FROM z_base",
    "CREATE MATERIALIZED VIEW a_top AS SELECT n FROM between_them WITH NO DATA",
    "CREATE MATERIALIZED VIEW of_leaf AS SELECT count(*) AS n FROM part_1",
    "CREATE FUNCTION counted() RETURNS bigint STABLE LANGUAGE sql"
    " BEGIN ATOMIC SELECT count(*) FROM public.parent; END",
    "CREATE MATERIALIZED VIEW by_function AS SELECT counted() AS n",
    "CREATE MATERIALIZED VIEW empty AS SELECT count(*) AS n FROM parent WITH NO DATA",
    "CREATE MATERIALIZED VIEW of_nothing AS SELECT 5 AS n WITH NO DATA",
)


def test_materialised_views_are_refreshed_in_the_order_of_what_they_are_made_of(
    settings: Settings, databases: Any, digests: Callable[[str], Any]
) -> None:
    """Those that held something where the snapshot was made, or do so here."""
    source, target = databases.make("template0"), databases.make("template0")
    refresh = [
        f"REFRESH MATERIALIZED VIEW {name}"
        for name in ("z_base", "a_top", "of_leaf", "by_function", "of_nothing")
    ]
    run(source, *VIEWS, *REFERENCING_ROWS, "INSERT INTO part VALUES (1), (2)", *refresh)
    run(target, *VIEWS)
    create_snapshot(source, "views", all_rows=True, settings=settings)
    restored = restore_snapshot(target, "views", settings=settings)
    assert restored.notes == ()
    populated = "SELECT relname, relispopulated FROM pg_class WHERE relkind = 'm' ORDER BY 1"
    assert run(target, populated) == run(source, populated)
    run(source, "REFRESH MATERIALIZED VIEW empty")
    run(target, "REFRESH MATERIALIZED VIEW empty")
    assert digests(target) == digests(source)
    assert run(target, "SELECT n FROM a_top") == [(10,)]
    delete_snapshot("views", settings)


def test_a_materialised_view_of_another_owner_is_told(
    round_trip: RoundTrip, settings: Settings
) -> None:
    view = "CREATE MATERIALIZED VIEW theirs AS SELECT count(*) AS n FROM child"
    _, target, _ = round_trip(REFERENCING, REFERENCING_ROWS)
    run(target, "TRUNCATE parent, child", view)
    with owning(target, "parent", "child") as owner:
        restored = restore_snapshot(owner, "round_trip", settings=allowing(settings, target))
    assert restored.notes == ("materialised views of another owner were not refreshed: theirs",)


def test_what_a_snapshot_cannot_hold_is_named(empty_url: str, settings: Settings) -> None:
    """Large objects, rows of foreign tables, and what extensions keep in tables of their own."""
    run(
        empty_url,
        "CREATE EXTENSION file_fdw",
        "CREATE SERVER files FOREIGN DATA WRAPPER file_fdw",
        "CREATE FOREIGN TABLE elsewhere (a text) SERVER files OPTIONS (filename '/dev/null')",
        "CREATE TABLE here (a text, picture oid)",
        "INSERT INTO here SELECT 'x', lo_from_bytea(0, 'abc')",
    )
    made = create_snapshot(empty_url, NAME, all_rows=True, settings=settings, replace=True)
    assert made.manifest.notes == [
        "not in the snapshot: foreign tables, whose rows are on another server: elsewhere",
        "not in the snapshot: large objects: 1 (columns with their oids are)",
    ]
    assert made.manifest.stats == {"here": 1}
    run(
        empty_url,
        "CREATE TABLE part (a text) PARTITION BY LIST (a)",
        "CREATE FOREIGN TABLE far PARTITION OF part DEFAULT SERVER files"
        " OPTIONS (filename '/dev/null')",
    )
    with pytest.raises(SchemaError, match=r"partitions are foreign tables, .*: far"):
        create_snapshot(empty_url, NAME, all_rows=True, settings=settings, replace=True)
    made.path.unlink()


def test_a_foreign_partition_is_not_truncated_by_a_restore(
    round_trip: RoundTrip, settings: Settings
) -> None:
    _, target, _ = round_trip(
        ["CREATE TABLE part (a text) PARTITION BY LIST (a)",
         "CREATE TABLE near PARTITION OF part FOR VALUES IN ('x')"],
        ["INSERT INTO part VALUES ('x')"],
    )  # fmt: skip
    run(
        target,
        "TRUNCATE part",
        "CREATE EXTENSION file_fdw",
        "CREATE SERVER files FOREIGN DATA WRAPPER file_fdw",
        "CREATE FOREIGN TABLE far PARTITION OF part DEFAULT SERVER files"
        " OPTIONS (filename '/dev/null')",
    )
    with pytest.raises(SchemaError, match=r"partitions are foreign tables, .*: far"):
        restore_snapshot(target, "round_trip", settings=settings)


def test_tables_of_extensions_are_their_own(empty_url: str, settings: Settings) -> None:
    """They are left alone; what an extension would have pg_dump save is noted."""
    run(
        empty_url,
        "CREATE EXTENSION pg_trgm",
        "CREATE TABLE theirs (id int PRIMARY KEY)",
        "CREATE SEQUENCE their_numbers",
        "ALTER EXTENSION pg_trgm ADD TABLE theirs",
        "ALTER EXTENSION pg_trgm ADD SEQUENCE their_numbers",
        "UPDATE pg_extension SET extconfig = ARRAY['theirs'::regclass::oid],"
        " extcondition = '{\"\"}' WHERE extname = 'pg_trgm'",
        "INSERT INTO theirs VALUES (1)",
        "CREATE TABLE ours (id int)",
    )
    made = create_snapshot(empty_url, NAME, all_rows=True, settings=settings, replace=True)
    assert made.manifest.stats == {"ours": 0}
    assert made.manifest.sequences == {}
    assert made.manifest.notes == ["not in the snapshot: tables of extensions: theirs"]
    run(empty_url, "ALTER TABLE ours ADD CONSTRAINT tied FOREIGN KEY (id) REFERENCES theirs")
    with pytest.raises(SchemaError, match="tie the tables to an extension's: foreign key tied"):
        restore_snapshot(empty_url, NAME, settings=settings)
    made.path.unlink()


def test_thousands_of_sequences_are_read(round_trip: RoundTrip) -> None:
    make = "DO $$ BEGIN FOR n IN 1..3000 LOOP EXECUTE 'CREATE SEQUENCE s' || n; END LOOP; END $$"
    move = "SELECT setval('s2999', 77)"
    _, target, _ = round_trip(["CREATE TABLE t (a int)", make], [move])
    assert run(target, "SELECT nextval('s2999'), nextval('s2998')") == [(78, 1)]


@pytest.mark.parametrize("forced", [False, True])
def test_rows_that_row_security_hides_are_an_error_not_a_smaller_snapshot(
    empty_url: str, settings: Settings, forced: bool
) -> None:
    """The owner sees all, unless the policies are forced on the owner too."""
    run(
        empty_url,
        "CREATE TABLE secret (id int PRIMARY KEY, own boolean)",
        "INSERT INTO secret SELECT g, g % 2 = 0 FROM generate_series(1, 10) g",
        "CREATE POLICY own_only ON secret USING (own)",
        "ALTER TABLE secret ENABLE ROW LEVEL SECURITY",
    )
    if forced:
        run(empty_url, "ALTER TABLE secret FORCE ROW LEVEL SECURITY")
    with owning(empty_url, "secret") as owner:
        if forced:
            with pytest.raises(SchemaError, match="hides rows from this role: secret"):
                create_snapshot(owner, NAME, all_rows=True, settings=settings, replace=True)
            create_snapshot(empty_url, NAME, all_rows=True, settings=settings, replace=True)
            with pytest.raises(SchemaError, match="hides rows from this role: secret"):
                restore_snapshot(owner, NAME, settings=allowing(settings, empty_url))
        else:
            made = create_snapshot(owner, NAME, all_rows=True, settings=settings, replace=True)
            assert made.manifest.stats == {"secret": 10}
            run(empty_url, "TRUNCATE secret")
            assert restore_snapshot(owner, NAME, settings=allowing(settings, empty_url)).rows == {
                "secret": 10
            }


ZOO = (
    # Cycles, a tree, keys that wait, keys that some rows break.
    "CREATE TABLE hens (id int PRIMARY KEY, egg int)",
    "CREATE TABLE eggs (id int PRIMARY KEY, hen int NOT NULL REFERENCES hens)",
    "ALTER TABLE hens ADD FOREIGN KEY (egg) REFERENCES eggs DEFERRABLE",
    "CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree ON DELETE CASCADE)",
    "CREATE TABLE late (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, up int,"
    " UNIQUE (up) DEFERRABLE)",
    "CREATE TABLE pairs (a int, b int, PRIMARY KEY (b, a))",
    "CREATE TABLE of_pairs (x int, y int, n int DEFAULT 5,"
    " FOREIGN KEY (x, y) REFERENCES pairs MATCH FULL ON DELETE SET NULL ON UPDATE CASCADE)",
    "CREATE TABLE unproven (id int, CONSTRAINT id_valid CHECK (id > 0))",
    "ALTER TABLE unproven ADD CONSTRAINT in_tree FOREIGN KEY (id) REFERENCES tree NOT VALID",
    "COMMENT ON CONSTRAINT in_tree ON unproven IS 'some day'",
    "ALTER TABLE unproven ADD CONSTRAINT below CHECK (id < 50) NOT VALID",
    "COMMENT ON CONSTRAINT below ON unproven IS 'old rows are above'",
    # Constraints that are indexes.
    "CREATE TABLE rooms (during tsrange, EXCLUDE USING gist (during WITH &&) WHERE"
    " (NOT isempty(during)))",
    "CREATE TABLE once (a int, b text, UNIQUE NULLS NOT DISTINCT (a), UNIQUE (b))",
    "CREATE UNIQUE INDEX once_upper ON once (upper(b)) INCLUDE (a) WHERE a > 0",
    "CREATE INDEX once_spare ON once USING brin (a)",
    # Columns that make themselves.
    "CREATE TABLE made (a int, b int GENERATED ALWAYS AS (a * 2) STORED,"
    " i int GENERATED ALWAYS AS IDENTITY (START 7 INCREMENT 7) UNIQUE, z text DEFAULT 'z')",
    # Inheritance, many partitions, one of another order of columns, one elsewhere.
    "CREATE SCHEMA elsewhere",
    "CREATE TABLE base (id int, note text)",
    "CREATE TABLE derived (extra int, CHECK (extra > 0)) INHERITS (base)",
    "CREATE TABLE twice_derived (more json) INHERITS (derived)",
    "CREATE TYPE colour AS ENUM ('red', 'green', 'blue', 'black', 'white', 'grey', 'pink')",
    "CREATE TABLE parts (at date, kind colour, n int, PRIMARY KEY (at, kind, n))"
    " PARTITION BY RANGE (at)",
    "CREATE TABLE parts_old PARTITION OF parts FOR VALUES FROM (MINVALUE) TO ('2020-01-01')",
    "CREATE TABLE parts_new PARTITION OF parts FOR VALUES FROM ('2020-01-01') TO (MAXVALUE)"
    " PARTITION BY HASH (kind)",
    "CREATE TABLE elsewhere.parts_0 PARTITION OF parts_new"
    " FOR VALUES WITH (MODULUS 3, REMAINDER 0)",
    "CREATE TABLE parts_1 PARTITION OF parts_new FOR VALUES WITH (MODULUS 3, REMAINDER 1)",
    "CREATE TABLE parts_2 (n int NOT NULL, gone int, kind colour NOT NULL, at date NOT NULL)",
    "ALTER TABLE parts_2 DROP COLUMN gone",
    "ALTER TABLE parts_new ATTACH PARTITION parts_2 FOR VALUES WITH (MODULUS 3, REMAINDER 2)",
    "CREATE INDEX parts_n ON parts (n)",
    "COMMENT ON INDEX parts_1_n_idx IS 'of one partition'",
    "CREATE TABLE of_parts (at date, kind colour, n int,"
    " FOREIGN KEY (at, kind, n) REFERENCES parts)",
    # What a table may be besides.
    "CREATE UNLOGGED TABLE passing (id int PRIMARY KEY)",
    "CREATE TYPE shape AS (a int, b text)",
    "CREATE TABLE shaped OF shape (a WITH OPTIONS PRIMARY KEY)",
    "CREATE TABLE elsewhere.tree (id bigint, big text) WITH (fillfactor = 40)",
    "ALTER TABLE elsewhere.tree ALTER big SET STORAGE EXTERNAL, REPLICA IDENTITY FULL",
    "CREATE STATISTICS elsewhere.together ON id, big FROM elsewhere.tree",
    "CREATE TABLE guarded (id int, who text)",
    "ALTER TABLE guarded ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY own ON guarded USING (who = current_user)",
    "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'fired'; END $$",
    "CREATE CONSTRAINT TRIGGER checked AFTER INSERT ON tree DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION no()",
    "CREATE TRIGGER counted AFTER INSERT ON tree REFERENCING NEW TABLE AS added"
    " FOR EACH STATEMENT EXECUTE FUNCTION no()",
    "CREATE VIEW seen AS SELECT b, a, count(*) FROM pairs GROUP BY b, a",
    "CREATE VIEW grouped AS SELECT id, up FROM tree GROUP BY id",
    "CREATE MATERIALIZED VIEW kinds AS SELECT kind, count(*) AS n FROM parts GROUP BY kind",
    "CREATE UNIQUE INDEX kinds_kind ON kinds (kind)",
)
ZOO_18 = (
    "ALTER TABLE unproven ADD CONSTRAINT there NOT NULL id NOT VALID",
    "CREATE TABLE made_now (a int, v int GENERATED ALWAYS AS (a + 1) VIRTUAL)",
    "CREATE TABLE unenforced (id int, CONSTRAINT loose FOREIGN KEY (id) REFERENCES tree"
    " NOT ENFORCED, CHECK (id > 0) NOT ENFORCED)",
    "CREATE EXTENSION btree_gist",
    "CREATE TABLE prices (id int, during daterange, PRIMARY KEY (id, during WITHOUT OVERLAPS))",
    "CREATE TABLE sales (id int, during daterange, FOREIGN KEY (id, PERIOD during)"
    " REFERENCES prices (id, PERIOD during))",
)
ZOO_ROWS = (
    "SET session_replication_role = replica",
    "INSERT INTO hens VALUES (1, 2), (2, 1), (3, NULL)",
    "INSERT INTO eggs VALUES (1, 1), (2, 3)",
    "INSERT INTO tree VALUES (9, 1), (1, NULL), (4, 9), (5, 5)",
    "INSERT INTO late VALUES (1, 2), (2, 1)",
    "INSERT INTO pairs SELECT a, b FROM generate_series(1, 4) a, generate_series(1, 4) b",
    "INSERT INTO of_pairs VALUES (1, 2, 3), (NULL, NULL, NULL)",
    "ALTER TABLE unproven DROP CONSTRAINT below",
    "INSERT INTO unproven VALUES (1), (77)",
    "ALTER TABLE unproven ADD CONSTRAINT below CHECK (id < 50) NOT VALID",
    "INSERT INTO rooms VALUES ('[2024-01-01,2024-01-02)'), ('empty'), ('empty'), (NULL)",
    "INSERT INTO once VALUES (NULL, NULL), (1, 'a'), (2, 'B')",
    "INSERT INTO made (a, z) VALUES (1, NULL), (NULL, 'x'), (3, DEFAULT)",
    "INSERT INTO base VALUES (1, 'base')",
    "INSERT INTO derived VALUES (2, 'derived', 3)",
    "INSERT INTO twice_derived VALUES (3, 'twice', 4, '{\"a\" : 1}')",
    "INSERT INTO parts SELECT d, k, n FROM unnest(ARRAY['2019-05-05', '2024-01-01']::date[]) d,"
    " unnest(enum_range(NULL::colour)) k, generate_series(1, 3) n",
    "INSERT INTO of_parts SELECT * FROM parts WHERE n = 2",
    "INSERT INTO passing VALUES (1)",
    "INSERT INTO shaped VALUES (1, 'shape')",
    "INSERT INTO elsewhere.tree VALUES (1, repeat('long', 5000))",
    "INSERT INTO guarded VALUES (1, 'somebody')",
    "REFRESH MATERIALIZED VIEW kinds",
)
ZOO_ROWS_18 = (
    "ALTER TABLE unproven DROP CONSTRAINT there",
    "INSERT INTO unproven VALUES (NULL)",
    "ALTER TABLE unproven ADD CONSTRAINT there NOT NULL id NOT VALID",
    "INSERT INTO made_now (a) VALUES (1), (NULL)",
    "INSERT INTO unenforced VALUES (-5), (88)",
    "INSERT INTO prices VALUES (1, '[2024-01-01,2024-02-01)'), (1, '[2024-02-01,2024-03-01)')",
    "INSERT INTO sales VALUES (1, '[2024-01-15,2024-02-15)')",
)


def test_the_whole_zoo_comes_back_and_its_schema_stays(
    round_trip: RoundTrip,
    empty_url: str,
    schema_of: Callable[[str], str],
) -> None:
    """Beside the rows nothing differs that pg_dump would write."""
    newest = run(empty_url, "SHOW server_version_num")[0][0] >= "180000"
    schema = [*ZOO, *(ZOO_18 if newest else ())]
    run(empty_url, *schema)
    source, target, restored = round_trip(schema, [*ZOO_ROWS, *(ZOO_ROWS_18 if newest else ())])
    assert schema_of(target) == schema_of(empty_url)
    assert restored.notes == ()
    for label, kinds in run(source, "SELECT kind::text, n FROM kinds"):
        assert run(target, f"SELECT count(*) FROM parts WHERE kind = '{label}'") == [(kinds,)]
    assert run(target, "SELECT count(id), min(id), max(id) FROM unproven") == [(2, 1, 77)]
    assert run(target, "INSERT INTO made DEFAULT VALUES RETURNING i") == [(28,)]
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        run(target, "INSERT INTO unproven VALUES (28)")
    with pytest.raises(psycopg.errors.CheckViolation, match="below"):
        run(target, "INSERT INTO unproven VALUES (78)")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        run(target, "DELETE FROM parts WHERE n = 2")
    with pytest.raises(psycopg.errors.RaiseException, match="fired"):
        run(target, "INSERT INTO tree VALUES (100, 1)")


def test_emptying_a_table_leaves_those_that_inherit_from_it(
    empty_url: str, settings: Settings
) -> None:
    """A TRUNCATE without ONLY would empty them too."""
    run(
        empty_url,
        "CREATE TABLE base (id int, is_test_data boolean)",
        "CREATE TABLE derived (extra int) INHERITS (base)",
        "INSERT INTO base SELECT g, true FROM generate_series(1, 5) g",
        "INSERT INTO derived SELECT g, g > 7, g FROM generate_series(6, 9) g",
    )
    made = create_snapshot(empty_url, NAME, settings=settings, replace=True)
    assert made.manifest.stats == {"base": 5, "derived": 2}
    for _ in range(2):
        restore_snapshot(empty_url, NAME, settings=settings)
        assert run(empty_url, "SELECT count(*) FROM ONLY base") == [(5,)]
        assert run(empty_url, "SELECT array_agg(id ORDER BY id) FROM derived") == [([6, 7, 8, 9],)]
    made.path.unlink()


def test_indexes_are_built_where_they_were(
    round_trip: RoundTrip,
    settings: Settings,
    own: Callable[[str], None],
    schema_of: Callable[[str], str],
) -> None:
    """Not in a database's default tablespace; one that hangs on an extension is left alone."""
    _, target, _ = round_trip(
        ["CREATE EXTENSION pg_trgm",
         "CREATE TABLE words (id int PRIMARY KEY, word text)",
         "CREATE INDEX plain ON words (word)",
         "CREATE INDEX hanging ON words USING gin (word gin_trgm_ops)",
         "ALTER INDEX hanging DEPENDS ON EXTENSION pg_trgm",
         "CREATE INDEX computed ON words (lower(word))",
         "CREATE TABLE parted (id int, p int) PARTITION BY LIST (p)",
         "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1)",
         "CREATE INDEX over_all ON parted (id)",
         "CREATE UNIQUE INDEX broken ON parted_1 (id)",
         "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass"],
        ["INSERT INTO words SELECT g, md5(g::text) FROM generate_series(1, 500) g",
         "INSERT INTO parted SELECT g, 1 FROM generate_series(1, 5) g"],
    )  # fmt: skip
    name = psycopg.conninfo.conninfo_to_dict(target)["dbname"]
    run(target, "TRUNCATE words, parted")
    space = f"space_of_{name}"
    run(target, "SET allow_in_place_tablespaces = on", f"CREATE TABLESPACE {space} LOCATION ''",
        f"ALTER DATABASE \"{name}\" SET default_tablespace = '{space}'")  # fmt: skip
    oids = "SELECT relname, oid FROM pg_class WHERE relkind IN ('i', 'I') AND relnamespace = 2200"
    before, indexes = schema_of(target), dict(run(target, oids))
    own(target)
    restore_snapshot(target, "round_trip", settings=settings)
    assert schema_of(target) == before
    rebuilt = {key for key, oid in run(target, oids) if indexes[key] != oid}
    assert rebuilt == {"words_pkey", "plain", "computed"}
    analysed = "SELECT count(*) FROM pg_stats WHERE tablename = 'computed'"
    assert run(target, analysed) == [(1,)]
    run(target, f'ALTER DATABASE "{name}" RESET ALL', f"DROP TABLESPACE {space}")
