"""Manifests that say what is not so: a restore checks them against the catalog and the body."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from perfdata import (
    LoadError,
    PerfdataError,
    RefusedError,
    SchemaError,
    Settings,
    SnapshotDamagedError,
    create_snapshot,
    restore_snapshot,
    verify_snapshot,
)
from perfdata.snapshot.format.manifest import fingerprint_schema
from perfdata.snapshot.format.reader import SnapshotFile
from perfdata.snapshot.format.writer import BodyWriter, manifest_frame
from tests.integration.databases import mark_owned, run

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


@pytest.fixture
def forge(settings: Settings) -> Iterator[Callable[..., None]]:
    """Return a function that has the manifest say something else; the body stays."""
    path = settings.home / "snapshots" / f"{NAME}.json.zst"

    def rewrite(**entries: Any) -> None:
        file = SnapshotFile.open(path)
        manifest, offset = file.manifest, file.body_at
        path.write_bytes(manifest_frame(replace(manifest, **entries)) + path.read_bytes()[offset:])

    yield rewrite
    path.unlink()


def forge_body(path: Path, lines: dict[str, bytes], **schema: dict[str, str]) -> None:
    """Write other rows into a snapshot, all else about them as it should be."""
    manifest = SnapshotFile.open(path).manifest
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
def consenting(settings: Settings) -> Settings:
    """Settings that take the tables whole that the tests say the file has whole."""
    return replace(settings, whole_tables=("cust", "pair"))


@pytest.fixture
def refused(
    consenting: Settings, forge: Callable[..., None], digests: Callable[[str], Any]
) -> Callable[..., None]:
    """Return a function that has a forged manifest refused, with nothing touched."""

    def attempt(
        url: str, error: type[PerfdataError], said: str, *, keep: bool = False, **entries: Any
    ) -> None:
        before = digests(url)
        forge(**entries)
        with pytest.raises(error, match=said):
            restore_snapshot(url, NAME, clean_existing=not keep, settings=consenting)
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
    said = "damaged or no snapshot: it lists whole tables that it does not have"
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
    databases: Any, consenting: Settings, refused: Callable[..., None]
) -> None:
    """Swapped values of an unflagged row are no such row, the same values by name are."""
    source, target = databases.make("template0"), databases.make("template0")
    rest = "CREATE TABLE item (is_test_data boolean)"
    run(source, rest, "CREATE TABLE pair (a text, b text)", "INSERT INTO pair VALUES ('1', '2')")
    run(target, rest, "CREATE TABLE pair (b text, a text)")
    create_snapshot(source, NAME, settings=replace(consenting, whole_tables=("pair",)))
    run(target, "INSERT INTO pair (a, b) VALUES ('2', '1')")
    refused(target, RefusedError, r'pair: 1, e\.g\. \["2","1"\]')
    run(target, "UPDATE pair SET a = '1', b = '2'")
    restore_snapshot(target, NAME, settings=consenting)
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


def test_rows_without_the_flag_do_not_come_in(saved: str, settings: Settings) -> None:
    path = settings.home / "snapshots" / f"{NAME}.json.zst"
    forge_body(path, {"item": b'["7","false"]\n'})
    with pytest.raises(LoadError, match="item: 1 of the loaded rows have no true is_test_data"):
        restore_snapshot(saved, NAME, settings=settings)
    assert run(saved, "SELECT id FROM item WHERE is_test_data") == [(1,)]
    path.unlink()


@pytest.fixture
def mallory(databases: Any, settings: Settings) -> Iterator[str]:
    """A database without a row, and a snapshot that has an unflagged one in a table taken whole."""
    source, target = databases.make("template0"), databases.make("template0")
    run(source, *TABLES, "INSERT INTO cust (name) VALUES ('mallory')")
    run(target, *TABLES[:2])
    made = create_snapshot(source, NAME, settings=replace(settings, whole_tables=("cust",)))
    yield target
    made.path.unlink()


def test_a_table_comes_whole_only_where_it_is_taken_whole_here(
    mallory: str, settings: Settings
) -> None:
    """The file alone does not say so: an unflagged row of it could not be told from a real one."""
    for fresh in (False, True):
        with pytest.raises(RefusedError, match=r"every row of cust, not only flagged ones, and"):
            restore_snapshot(mallory, NAME, settings=settings, fresh=fresh)
    others = replace(settings, whole_tables=("customers", "reference.*"))
    with pytest.raises(RefusedError, match=r"whole_tables does not name that here\. Name it"):
        restore_snapshot(mallory, NAME, settings=others)
    assert run(mallory, "SELECT count(*) FROM cust") == [(0,)]
    restore_snapshot(mallory, NAME, settings=replace(settings, whole_tables=("c*",)))
    assert run(mallory, "SELECT count(*) FROM cust") == [(3,)]


def test_an_option_allows_a_table_to_come_whole(mallory: str, settings: Settings) -> None:
    restore_snapshot(mallory, NAME, settings=settings, unflagged_rows=True)
    assert run(mallory, "SELECT count(*) FROM cust") == [(3,)]


@pytest.fixture
def of_item(databases: Any, settings: Settings) -> Iterator[str]:
    """A database with two real customers, and a snapshot of all rows of item."""
    source, target = databases.make("template0"), databases.make("template0")
    run(source, TABLES[0], TABLES[2])
    run(target, *TABLES[:2], TABLES[3])
    made = create_snapshot(source, NAME, settings=settings, all_rows=True)
    yield target
    made.path.unlink()


def test_every_row_of_some_tables_does_not_come_beside_those_of_others(
    of_item: str, settings: Settings, digests: Callable[[str], Any]
) -> None:
    before = digests(of_item)
    with pytest.raises(RefusedError, match=r"without rows, and these tables have some: cust\. "):
        restore_snapshot(of_item, NAME, settings=settings)
    assert digests(of_item) == before
    restore_snapshot(of_item, NAME, settings=settings, unflagged_rows=True)
    assert run(of_item, "SELECT count(*) FROM item") == [(2,)]


@pytest.mark.parametrize("owned", [True, False])
def test_every_row_comes_where_all_is_perfdatas_or_nothing_is_there(
    of_item: str, settings: Settings, *, owned: bool
) -> None:
    if owned:
        mark_owned(of_item)
    else:
        run(of_item, "DELETE FROM cust")
    assert restore_snapshot(of_item, NAME, settings=settings).rows == {"item": 2}


@pytest.mark.parametrize("options", [{}, {"unflagged_rows": True}, {"fresh": True}])
def test_a_sequence_of_a_table_that_the_file_lacks_is_never_moved(
    of_item: str, settings: Settings, options: dict[str, Any]
) -> None:
    """The application's next insert would find it used up."""
    path = settings.home / "snapshots" / f"{NAME}.json.zst"
    file = SnapshotFile.open(path)
    manifest, offset = file.manifest, file.body_at
    forged = {**manifest.sequences, "cust_id_seq": (2147483647, True)}
    frame = manifest_frame(replace(manifest, sequences=forged))
    path.write_bytes(frame + path.read_bytes()[offset:])
    with pytest.raises(RefusedError, match=r"that it does not have: cust_id_seq of cust\. "):
        restore_snapshot(of_item, NAME, settings=settings, **options)
    assert run(of_item, "INSERT INTO cust (name) VALUES ('c') RETURNING id") == [(3,)]
