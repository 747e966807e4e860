"""The planner's statistics travel with a snapshot: the same plans, and no ANALYZE."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import zstandard

from perfdata import (
    Settings,
    Target,
    build_dataset,
    create_snapshot,
    find_snapshot,
    open_target,
    restore_snapshot,
    verify_snapshot,
)
from tests.homes import discard_server
from tests.integration.databases import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.conftest import Databases

OTHER_BIN = Path("/usr/lib/postgresql/15/bin")

COLUMNS = """
SELECT tablename, attname, to_jsonb(s) FROM pg_stats s
WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY 1, 2"""
SIZES = """
SELECT c.relname, c.relpages, c.reltuples, c.relallvisible, pg_relation_size(c.oid)
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'i')
  AND c.relname !~ 'alembic' ORDER BY 1"""
ANALYSED = "SELECT relname FROM pg_stat_user_tables WHERE last_analyze IS NOT NULL ORDER BY 1"
QUERIES = (
    "SELECT * FROM staffs WHERE role = 'manager' AND last_name = '田中'",
    "SELECT * FROM support_plan_cycles WHERE next_renewal_deadline < '2026-06-01'"
    " ORDER BY next_renewal_deadline",
    "SELECT o.name, count(*) FROM offices o JOIN office_staffs s ON s.office_id = o.id GROUP BY 1",
    "SELECT * FROM welfare_recipients r JOIN support_plan_cycles c ON c.welfare_recipient_id = r.id"
    " WHERE r.birth_day > '1990-01-01' AND c.is_latest_cycle",
    "SELECT * FROM welfare_recipients WHERE last_name_furigana || first_name_furigana"
    " LIKE '%サト%'",
)


def plans(url: str) -> list[list[tuple[Any, ...]]]:
    return [run(url, f"EXPLAIN (COSTS ON) {query}") for query in QUERIES]


def carried(name: str, settings: Settings) -> dict[str, Any] | None:
    """Return the statistics of a snapshot's file, which is one JSON document."""
    data = find_snapshot(name, settings).path.read_bytes()
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as document:
        found: dict[str, Any] | None = json.load(document).get("statistics")
    return found


@pytest.fixture
def new(database_url: str) -> bool:
    """Whether the server takes statistics."""
    return bool(run(database_url, "SHOW server_version_num")[0][0] >= "180000")


@pytest.fixture
def loaded(loaded_url: Callable[[str], str]) -> str:
    return loaded_url("10_offices")


def test_statistics_and_plans_are_the_same_and_nothing_is_analysed(
    loaded: str, database_url: str, settings: Settings, own: Callable[[str], None], new: bool
) -> None:
    own(database_url)
    run(loaded, "CREATE INDEX upper_mail ON staffs (upper(email))", "VACUUM ANALYZE")
    run(database_url, "CREATE INDEX upper_mail ON staffs (upper(email))")
    create_snapshot(loaded, "known", replace=True, settings=settings)
    assert (carried("known", settings) is not None) == new
    for _ in range(2):
        restored = restore_snapshot(database_url, "known", settings=settings)
        assert restored.strategy == "whole tables"
        assert run(database_url, SIZES) == run(loaded, SIZES)
        assert plans(database_url) == plans(loaded)
        if new:
            assert run(database_url, COLUMNS) == run(loaded, COLUMNS)
            assert run(database_url, ANALYSED) == []
        else:
            assert ("staffs",) in run(database_url, ANALYSED)
    expressions = run(database_url, "SELECT 1 FROM pg_stats WHERE tablename = 'upper_mail'")
    assert len(expressions) == 1


