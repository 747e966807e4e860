"""Plain JSON: every value keeps its digits, and whatever is no such document is refused."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from perfdata import SnapshotDamagedError, SnapshotError
from perfdata.postgres.catalog import Column
from perfdata.progress import silent
from perfdata.snapshot.plain import stream
from perfdata.snapshot.plain.document import PlainDocument
from perfdata.snapshot.plain.stream import JsonStream
from perfdata.snapshot.plain.values import converter

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [{"id": 1, "name": "佐藤\t\\N"}, {"id": 2, "name": None}]
DOCUMENT = {
    "name": "old",
    "created_at": "2025-06-01T09:00:00",
    "description": "an old one",
    "stats": {"offices": 2, "notes": 0},
    "tables": {"offices": ROWS, "notes": []},
}


def write(path: Path, document: Any) -> Path:
    text = document if isinstance(document, str) else json.dumps(document)
    path.write_text(text, encoding="utf-8")
    return path


def changed(**entries: Any) -> dict[str, Any]:
    return {**DOCUMENT, **entries}


def refusal(path: Path, document: Any) -> str:
    with pytest.raises(SnapshotDamagedError) as caught:
        PlainDocument.read(write(path, document), silent)
    return caught.value.reason.partition(" can't be imported: ")[2]


def stream_of(text: str, size: int) -> JsonStream:
    """Return a stream that is read in pieces of ``size`` bytes."""
    data = text.encode()
    pieces = iter([data[at : at + size] for at in range(0, len(data), size)])
    return JsonStream(lambda _: next(pieces, b""))


@pytest.mark.parametrize("suffix", ["json", "gz", "zst"])
def test_a_document_is_read_plain_or_compressed_whatever_its_name(
    tmp_path: Path, suffix: str
) -> None:
    data = json.dumps(DOCUMENT, indent=2, ensure_ascii=False).encode()
    packed = {
        "json": data,
        "gz": gzip.compress(data),
        "zst": zstandard.ZstdCompressor().compress(data),
    }
    path = tmp_path / "file"
    path.write_bytes(packed[suffix])
    document = PlainDocument.read(path, silent)
    assert (document.name, document.description) == ("old", "an old one")
    assert document.created_at == "2025-06-01T09:00:00"
    assert {key: table.rows for key, table in document.tables.items()} == DOCUMENT["stats"]
    assert document.tables["offices"].columns == ("id", "name")
    again = {table.key: list(table.rows) for table in document.rows()}
    assert again == {"offices": [["1", "佐藤\t\\N"], ["2", None]], "notes": []}


def test_rows_may_have_their_columns_in_another_order(tmp_path: Path) -> None:
    path = write(
        tmp_path / "file",
        changed(stats={"t": 2}, tables={"t": [{"a": 1, "b": 2}, {"b": 4, "a": 3}]}),
    )
    (table,) = [list(table.rows) for table in PlainDocument.read(path, silent).rows()]
    assert table == [["1", "2"], ["3", "4"]]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), inner, max_size=4)
        ),
        max_leaves=12,
    ),
    st.integers(1, 7),
)
def test_a_value_is_the_same_wherever_the_pieces_end(value: Any, size: int) -> None:
    def plain(found: Any) -> Any:
        if isinstance(found, stream.Number):
            return int(found)
        if isinstance(found, dict):
            return {name: plain(part) for name, part in found.items()}
        return list(map(plain, found)) if isinstance(found, list) else found

    text = json.dumps([value, value], ensure_ascii=False)
    read = stream_of(f" {text} ", size)
    assert [plain(found) for found in read.items()] == [value, value]
    read.end()


def test_numbers_at_the_end_of_a_piece_are_whole() -> None:
    for size in range(1, 9):
        assert list(stream_of("[12345.678e9, -0, true]", size).items()) == [
            "12345.678e9", "-0", True,
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("base", "value", "text"),
    [
        ("integer", stream.Number("7"), "7"),
        ("numeric", stream.Number("0.10000000000000000000000000001"), None),
        ("boolean", False, "false"),
        ("text", 'a\tb\\c\n"', 'a\\tb\\\\c\\n"'),
        ("text", None, "\\N"),
        ("text", r"\N", r"\\N"),
        ("jsonb", None, "\\N"),
        ("jsonb", "text", '"text"'),
        ("jsonb", {"n": stream.Number("1e400"), "l": [None]}, '{"n": 1e400, "l": [null]}'),
        ("text[]", ["a", None, 'b"\\', ""], '{"a",NULL,"b\\\\"\\\\\\\\",""}'),
        ("integer[]", [[stream.Number("1")], [stream.Number("2")]], '{{"1"},{"2"}}'),
        ("integer[]", [], "{}"),
        ("integer[]", "{1,2}", "{1,2}"),
        ("jsonb[]", [[stream.Number("1")], "x"], '{"[1]","\\\\"x\\\\""}'),
        ("vector", [stream.Number("1"), stream.Number("2")], "[1, 2]"),
    ],
)  # fmt: skip
def test_values_become_the_text_that_copy_reads(base: str, value: Any, text: str | None) -> None:
    column = Column("c", base, base, False, False, "cast", (), False, ())  # noqa: FBT003
    assert converter(column)(value) == (value if text is None else text)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("", "it ends too early"),
        ("[]", "'[' was found where '{' was expected"),
        ('{"name": "x"', "it ends too early"),
        (json.dumps(DOCUMENT)[:-20], "it ends too early"),
        (json.dumps(DOCUMENT) + "{}", "something follows its end"),
        ('{"stats": {}, "tables": {}, "stats": {}}', "'stats' comes twice"),
        ('{"stats": {}, "tables": {"a": [], "a": []}}', "'a' comes twice"),
        ('{"stats": {}, "tables": {"a": [{"x": 1, "x": 2}]}}', "a, row 1: 'x' comes twice"),
        ('{"stats": {}, "tables": {"a": [{"x": NaN}]}}', "NaN is no number of JSON"),
        ('{"stats": {}, "tables": {"a": [{"x": -Infinity}]}}', "-Infinity is no number of JSON"),
        (
            '{"stats": {}, "tables": {"a": [{"x": 1},]}}',
            "a, row 2: it ends too early, or not as JSON does: Expecting value",
        ),
        ('{"stats": {}, "tables": {"a": [' + "[" * 100_000, "a, row 1: values are nested too"),
        ('{"stats": {}, "tables": {"a": [1]}}', "a, row 1: it is no object"),
        ('{"stats": {}, "tables": []}', "'[' was found where '{' was expected"),
        ('{"stats": {}, "tables": {"a": {}}}', "a, row 1: '{' was found where '[' was expected"),
        (
            {"stats": {"a": 2}, "tables": {"a": [{"x": 1}, {"y": 1}]}},
            "a, row 2: its columns are not those of the first row: x, y",
        ),
        ({"stats": {}}, "it has no tables"),
        ({"tables": {}}, "it has no stats"),
        (changed(name=["x"]), "its name is no text"),
        (changed(stats={"offices": 3}), "offices has 2 rows, stats says 3"),
        (changed(stats={"offices": 2, "x": 1}), "x has 0 rows, stats says 1"),
        (changed(stats={}), "offices has 2 rows, stats says None"),
        (changed(stats={"offices": "9" * 5000}), "offices has 2 rows, stats says 99999"),
    ],
)
def test_what_is_no_such_document_is_refused(tmp_path: Path, document: Any, said: str) -> None:
    assert said in refusal(tmp_path / "file", document)


def test_other_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in (
        json.dumps(DOCUMENT).encode("utf-16"),
        b'{"name": "\xff"}',
        gzip.compress(json.dumps(DOCUMENT).encode())[:-9],
        gzip.compress(b"{}") + b"\x1f\x8b" + b"x" * 20,
        b"\x1f\x8b" + b"x" * 20,
        zstandard.ZstdCompressor().compress(json.dumps(DOCUMENT).encode())[:-9],
        b"\x28\xb5\x2f\xfd" + b"x" * 20,
    ):
        path.write_bytes(data)
        with pytest.raises(SnapshotDamagedError, match="can't be imported"):
            PlainDocument.read(path, silent)


def test_a_path_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="is no file"):
        PlainDocument.read(tmp_path, silent)
    with pytest.raises(SnapshotError, match="does not exist"):
        PlainDocument.read(tmp_path / "none", silent)


def test_what_is_too_long_is_refused_before_it_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "VALUE_MAX_CHARACTERS", 1 << 20)
    path = tmp_path / "file"
    head = '{"stats": {}, "tables": {"a": ['
    assert "a, row 1: a value has over" in refusal(path, f'{head}{{"x": "{"y" * (4 << 20)}"}}')
    assert "blanks follow one another" in refusal(path, head + " " * (4 << 20))


def test_a_snapshot_of_perfdata_is_named_as_such(tmp_path: Path) -> None:
    path = write(tmp_path / "file", {"format": "perfdata/1", "stats": {}, "tables": {"a": {}}})
    with pytest.raises(SnapshotError, match="is a snapshot of perfdata already"):
        PlainDocument.read(path, silent)
