"""Snapshots of flagged rows: which column is the flag, what is left out, tables taken whole."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from invoke.context import Context
from invoke.exceptions import Exit
from psycopg import sql

from perfdata import (
    BoundaryError,
    RefusedError,
    SchemaError,
    Settings,
    create_snapshot,
    delete_snapshot,
    restore_snapshot,
)
from perfdata.load.selection import Selection
from perfdata.postgres.connection import open_link
from perfdata.postgres.reflection import read_catalog
from perfdata.tasks import snapshot
from tests.integration.databases import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "selected"
SCHEMA = (
    "CREATE TABLE countries (code text PRIMARY KEY, name json)",
    "CREATE TABLE ref_rates (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    " code text REFERENCES countries, is_fake boolean)",
    "CREATE TABLE shops (id int PRIMARY KEY, code text REFERENCES countries, is_fake boolean)",
    "CREATE TABLE logs (line text)",
    "CREATE TABLE favourites (code text PRIMARY KEY REFERENCES countries, shop int"
    " REFERENCES shops)",
)
ROWS = (
    """INSERT INTO countries VALUES ('jp', '{"b": 1,  "a": 2}'), ('ch', null), ('a,"\\', '[]')""",
    "INSERT INTO ref_rates (code, is_fake) VALUES ('jp', null), ('ch', false), ('ch', true)",
    "INSERT INTO shops VALUES (1, 'jp', true), (2, 'ch', true), (3, 'ch', false)",
    "INSERT INTO logs VALUES ('x')",
    "INSERT INTO favourites VALUES ('jp', 1)",
)


@pytest.fixture
def chosen(settings: Settings) -> Iterator[Settings]:
    """Settings that name another flag and tables to be taken whole."""
    yield replace(
        settings, flag_column="is_fake", whole_tables=("countries", "ref_*", "favourites")
    )
    (settings.home / "snapshots" / f"{NAME}.json.zst").unlink(missing_ok=True)


@pytest.fixture
def pair(databases: Any, chosen: Settings) -> tuple[str, str]:
    """A database whose snapshot was taken, and one with the same tables, empty."""
    source, target = databases.make("template0"), databases.make("template0")
    run(source, *SCHEMA, *ROWS)
    run(target, *SCHEMA)
    made = create_snapshot(source, NAME, settings=chosen)
    assert made.manifest.stats == {"countries": 3, "ref_rates": 3, "shops": 2, "favourites": 1}
    assert made.manifest.left_out == ["logs"]
    assert made.manifest.whole_tables == ["countries", "favourites", "ref_rates"]
    assert made.manifest.requires == ()
    return source, target


def test_real_rows_are_looked_for_by_the_flags_index(databases: Any) -> None:
    """Before each fresh restore: with IS NOT TRUE, every page of every table was read for it."""
    url = databases.make("template0")
    run(
        url,
        "CREATE TABLE shops (id int, is_fake boolean)",
        "INSERT INTO shops SELECT n, true FROM generate_series(1, 9000) n",
        "CREATE INDEX ON shops (is_fake)",
        "ANALYZE shops",
    )
    with open_link(url) as link:
        table = read_catalog(link).table("shops")
        unflagged = Selection("is_fake").unflagged(table)
        query = sql.SQL("EXPLAIN SELECT count(*) FROM {} WHERE {}").format(table.only, unflagged)
        plan = " ".join(row[0] for row in link.rows(query))
    assert "Index" in plan
    assert "Seq Scan" not in plan


def test_whole_tables_come_whole_beside_flagged_rows(
    pair: tuple[str, str], chosen: Settings, digests: Callable[[str], dict[str, Any]]
) -> None:
    source, target = pair
    assert restore_snapshot(target, NAME, settings=chosen).rows["countries"] == 3
    found, wanted = digests(target), digests(source)
    for key in ("public.countries", "public.ref_rates", "public.favourites"):
        assert found[key] == wanted[key]
    assert run(target, "SELECT id FROM shops ORDER BY 1") == [(1,), (2,)]
    added = "INSERT INTO ref_rates DEFAULT VALUES RETURNING id"
    assert run(target, added) == [(4,)]


@pytest.mark.parametrize("clean", [True, False])
def test_rows_that_the_snapshot_holds_just_so_are_replaced_by_themselves(
    pair: tuple[str, str], chosen: Settings, digests: Callable[[str], dict[str, Any]], clean: bool
) -> None:
    """Fewer rows, the same rows, flagged rows: all of them come back, and nothing is lost."""
    source, target = pair
    run(target, ROWS[0], "DELETE FROM countries WHERE code = 'ch'",
        "INSERT INTO ref_rates VALUES (DEFAULT, 'jp', true)",
        "INSERT INTO shops VALUES (9, 'jp', false)", *ROWS[3:4])  # fmt: skip
    for _ in range(2):
        restore_snapshot(target, NAME, clean_existing=clean, settings=chosen)
        assert digests(target)["public.countries"] == digests(source)["public.countries"]
        assert run(target, "SELECT count(*) FROM ref_rates") == [(3,)]
        assert run(target, "SELECT code FROM shops WHERE id = 9") == [("jp",)]
        if not clean:
            run(target, "DELETE FROM favourites", "DELETE FROM shops WHERE is_fake")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("INSERT INTO countries VALUES ('fr', null)", r'countries: 1, e\.g\. \["fr",null\]'),
        (
            "UPDATE countries SET name = '{}' WHERE code = 'jp'",
            r"differ from the snapshot's, or .*countries: 1, .*jp",
        ),
        ("INSERT INTO ref_rates (code, is_fake) VALUES ('jp', null)", "ref_rates: 1, .*jp"),
    ],
)
def test_a_row_that_would_be_lost_is_named_and_nothing_touched(
    pair: tuple[str, str], chosen: Settings, digests: Callable[[str], dict[str, Any]],
    change: str, said: str,
) -> None:  # fmt: skip
    _, target = pair
    restore_snapshot(target, NAME, settings=chosen)
    run(target, change)
    before = digests(target)
    with pytest.raises(RefusedError, match=said):
        restore_snapshot(target, NAME, settings=chosen)
    assert digests(target) == before


def test_a_whole_tables_row_that_the_snapshot_has_twice_may_be_there_twice(
    databases: Any, settings: Settings
) -> None:
    """Rows are counted: three alike where the snapshot has two are one too many."""
    url = databases.make("template0")
    run(url, "CREATE TABLE f (is_test_data boolean)", "CREATE TABLE twice (a int)",
        "INSERT INTO twice VALUES (1), (1)")  # fmt: skip
    chosen = replace(settings, whole_tables=("twice",))
    create_snapshot(url, NAME, settings=chosen)
    restore_snapshot(url, NAME, settings=chosen)
    run(url, "INSERT INTO twice VALUES (1)")
    with pytest.raises(RefusedError, match="twice: 1, "):
        restore_snapshot(url, NAME, settings=chosen)
    delete_snapshot(NAME, settings)


def test_an_unflagged_row_still_holds_a_flagged_one(
    pair: tuple[str, str], chosen: Settings
) -> None:
    """Rows of whole tables come back themselves; a row of any other table would dangle."""
    _, target = pair
    restore_snapshot(target, NAME, settings=chosen)
    run(target, "CREATE TABLE visits (shop int REFERENCES shops)", "INSERT INTO visits VALUES (2)")
    with pytest.raises(BoundaryError, match="visits_shop_fkey"):
        restore_snapshot(target, NAME, settings=chosen)


def test_an_unflagged_row_holds_a_flagged_one_of_a_whole_table(
    pair: tuple[str, str], chosen: Settings, digests: Callable[[str], dict[str, Any]]
) -> None:
    """The snapshot may lack it, and a key that is NOT VALID would not tell."""
    _, target = pair
    run(
        target,
        "CREATE TABLE charges (rate int)",
        "INSERT INTO charges VALUES (9)",
        ROWS[0],
        "INSERT INTO ref_rates OVERRIDING SYSTEM VALUE VALUES (9, 'jp', true)",
        "ALTER TABLE charges ADD FOREIGN KEY (rate) REFERENCES ref_rates NOT VALID",
    )
    before = digests(target)
    with pytest.raises(BoundaryError, match="charges_rate_fkey"):
        restore_snapshot(target, NAME, settings=chosen)
    assert digests(target) == before


def test_what_is_left_out_and_what_is_whole_is_shown(
    pair: tuple[str, str],
    chosen: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By create and by info: tables that have no flag, tables of which every row is there."""
    (tmp_path / "pyproject.toml").write_text(
        f'[tool.perfdata]\nflag_column = "is_fake"\nwhole_tables = {list(chosen.whole_tables)}\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERFDATA_HOME", str(chosen.home))
    monkeypatch.setenv("PERFDATA_DATABASE_URL", pair[0])
    snapshot.create(Context(), name=NAME, replace=True)
    assert "left out, without column is_fake: logs" in capsys.readouterr().out
    snapshot.info(Context(), name=NAME)
    told = capsys.readouterr().out
    assert "left out, without column is_fake: logs" in told
    assert "countries (whole)" in told


def test_rows_that_match_by_period_are_required_and_held(
    databases: Any, settings: Settings
) -> None:
    """A temporal foreign key (18) references whatever its period overlaps."""
    url = databases.make("template0")
    if run(url, "SHOW server_version_num")[0][0] < "180000":
        pytest.skip("temporal foreign keys are of PostgreSQL 18")
    flag = "is_test_data boolean NOT NULL"
    run(
        url,
        "CREATE EXTENSION btree_gist",
        f"CREATE TABLE prices (id int, during int4range, {flag},"
        " PRIMARY KEY (id, during WITHOUT OVERLAPS))",
        f"CREATE TABLE sales (id int, during int4range, {flag},"
        " FOREIGN KEY (id, PERIOD during) REFERENCES prices (id, PERIOD during))",
        "INSERT INTO prices VALUES (1, '[1,10)', true), (1, '[10,20)', false), (2, '[1,9)', true)",
        "INSERT INTO sales VALUES (1, '[5,15)', true), (2, '[2,3)', true)",
    )
    made = create_snapshot(url, NAME, settings=settings)
    (required,) = made.manifest.requires
    assert required.keys == [["1", "[10,20)"]]
    restore_snapshot(url, NAME, settings=settings)
    run(url, "INSERT INTO sales VALUES (2, '[4,6)', false)")
    with pytest.raises(BoundaryError, match="sales → prices"):
        restore_snapshot(url, NAME, settings=settings)
    made.path.unlink()


def test_a_snapshot_with_whole_tables_is_not_one_of_flagged_rows_alone(
    pair: tuple[str, str],
    chosen: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What ``snapshot.verify --flagged`` is asked by a job that restores a file it was handed."""
    monkeypatch.setenv("PERFDATA_HOME", str(chosen.home))
    create_snapshot(pair[0], NAME, settings=chosen, replace=True)
    with pytest.raises(Exit, match=r"holds every row of .*, not only the flagged ones") as caught:
        snapshot.verify(Context(), name=NAME, flagged=True)
    assert caught.value.code == 1
    create_snapshot(pair[0], NAME, settings=replace(chosen, whole_tables=()), replace=True)
    snapshot.verify(Context(), name=NAME, flagged=True)
    assert capsys.readouterr().out.startswith("good: ")


def test_a_pattern_that_names_no_table_is_told(pair: tuple[str, str], chosen: Settings) -> None:
    source, _ = pair
    with pytest.raises(SchemaError, match="whole_tables names 'contries'"):
        create_snapshot(source, "other", settings=replace(chosen, whole_tables=("contries",)))


def test_rows_of_whole_tables_may_require_rows_outside(databases: Any, settings: Settings) -> None:
    url = databases.make("template0")
    run(url, *SCHEMA, *ROWS, "UPDATE favourites SET shop = 3")
    chosen = replace(settings, flag_column="is_fake", whole_tables=("favourites",))
    made = create_snapshot(url, NAME, settings=chosen)
    delete_snapshot(NAME, settings)
    assert {(one.constraint, one.table) for one in made.manifest.requires} == {
        ("favourites_code_fkey", "countries"),
        ("favourites_shop_fkey", "shops"),
        ("shops_code_fkey", "countries"),
        ("ref_rates_code_fkey", "countries"),
    }
