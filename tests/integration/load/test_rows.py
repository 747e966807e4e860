"""Python rows through COPY: their values, their columns, and errors that name the row."""

from __future__ import annotations

import asyncio
import enum
import subprocess
import sys
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import hypothesis
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from psycopg.types.json import Jsonb
from psycopg.types.range import Range
from sqlalchemy.ext.asyncio import create_async_engine

from perfdata import (
    LoadError,
    PerfdataError,
    ProjectCodeError,
    RowsRefusedError,
    SchemaError,
    TableRows,
    append_rows,
)
from perfdata.load.rows.fields import Origin
from perfdata.load.rows.parts import Parts
from perfdata.postgres.connection import open_link
from perfdata.postgres.reflection import read_catalog
from tests.integration.databases import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TABLES = (
    "CREATE TYPE mood AS ENUM ('sad', 'it''s \\ \"ok\"')",
    "CREATE TABLE everything (id int PRIMARY KEY, t text, n numeric, d date, at timestamptz,"
    " local timestamp, o time, i interval, u uuid, b bool, f float8, j jsonb, p json, a int[],"
    " texts text[], r int4range, y bytea, ip inet, m mood)",
    "CREATE TABLE items (id serial PRIMARY KEY, name text NOT NULL, price numeric DEFAULT 5,"
    " note text, double_price numeric GENERATED ALWAYS AS (price * 2) STORED)",
)


class Mood(enum.Enum):
    sad = 1


class Word(enum.StrEnum):
    SAD = "sad"


@pytest.fixture
def url(empty_url: str) -> str:
    run(empty_url, *TABLES)
    return empty_url


def append(url: str, *rows: object, table: str = "items", columns: Sequence[str] = ()) -> int:
    return append_rows(url, [TableRows(table, columns, rows=rows)])[table]


VALUES = {
    "id": 1,
    "t": "a\tb\\N\n\r\x0b\x0c\x08 \\. \u2028",
    "n": Decimal("-12.50"),
    "d": date(2026, 2, 3),
    "at": datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=UTC),
    "local": datetime(2026, 2, 3, 4, 5, 6),  # noqa: DTZ001  the column has no zone
    "o": time(1, 2, 3),
    "i": timedelta(days=3, seconds=5, microseconds=7),
    "u": uuid.UUID(int=5),
    "b": True,
    "f": float("inf"),
    "j": {"a": [1, "x\\\n", None], "b": {"c": True}},
    "p": ["no array", 2],
    "a": [1, None, -3],
    "texts": ['a"b', "c,d\\", "", None, "null"],
    "r": Range(1, 5),
    "y": b"\x00\\\xff'",
    "ip": ip_address("10.0.0.1"),
    "m": 'it\'s \\ "ok"',
}


def test_values_of_every_kind_come_back(url: str) -> None:
    assert append(url, VALUES, {"id": 2}, table="everything", columns=tuple(VALUES)) == 2
    with psycopg.connect(url) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        cursor = connection.execute("SELECT * FROM everything ORDER BY id")
        assert cursor.description
        names = [column.name for column in cursor.description]
        first, second = cursor.fetchall()
    assert dict(zip(names, first, strict=True)) == VALUES
    assert second == (2, *[None] * (len(VALUES) - 1))


def test_lists_are_json_in_a_json_column_and_text_there_is_json_already(url: str) -> None:
    rows = [
        {"id": 1, "j": [1, [2]], "m": Mood.sad},
        {"id": 2, "j": '{"a": 1}', "m": Word.SAD},
        {"id": 3, "j": Jsonb("text"), "m": None},
        {"id": 4, "j": False, "m": None},
    ]
    append(url, *rows, table="everything")
    assert run(url, "SELECT j, m FROM everything ORDER BY id") == [
        ([1, [2]], "sad"),
        ({"a": 1}, "sad"),
        ("text", None),
        (False, None),
    ]


