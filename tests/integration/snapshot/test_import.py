"""Snapshots from plain JSON: the rows that a database would have, or a refusal and no file."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perfdata import (
    InvalidNameError,
    LoadError,
    RefusedError,
    SchemaError,
    Settings,
    SnapshotDamagedError,
    SnapshotError,
    SnapshotExistsError,
    create_snapshot,
    diff_snapshots,
    import_snapshot,
    restore_snapshot,
)
from tests.integration.databases import run
from tests.integration.inner import entry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from perfdata import Imported
    from tests.integration.conftest import Databases

SCHEMA = (
    "CREATE TYPE mood AS ENUM ('glad', 'sad, very')",
    "CREATE DOMAIN code AS text[] NOT NULL",
    "CREATE TABLE country (code text PRIMARY KEY)",
    "CREATE TABLE office (id serial PRIMARY KEY, name text NOT NULL,"
    " country text REFERENCES country, is_test_data boolean NOT NULL DEFAULT false)",
    "CREATE TABLE staff (id uuid PRIMARY KEY, office_id int NOT NULL REFERENCES office, m mood,"
    " n numeric, big bigint, f float8, t timestamptz, d date, span interval, b boolean, raw bytea,"
    " j json, jb jsonb, texts text[], ints int[][], moods mood[], codes code, jbs jsonb[],"
    " bits bit(3), r int4range, fixed char(5), is_test_data boolean NOT NULL,"
    " doubled numeric GENERATED ALWAYS AS (n * 2) STORED)",
)
ROWS = (
    "INSERT INTO country VALUES ('jp'), ('at')",
    "INSERT INTO office (name, country, is_test_data) VALUES (E'a\\tb\\\\N \"q\"\\n', 'jp', true),"
    " ('', NULL, true)",
    "INSERT INTO staff SELECT ('00000000-0000-0000-0000-00000000000' || g)::uuid, 1 + g % 2,"
    " 'sad, very', 0.10000000000000000000000000000000001 + g, 9223372036854775807, 1e-308,"
    " '2026-03-04 05:06:07.890123+09', '0099-01-01', '1 day 02:03:04', g > 1, '\\x00ff5c',"
    ' \'{"b": 1.0, "a": [1e2, null]}\', \'{"x": "\\t\\\\", "n": 12345678901234567890.10}\','
    " ARRAY['a,b', NULL, '\"q\"\\', 'NULL', ''], '{{1,2},{3,NULL}}', '{glad,\"sad, very\"}',"
    " '{x}', ARRAY['{\"a\": [1]}', '\"s\"']::jsonb[], '101', '[1,5)', 'ab', true"
    " FROM generate_series(1, 3) g",
    "INSERT INTO staff (id, office_id, codes, is_test_data)"
    " VALUES ('10000000-0000-0000-0000-000000000000', 2, '{}', true)",
)
NAMES = "SELECT datname FROM pg_database ORDER BY 1"
DUMPED = ("country", "office", "staff")


def dump(url: str, names: Sequence[str] = DUMPED) -> str:
    """Return the document of all rows, in the server's own JSON: Python would round numbers."""
    tables, stats = [], {}
    for table in names:
        rows = [row for (row,) in run(url, f"SELECT row_to_json(whole)::text FROM {table} whole")]
        tables.append(f'"{table}": [{", ".join(rows)}]')
        stats[table] = len(rows)
    return (
        f'{{"name": "old", "created_at": "2025-01-01", "description": "of old",'
        f' "stats": {json.dumps(stats)}, "tables": {{{", ".join(tables)}}}}}'
    )


class Shop:
    """A database with the tables, and what is imported there."""

    def __init__(self, url: str, settings: Settings, folder: Path) -> None:
        self.url = url
        self.settings = replace(settings, home=folder / "home", project=None, allow=(entry(url),))
        self.file = folder / "old.json"

    def load(self, document: Any, **options: Any) -> Imported:
        text = document if isinstance(document, str) else json.dumps(document)
        self.file.write_text(text, encoding="utf-8")
        return import_snapshot(self.url, self.file, settings=self.settings, **options)

    def offices(self, *rows: dict[str, Any], **options: Any) -> Imported:
        document = {"name": "old", "stats": {"office": len(rows)}, "tables": {"office": rows}}
        return self.load(document, **options)

    def restore(self) -> None:
        restore_snapshot(self.url, "old", settings=self.settings, unflagged_rows=True)

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.settings.home / "snapshots").glob("*"))


@pytest.fixture
def shop(empty_url: str, settings: Settings, tmp_path: Path) -> Shop:
    run(empty_url, *SCHEMA)
    return Shop(empty_url, settings, tmp_path)