def test_templates_carry_them_too(
    loaded: str, database_url: str, settings: Settings, new: bool
) -> None:
    create_snapshot(loaded, "known", replace=True, settings=settings)
    for _ in range(2):
        restore_snapshot(database_url, "known", fresh=True, settings=settings)
        assert run(database_url, SIZES) == run(loaded, SIZES)
        assert plans(database_url) == plans(loaded)
        if new:
            assert run(database_url, COLUMNS) == run(loaded, COLUMNS)
        assert run(
            database_url,
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 't') AND relpages > 0"
            " AND relnamespace IN ('public'::regnamespace, 'pg_toast'::regnamespace)"
            " AND oid >= 16384 AND relname <> 'alembic_version' AND relallvisible <> relpages",
        ) == []  # fmt: skip


def test_a_template_without_them_is_analysed_row_by_row(empty_url: str, settings: Settings) -> None:
    """At the default target ANALYZE would read 30,000 of these rows, other ones each time."""
    run(
        empty_url,
        "CREATE TABLE many (id int, half int, is_test_data boolean DEFAULT true)",
        "INSERT INTO many SELECT n, n / 2 FROM generate_series(1, 40000) n",
    )
    create_snapshot(empty_url, "many", replace=True, settings=settings)
    found = []
    known = "SELECT to_jsonb(s) FROM pg_stats s WHERE tablename = 'many' ORDER BY attname DESC"
    for number in range(2):
        run(empty_url, f"CREATE STATISTICS s{number} ON id, half FROM many")  # another template
        restore_snapshot(empty_url, "many", fresh=True, settings=settings)
        found.append(run(empty_url, known))
    assert found[0] == found[1]
    assert len(found[0][1][0]["histogram_bounds"]) == 135  # 40,000 / 300, and one


def test_every_kind_of_statistic_is_carried(
    databases: Databases, empty_url: str, settings: Settings, new: bool
) -> None:
    """Common values, histograms, elements of arrays and texts, bounds and lengths of ranges."""
    tables = (
        "CREATE TYPE mood AS ENUM ('so,so', 'a \"b\"')",
        'CREATE TABLE "Kinds, all" (id int PRIMARY KEY, mood mood, many text[], words tsvector,'
        " span int4range, spans datemultirange, doc jsonb, price numeric, at timestamptz,"
        " raw bytea, place point, fixed char(5))",
        'CREATE INDEX by_words ON "Kinds, all" USING gin (words)',
        "CREATE INDEX by_length ON \"Kinds, all\" (length(raw), (doc->>'n')) WHERE id > 10",
    )
    other = databases.make("template0")
    for url in (empty_url, other):
        run(url, *tables)
    run(
        empty_url,
        """INSERT INTO "Kinds, all" SELECT n, (ARRAY['so,so', 'a "b"'])[n % 2 + 1]::mood,
          ARRAY['x' || n % 7, 'y' || n % 3, NULL], to_tsvector('simple', 'word' || n % 9 || ' all'),
          CASE WHEN n % 5 > 0 THEN int4range(n, n + n % 40) ELSE 'empty' END,
          datemultirange(daterange('2026-01-01', '2026-01-02'::date + n)),
          jsonb_build_object('n', n % 4), n / 7.0, '2026-01-01'::timestamptz + n * interval '1 h',
          decode(md5(n::text), 'hex'), point(n, -n), 'f' || n % 11
        FROM generate_series(1, 3000) n""",
        "ANALYZE",
    )
    create_snapshot(empty_url, "kinds", all_rows=True, replace=True, settings=settings)
    restore_snapshot(other, "kinds", settings=settings)
    assert run(other, COLUMNS) == run(empty_url, COLUMNS)
    if new:
        assert run(other, ANALYSED) == []


def test_the_visibility_map_is_set(loaded: str, database_url: str, settings: Settings) -> None:
    create_snapshot(loaded, "known", replace=True, settings=settings)
    restore_snapshot(database_url, "known", settings=settings)
    assert run(
        database_url,
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname <> 'alembic_version'"
        " AND relnamespace = 'public'::regnamespace AND relallvisible <> relpages",
    ) == []  # fmt: skip
    assert run(database_url, "SELECT relallvisible > 0 FROM pg_class WHERE relname = 'staffs'") == [
        (True,)
    ]


