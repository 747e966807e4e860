from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfdata.postgres.copy import csv_blocks, rows_to_csv, unescape

values = st.one_of(
    st.none(),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.sampled_from(["null", "", "\\.", "],\n[", '"', "\\", "\\n", "\n", '\\"', "],", "😀"]),
)


def parsed(text: str) -> list[list[str | None]]:
    """Read what PostgreSQL would read: quotes escaped by backslashes, bare null for NULL."""
    rows, fields, field, quoted, was_quoted = [], [], "", False, False
    characters = iter(text)
    for one in characters:
        if quoted and one == "\\":
            following = next(characters)
            field += following if following in '"\\' else one + following
        elif one == '"':
            quoted, was_quoted = not quoted, True
        elif not quoted and one in ",\n":
            fields.append(None if field == "null" and not was_quoted else field)
            field, was_quoted = "", False
            if one == "\n":
                rows.append(fields)
                fields = []
        else:
            field += one
    return rows


@given(
    st.integers(1, 4).flatmap(
        lambda n: st.lists(st.lists(values, min_size=n, max_size=n), min_size=1)
    ),
    st.booleans(),
)
def test_every_row_comes_back(rows: list[list[str | None]], ascii_only: bool) -> None:
    """Whatever JSON escapes stand in the rows: those of the server, or all that JSON has."""
    lines = [json.dumps(row, ensure_ascii=ascii_only, separators=(",", ":")) for row in rows]
    block = ",\n".join(lines).encode() + b"\n"
    assert parsed(rows_to_csv(block).decode()) == rows
    assert parsed(rows_to_csv(block[:-1] + b",\n").decode()) == rows


@given(st.lists(values, min_size=1, max_size=4), st.booleans(), st.integers(1, 20))
def test_a_row_in_pieces_comes_back(
    row: list[str | None], ascii_only: bool, piece_bytes: int
) -> None:
    """Wherever the pieces end: never inside an escape."""
    line = json.dumps(row, ensure_ascii=ascii_only, separators=(",", ":")).encode()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("perfdata.postgres.copy.PIECE_BYTES", piece_bytes)
        for end in (b"\n", b",\n"):
            assert parsed(b"".join(csv_blocks(line + end)).decode()) == [row]


def test_escapes_are_undone_left_to_right() -> None:
    assert unescape(rb'"\\n"') == rb'"\\n"'
    assert unescape(rb'"\\\n"') == b'"\\\\\n"'
    assert unescape(rb'"\u0022\u005c\/\ud83d\ude00"') == '"\\"\\\\/😀"'.encode()


def test_a_block_without_escapes_is_left_as_it_is() -> None:
    block = b'"a",null,"\\"\\\\"\n'
    assert unescape(block) is block


def test_rows_with_no_column_are_empty_lines() -> None:
    assert rows_to_csv(b"[],\n[],\n") == b"\n\n"


def test_simple_rows_are_plain_csv() -> None:
    lines = rows_to_csv(b'["a","1"],\n["b","2"]\n').decode()
    assert list(csv.reader(io.StringIO(lines))) == [["a", "1"], ["b", "2"]]