_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=5,
)
_ROWS = st.fixed_dictionaries(
    {
        "t": st.none() | _TEXTS,
        "n": st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=5),
        "d": st.none() | st.dates(),
        "at": st.none() | st.datetimes(timezones=st.just(UTC)),
        "i": st.none() | st.timedeltas(timedelta(days=-99999), timedelta(days=99999)),
        "f": st.none() | st.floats(allow_nan=False),
        "j": st.dictionaries(_TEXTS, _JSON, max_size=3) | st.lists(_JSON, max_size=3),
        "texts": st.none() | st.lists(st.none() | _TEXTS),
        "y": st.none() | st.binary(),
    }
)


@hypothesis.settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(_ROWS, min_size=1, max_size=20))
def test_any_values_come_back(url: str, rows: list[dict[str, Any]]) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        numbered = [{"id": n, **row} for n, row in enumerate(rows)]
        append_rows(connection, [TableRows("everything", rows=numbered)])
        names = ", ".join(rows[0])
        back = connection.execute(f"SELECT {names} FROM everything ORDER BY id").fetchall()
        connection.rollback()
    assert back == [tuple(row[name] for name in rows[0]) for row in rows]


def test_tuples_take_the_columns_and_the_server_its_defaults(url: str) -> None:
    rows = ((f"item {n}", None) for n in range(3))
    assert append_rows(url, [TableRows("items", ("name", "note"), rows=rows)]) == {"items": 3}
    assert run(url, "SELECT id, name, price, double_price FROM items WHERE id = 3") == [
        (3, "item 2", 5, 10)
    ]


def test_rows_are_read_lazily(url: str) -> None:
    """The first block is sent before the last row is made."""
    made = 0

    def rows() -> Iterator[dict[str, object]]:
        nonlocal made
        for made in range(1, 20_001):  # noqa: B007  read outside
            yield {"name": "x" * 100}

    part = TableRows("items", rows=rows())
    with open_link(url) as link:
        load = next(Parts([part], read_catalog(link), Origin("test")).loads())
    assert made == 1
    assert next(iter(load.blocks)).count(b"\n") == made < 10_000