def test_what_was_known_before_is_gone(
    loaded: str, database_url: str, settings: Settings, loaded_url: Callable[[str], str]
) -> None:
    """A column that has no most common values any more keeps none of earlier rows."""
    create_snapshot(loaded, "known", replace=True, settings=settings)
    other = loaded_url("10_offices")
    run(other, "UPDATE staffs SET email = 'x' || id, full_name = 'one'", "VACUUM ANALYZE")
    before = run(other, COLUMNS)
    restore_snapshot(other, "known", settings=settings)
    assert before != run(loaded, COLUMNS)
    restore_snapshot(database_url, "known", settings=settings)
    assert run(other, COLUMNS) == run(database_url, COLUMNS)


def test_a_rollback_takes_the_statistics_back(
    loaded: str, loaded_url: Callable[[str], str], settings: Settings
) -> None:
    create_snapshot(loaded, "known", replace=True, settings=settings)
    other = loaded_url("10_offices")
    run(other, "UPDATE staffs SET full_name = 'one'", "VACUUM ANALYZE")
    before = run(other, COLUMNS), run(other, SIZES)
    with psycopg.connect(other) as connection:
        restore_snapshot(connection, "known", settings=settings)
        connection.rollback()
    assert (run(other, COLUMNS), run(other, SIZES)) == before


def test_a_callers_transaction_gets_them_too(
    loaded: str, database_url: str, settings: Settings, new: bool
) -> None:
    create_snapshot(loaded, "known", replace=True, settings=settings)
    with psycopg.connect(database_url) as connection:
        restore_snapshot(connection, "known", settings=settings)
    if new:
        assert run(database_url, COLUMNS) == run(loaded, COLUMNS)
    assert run(database_url, ANALYSED) == []


def test_extended_statistics_are_analysed(
    loaded: str, database_url: str, settings: Settings, new: bool
) -> None:
    extended = "CREATE STATISTICS both_names (dependencies) ON last_name, first_name FROM staffs"
    for url in (loaded, database_url):
        run(url, extended)
    run(loaded, "ANALYZE staffs")
    create_snapshot(loaded, "known", replace=True, settings=settings)
    restore_snapshot(database_url, "known", settings=settings)
    assert len(run(database_url, "SELECT 1 FROM pg_stats_ext WHERE dependencies IS NOT NULL")) == 1
    if new:
        assert run(database_url, ANALYSED) == [("staffs",)]


def test_tables_that_are_indexed_otherwise_are_analysed(
    loaded: str, database_url: str, settings: Settings, new: bool
) -> None:
    run(database_url, "CREATE INDEX lower_name ON offices (lower(name))")
    create_snapshot(loaded, "known", replace=True, settings=settings)
    restore_snapshot(database_url, "known", settings=settings)
    assert len(run(database_url, "SELECT 1 FROM pg_stats WHERE tablename = 'lower_name'")) == 1
    if new:
        assert run(database_url, ANALYSED) == [("offices",)]


def test_rows_that_stay_are_analysed_with_the_rest(
    loaded: str, database_url: str, settings: Settings, own: Callable[[str], None], new: bool
) -> None:
    """What was known of the snapshot's rows is not true of a table that holds others too."""
    own(database_url)
    create_snapshot(loaded, "known", replace=True, settings=settings)
    run(
        database_url,
        "INSERT INTO staffs (id, email, hashed_password, full_name, role) VALUES"
        " ('00000000-0000-4000-8000-000000000001', 'real@real.test', 'x', 'r', 'owner')",
    )
    restore_snapshot(database_url, "known", settings=settings)
    if new:
        assert run(database_url, ANALYSED) == [("staffs",)]
    # And from there only the tables that are whole in the snapshot bring any.
    create_snapshot(database_url, "known", replace=True, settings=settings)
    found = carried("known", settings)
    assert (found is not None) == new
    if found:
        names = [relation["name"] for relation in found["relations"]]
        assert "staffs" not in names
        assert len(names) > 5


