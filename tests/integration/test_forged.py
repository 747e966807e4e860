"""Manifests that say what is not so: a restore checks them against the catalog and the body."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perfdata import (
    PerfdataError,
    RefusedError,
    SchemaError,
    Settings,
    SnapshotDamagedError,
    create_snapshot,
    restore_snapshot,
    verify_snapshot,
)
from perfdata.snapshot.format import (
    BodyWriter,
    fingerprint_schema,
    manifest_frame,
    read_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "forged"
TABLES = (
    "CREATE TABLE item (id int GENERATED ALWAYS AS IDENTITY, is_test_data boolean)",
    "CREATE TABLE cust (id serial, name text)",
    "INSERT INTO item (is_test_data) VALUES (true), (false)",
    "INSERT INTO cust (name) VALUES ('a'), ('b')",
)


def run(url: str, *statements: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def forge(settings: Settings) -> Iterator[Callable[..., None]]:
    """Return a function that has the manifest say something else; the body stays."""
    path = settings.home / "snapshots" / f"{NAME}.json.zst"

    def rewrite(**entries: Any) -> None:
        manifest, offset = read_manifest(path)
        path.write_bytes(manifest_frame(replace(manifest, **entries)) + path.read_bytes()[offset:])

    yield rewrite
    path.unlink()


def forge_body(path: Path, lines: dict[str, bytes], **schema: dict[str, str]) -> None:
    """Write other rows into a snapshot, all else about them as it should be."""
    manifest, _ = read_manifest(path)
    columns = {**manifest.schema, **schema}
    with path.with_suffix(".body").open("wb+") as file:
        writer = BodyWriter(file)
        for key, names in columns.items():
            writer.table(key, list(names), ["text"] * len(names))
            if rows := lines.get(key):
                writer.rows(rows)
        entries: dict[str, Any] = {
            "body": writer.finish(),
            "schema": columns,
            "schema_fingerprint": fingerprint_schema(columns),
            "stats": {key: int(key in lines) for key in columns},
        }
        file.seek(0)
        path.write_bytes(manifest_frame(replace(manifest, **entries)) + file.read())


@pytest.fixture
def refused(
    settings: Settings, forge: Callable[..., None], digests: Callable[[str], Any]
) -> Callable[..., None]:
    """Return a context in which a forged manifest is refused, and nothing is touched."""

    def attempt(
        url: str, error: type[PerfdataError], said: str, *, keep: bool = False, **entries: Any
    ) -> None:
        before = digests(url)
        forge(**entries)
        with pytest.raises(error, match=said):
            restore_snapshot(url, NAME, clean_existing=not keep, settings=settings)
        assert digests(url) == before

    return attempt


@pytest.fixture
def saved(empty_url: str, settings: Settings) -> str:
    run(empty_url, *TABLES)
    create_snapshot(empty_url, NAME, settings=settings, replace=True)
    return empty_url


ITEM = {"id": "integer not null", "is_test_data": "boolean"}
CUST = {"id": "integer not null", "name": "text"}


def test_a_whole_table_that_the_body_lacks_is_damage(
    saved: str, refused: Callable[..., None]
) -> None:
    refused(
        saved, SnapshotDamagedError, r"it holds \{'item': 1\} rows", whole_tables=["cust"],
        stats={"item": 1, "cust": 0}, schema={"item": ITEM, "cust": CUST},
    )  # fmt: skip


@pytest.mark.parametrize(
    "entries",
    [{}, {"stats": {"item": 1, "cust": 0}}, {"schema": {"item": ITEM, "cust": CUST}}],
)
def test_a_whole_table_that_the_manifest_does_not_have_is_damage(
    saved: str, refused: Callable[..., None], entries: dict[str, Any]
) -> None:
    said = "damaged or no snapshot: it has tables whole that it does not have"
    refused(saved, SnapshotDamagedError, said, whole_tables=["cust"], **entries)


@pytest.mark.parametrize(
    "entries", [{"populated_views": ["seen"]}, {"sequences": {"cust_id_seq": (2147483647, True)}}]
)
def test_a_snapshot_of_flagged_rows_moves_no_sequence_and_fills_no_view(
    saved: str, refused: Callable[..., None], entries: dict[str, Any]
) -> None:
    refused(saved, SnapshotDamagedError, "names sequences or views", **entries)
    assert run(saved, "SELECT last_value FROM cust_id_seq") == [(2,)]


@pytest.mark.parametrize("keep", [True, False])
def test_tables_that_may_not_be_filled_are_named_before_the_load(
    saved: str, settings: Settings, digests: Callable[[str], Any], *, keep: bool
) -> None:
    path = settings.home / "snapshots" / f"{NAME}.json.zst"
    forge_body(path, {"item": b'["1","t"]\n', "cust": b'["1","a"]\n'}, item=ITEM, cust=CUST)
    before = digests(saved)
    with pytest.raises(SchemaError, match="rows of cust, which has no column is_test_data"):
        restore_snapshot(saved, NAME, clean_existing=not keep, settings=settings)
    assert digests(saved) == before


def test_a_body_with_other_columns_names_its_file(saved: str, refused: Callable[..., None]) -> None:
    said = rf"{NAME}\.json\.zst is damaged: table item has other columns .*create it again"
    refused(saved, SnapshotDamagedError, said, schema={"item": dict(reversed(ITEM.items()))})


def test_whole_tables_are_compared_by_name_whatever_the_order_of_columns(
    databases: Any, settings: Settings, refused: Callable[..., None]
) -> None:
    """Swapped values of an unflagged row are no such row, the same values by name are."""
    source, target = databases.make("template0"), databases.make("template0")
    rest = "CREATE TABLE item (is_test_data boolean)"
    run(source, rest, "CREATE TABLE pair (a text, b text)", "INSERT INTO pair VALUES ('1', '2')")
    run(target, rest, "CREATE TABLE pair (b text, a text)")
    create_snapshot(source, NAME, settings=replace(settings, whole_tables=("pair",)))
    run(target, "INSERT INTO pair (a, b) VALUES ('2', '1')")
    refused(target, RefusedError, r'pair: 1, e\.g\. \["2","1"\]')
    run(target, "UPDATE pair SET a = '1', b = '2'")
    restore_snapshot(target, NAME, settings=settings)
    assert run(target, "SELECT a, b FROM pair") == [("1", "2")]


# To COPY's CSV one row, whose name holds the lines of three; to a reader of lines the real row too.
EVIL = b'["9","evil],\n["2","REAL: keep me"],\n["]\n'


@pytest.mark.parametrize("fresh", [False, True])
def test_a_row_over_several_lines_removes_no_real_row(
    empty_url: str, settings: Settings, digests: Callable[[str], Any], *, fresh: bool
) -> None:
    whole = replace(settings, whole_tables=("pair",))
    run(
        empty_url,
        "CREATE TABLE item (is_test_data boolean)",
        "CREATE TABLE pair (id text, name text)",
        "INSERT INTO pair VALUES ('2', 'REAL: keep me')",
    )
    path = create_snapshot(empty_url, NAME, settings=whole, replace=True).path
    forge_body(path, {"pair": EVIL})
    before = digests(empty_url)
    with pytest.raises(SnapshotDamagedError, match="a row of pair is not one line"):
        restore_snapshot(empty_url, NAME, fresh=fresh, settings=whole)
    assert digests(empty_url) == before
    with pytest.raises(SnapshotDamagedError, match="a row of pair is not one line"):
        verify_snapshot(NAME, whole)
    path.unlink()