@pytest.mark.parametrize(
    ("rows", "columns", "kind", "said"),
    [
        (
            [{"name": "a"}, {"name": object()}],
            (),
            LoadError,
            "append_rows: items, row 2, column name: <object object at .*> can't be written",
        ),
        (
            [{"name": "a\0"}],
            (),
            LoadError,
            r"row 1, column name: 'a\\x00' can't be written \(.*NUL",
        ),
        (
            [{"name": "a", "price": 1}, {"name": "b", "price": "dear"}],
            (),
            RowsRefusedError,
            "append_rows: items, row 2, column price: invalid input syntax for type numeric: "
            '"dear"; everything was rolled back',
        ),
        (
            [{"name": "a"}, {"name": None}],
            (),
            RowsRefusedError,
            'append_rows: items, row 2: null value in column "name"',
        ),
        ([{"nam": "a"}], (), SchemaError, "items, row 1: .* no column 'nam'; did you mean name?"),
        ([("a",)], ("nam",), SchemaError, "items: the table has no column 'nam'"),
        (
            [{"name": "a", "double_price": 3}],
            (),
            SchemaError,
            "column double_price is generated by the server. Leave it out",
        ),
        (
            [{"name": "a", "price": 3}, {"name": "b"}],
            (),
            LoadError,
            "items, row 2, column price: the row has no value for it, and others have. Only the "
            "server knows its default",
        ),
        (
            [{"name": "a"}, {"note": "b"}],
            (),
            LoadError,
            "items, row 2, column note: the row has a value for it, and the first row has none",
        ),
        (
            [{"name": "a", "note": "x"}, {"note": "b"}],
            (),
            LoadError,
            "items, row 2, column name: the row has no value for it, and it is NOT NULL",
        ),
        ([("a",)], (), LoadError, "row 1: the row is a tuple, and columns= names no columns"),
        ([("a",), ("b", 2)], ("name",), LoadError, "row 2: expected 1 values.*received 2"),
        ([("a",), {"name": 2}], ("name",), LoadError, "row 2: the row is a dict, expected a tuple"),
        ([{"name": 2}, "b"], (), LoadError, "row 2: the row is a str, expected a dict"),
        ([5], ("name",), LoadError, "row 1: the row is a int, expected a dict, a tuple or"),
    ],
)
def test_errors_name_table_row_column_and_value(
    url: str, rows: list[object], columns: tuple[str, ...], kind: type[PerfdataError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        append(url, *rows, columns=columns)
    assert run(url, "SELECT count(*) FROM items") == [(0,)]


def test_a_nullable_column_without_a_default_may_be_left_out_of_a_row(url: str) -> None:
    append(url, {"name": "a", "note": "x"}, {"name": "b"}, {"note": "z", "name": "c"})
    assert run(url, "SELECT name, note FROM items ORDER BY id") == [
        ("a", "x"),
        ("b", None),
        ("c", "z"),
    ]


def test_parts_of_a_table_make_one_copy(url: str) -> None:
    parts = [
        TableRows("items", rows=[]),
        TableRows("items", rows=[{"name": "a", "note": None}]),
        TableRows("items", rows=[{"note": "w", "name": "a2"}]),
        TableRows("items", ("name", "note"), [b"b\tx\n"]),
        TableRows("items", ("name", "note"), rows=iter([])),
        TableRows("items", ("name", "note"), rows=[("c", "y")]),
    ]
    assert append_rows(url, parts) == {"items": 4}
    assert run(url, "SELECT name, note FROM items ORDER BY id") == [
        ("a", None),
        ("a2", "w"),
        ("b", "x"),
        ("c", "y"),
    ]
    assert run(url, "SELECT count(DISTINCT xmin::text || cmin) FROM items") == [(1,)]
    with pytest.raises(LoadError, match="a part of items has the columns note, name, and the firs"):
        append_rows(url, [parts[1], TableRows("items", ("note", "name"), [b"b\tx\n"])])


def test_async_drivers_take_rows_too(url: str) -> None:
    """asyncpg sends the same blocks: nothing depends on psycopg's own COPY."""

    async def append() -> None:
        engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
        rows = [TableRows("everything", rows=[VALUES])]
        async with engine.begin() as connection:
            await connection.run_sync(append_rows, rows)
        await engine.dispose()

    asyncio.run(append())
    assert run(url, "SELECT t, y FROM everything") == [(VALUES["t"], VALUES["y"])]


def test_blocks_that_are_not_bytes_are_the_callers_error(url: str) -> None:
    with pytest.raises(ProjectCodeError, match="append_rows yields a str as a block of items"):
        append_rows(url, [TableRows("items", ("name",), ["a\n"])])  # type: ignore[list-item]


def test_columns_of_copy_text_are_looked_up_before_any_row_is_sent(url: str) -> None:
    rows = TableRows("items", ("id", "naem"), [b"1\tx\n"])
    with pytest.raises(SchemaError, match=r"items: the table has no column 'naem'; did you mean"):
        append_rows(url, [rows])


def test_rows_of_a_named_table_import_neither_sqlalchemy_nor_pyarrow(url: str) -> None:
    code = (
        "import sys; from perfdata import TableRows, append_rows; "
        "append_rows(sys.argv[1], [TableRows('items', rows=[{'name': 'a'}])]); "
        "print({'sqlalchemy', 'pyarrow'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


def test_a_row_that_a_function_refuses_is_named_too(url: str) -> None:
    """There the server names the function before the place in COPY."""
    run(
        url,
        "CREATE FUNCTION short(t text) RETURNS bool LANGUAGE plpgsql AS "
        "$$ BEGIN IF length(t) > 2 THEN RAISE 'too long'; END IF; RETURN true; END $$",
        "ALTER TABLE items ADD CHECK (short(name))",
    )
    with pytest.raises(RowsRefusedError, match="append_rows: items, row 2: too long"):
        append(url, {"name": "a"}, {"name": "abc"})