def test_outdated_and_absent_statistics_are_left_behind(
    loaded: str, database_url: str, settings: Settings, new: bool
) -> None:
    """A tenth of the rows and fifty more: from there on autovacuum would analyse the table too."""
    run(
        loaded,
        "DELETE FROM support_plan_cycles WHERE id > 30",
        "VACUUM offices",
        "DELETE FROM pg_statistic WHERE starelid = 'offices'::regclass",
    )
    create_snapshot(loaded, "known", replace=True, settings=settings)
    restore_snapshot(database_url, "known", settings=settings)
    if new:
        assert run(database_url, ANALYSED) == [("offices",), ("support_plan_cycles",)]
    rows = "SELECT reltuples FROM pg_class WHERE relname = 'support_plan_cycles'"
    assert run(database_url, rows) == [(30.0,)]


def test_an_owner_is_enough(loaded: str, database_url: str, settings: Settings, new: bool) -> None:
    create_snapshot(loaded, "known", replace=True, settings=settings)
    name = database_url.rpartition("/")[2].partition("?")[0]
    run(
        database_url,
        "DROP ROLE IF EXISTS owns_tables",
        "CREATE ROLE owns_tables LOGIN",
        f"ALTER DATABASE {name} OWNER TO owns_tables",
        "DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT oid FROM pg_class WHERE relkind = 'r'"
        " AND relnamespace = 'public'::regnamespace LOOP"
        " EXECUTE format('ALTER TABLE %s OWNER TO owns_tables', t); END LOOP; END $$",
    )
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SET SESSION AUTHORIZATION owns_tables")
        restore_snapshot(connection, "known", settings=settings)
    if new:
        assert run(database_url, COLUMNS) == run(loaded, COLUMNS)
        assert run(database_url, ANALYSED) == []
    run(database_url, f"ALTER DATABASE {name} OWNER TO current_user")
    run(database_url, "REASSIGN OWNED BY owns_tables TO current_user", "DROP ROLE owns_tables")


@pytest.fixture
def other(tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[Target]:
    """A target on PostgreSQL 15, with a home of its own."""
    if not OTHER_BIN.is_dir():
        pytest.skip(f"no PostgreSQL 15 in {OTHER_BIN}")
    environ = {"PERFDATA_HOME": str(tmp_path / "home"), "PERFDATA_PG_BIN": str(OTHER_BIN)}
    settings = Settings.load(pytestconfig.rootpath, environ)
    try:
        yield open_target(settings)
    finally:
        discard_server(settings)


def test_a_snapshot_of_18_is_restored_into_15_and_back(
    loaded: str, database_url: str, settings: Settings, other: Target, new: bool
) -> None:
    path = create_snapshot(loaded, "known", replace=True, settings=settings).path
    folder = other.settings.home / "snapshots"
    folder.mkdir()
    shutil.copy(path, folder)
    restore_snapshot(other.conninfo, "known", settings=other.settings)
    assert len(run(other.conninfo, ANALYSED)) == 6
    rows = "SELECT relname, reltuples FROM pg_class WHERE relname ~ '^(staffs|offices)$' ORDER BY 1"
    assert run(other.conninfo, rows) == run(loaded, rows)
    # The other way: nothing is carried, so everything is analysed.
    build_dataset(other, "10_offices")
    assert carried("10_offices", other.settings) is None
    older = Path(shutil.copy(folder / "10_offices.json.zst", path.parent))
    verify_snapshot("10_offices", settings)
    restore_snapshot(database_url, "10_offices", settings=settings)
    older.unlink()  # other tests of this session build the dataset
    if new:
        assert len(run(database_url, ANALYSED)) == 6
