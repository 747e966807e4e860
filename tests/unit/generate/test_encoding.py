"""COPY text and JSON: what is written reads back."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from perfdata.generate.encoding import copy_text, copy_texts

PLAIN = {"\\\\": "\\", "\\n": "\n", "\\r": "\r", "\\t": "\t"}
TEXTS = st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def read(field: str) -> str | None:
    """Read a field as PostgreSQL does."""
    if field == "\\N":
        return None
    return re.sub(r"\\.", lambda match: PLAIN[match.group()], field)


@given(st.lists(TEXTS | st.just("a\\b\tc\nd\r"), min_size=1))
def test_texts_read_back_and_keep_to_their_field(values: list[str]) -> None:
    fields = copy_texts(values)
    assert [read(field) for field in fields] == values
    assert not set("".join(fields)) & set("\t\n\r")


def test_null_and_its_spelling_differ() -> None:
    assert copy_texts([None, "\\N"]) == ["\\N", "\\\\N"]


def test_each_type_has_the_text_that_postgresql_reads() -> None:
    values: list[tuple[object, str]] = [
        (True, "t"),
        (3, "3"),
        (0.1, "0.1"),
        (Decimal("1.50"), "1.50"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02 03:04:05+00:00"),
        (b"\x00\xff", "\\\\x00ff"),
        ({"a": 'ü"\n'}, '{"a": "ü\\\\"\\\\n"}'),
        (["a b", None, 'q"\\'], '{"a b",NULL,"q\\\\"\\\\\\\\"}'),
        ([[1, 2], [3, 4]], "{{1,2},{3,4}}"),
    ]
    for value, expected in values:
        assert copy_text(value) == expected