def test_every_type_comes_back_from_plain_json(
    shop: Shop, databases: Databases, digests: Callable[[str], dict[str, tuple[Any, ...]]]
) -> None:
    other = databases.make("template0")
    run(other, *SCHEMA, *ROWS)
    imported = shop.load(dump(other))
    assert (imported.notes, imported.created_at) == ((), "2025-01-01")
    manifest = imported.snapshot.manifest
    assert (manifest.name, manifest.description) == ("old", "of old")
    assert manifest.stats == {"country": 2, "office": 2, "staff": 4}
    assert manifest.whole_tables == ["country"]
    assert run(shop.url, "SELECT count(*) FROM office") == [(0,)]
    shop.restore()
    assert digests(shop.url) == digests(other)


def test_a_project_makes_the_tables_while_others_use_the_database(
    loaded_url: Callable[[str], str], settings: Settings, tmp_path: Path
) -> None:
    url, file = loaded_url("10_offices"), tmp_path / "old.json"
    saved = create_snapshot(url, "new", settings=settings)
    file.write_text(dump(url, list(saved.manifest.stats)))
    with closing(psycopg.connect(url)):
        imported = import_snapshot(url, file, settings=settings)
    assert diff_snapshots("new", "old", settings=settings).same
    assert imported.snapshot.manifest.migrations
    for snapshot in (saved, imported.snapshot):
        snapshot.path.unlink()


def test_columns_that_the_file_lacks_take_their_defaults_and_the_flag_is_set(shop: Shop) -> None:
    run(shop.url, "ALTER TABLE office ADD since date NOT NULL DEFAULT '2026-01-01'")
    imported = shop.offices({"id": 7, "name": "Ueno"})
    assert imported.notes == (
        "office: not in the file, so these columns took their defaults: country, since",
    )
    shop.restore()
    found = run(shop.url, "SELECT id, name, country, since::text, is_test_data FROM office")
    assert found == [(7, "Ueno", None, "2026-01-01", True)]


def test_rows_may_reference_rows_that_only_the_database_has(shop: Shop) -> None:
    run(shop.url, "INSERT INTO country VALUES ('fr')")
    office = {"id": 1, "name": "x", "country": "fr", "is_test_data": True}
    (required,) = shop.offices(office).snapshot.manifest.requires
    assert (required.table, required.keys) == ("country", [["fr"]])
    with pytest.raises(LoadError, match=r"reference rows that do not exist.*xx"):
        shop.offices({**office, "country": "xx"}, name="other")
    assert shop.files() == ["old.json.zst"]


def test_names_are_those_of_snapshots_and_none_is_replaced_unasked(shop: Shop) -> None:
    office = {"id": 1, "name": "x"}
    first = shop.offices(office).snapshot
    with pytest.raises(SnapshotExistsError, match=r"'old' already\. Replace it with replace=True"):
        shop.offices(office)
    assert shop.offices(office, replace=True).snapshot.manifest.body == first.manifest.body
    document: dict[str, Any] = {"stats": {}, "tables": {}}
    with pytest.raises(SnapshotError, match="has no name"):
        shop.load(document)
    with pytest.raises(InvalidNameError):
        shop.load({**document, "name": "../x"})
    assert shop.load({**document, "name": "../x"}, name="x", description="d").snapshot.name == "x"
    assert shop.files() == ["old.json.zst", "x.json.zst"]


@pytest.mark.parametrize(
    ("tables", "error", "said"),
    [
        (
            {"offices": [{"id": 1}], "office": [{"id": 1, "nam": "x"}]},
            SchemaError,
            "does not fit the database's tables: there is no table offices, "
            "office has no column nam, office.name is not null, and the file has no values for it",
        ),
        (
            {"office": [{"id": 1, "name": "x", "is_test_data": False}]},
            SnapshotDamagedError,
            "office, row 1: the flag is false",
        ),
        ({"office": [{"id": 1, "name": None}]}, LoadError, "null value in column"),
        ({"office": [{"id": 1e99, "name": "x"}]}, LoadError, 'type integer: "1e+99"; COPY office'),
        ({"office": [{"id": 10**4000, "name": "x"}]}, LoadError, "out of range"),
        ({"office": [{"id": 1, "name": "\0"}]}, LoadError, "invalid byte sequence"),
        ({"office": [{"id": 1, "name": "\ud800"}]}, SnapshotDamagedError, "office, row 1: 'utf-8'"),
        ({"office": [{"id": 1, "name": "x"}] * 2}, LoadError, "(id)=(1) is duplicated"),
        ({"office": [{"id": 1, "name": "x", "country": "xx"}]}, LoadError, "do not exist"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_is_written(
    shop: Shop, tables: dict[str, Any], error: type[Exception], said: str
) -> None:
    before = run(shop.url, NAMES)
    stats = {key: len(rows) for key, rows in tables.items()}
    with pytest.raises(error) as caught:
        shop.load({"name": "old", "stats": stats, "tables": tables})
    assert said in str(caught.value)
    assert shop.files() == []
    assert run(shop.url, NAMES) == before


def test_open_sessions_are_named_or_ended(shop: Shop) -> None:
    with closing(psycopg.connect(shop.url, application_name="a shop")):
        with pytest.raises(RefusedError, match="a shop"):
            shop.offices({"id": 1, "name": "x"})
        shop.offices({"id": 1, "name": "x"}, terminate=True)
