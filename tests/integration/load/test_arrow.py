"""Arrow data as binary COPY: its types against the catalog's, and the way by text."""

from __future__ import annotations

import asyncio
import sys
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import hypothesis
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import create_async_engine

from perfdata import ConfigError, LoadError, PerfdataError, SchemaError, TableRows, append_rows
from perfdata.load.rows.fields import Origin
from perfdata.load.rows.parts import Parts
from perfdata.postgres.connection import open_link
from perfdata.postgres.copy import BINARY
from perfdata.postgres.reflection import read_catalog
from tests.integration.databases import run

if TYPE_CHECKING:
    from collections.abc import Sequence

pa = pytest.importorskip("pyarrow")
pytest.importorskip("pgpq")

TABLES = (
    "CREATE TYPE mood AS ENUM ('sad', 'ok')",
    "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
    "CREATE TABLE t (b bool, i2 smallint, i4 int, i8 bigint, f4 real, f8 float8, n numeric(30, 3),"
    " t text, v varchar(20), c char(3), j jsonb, p json, y bytea, u uuid, d date, o time,"
    " local timestamp, at timestamptz, i interval, m mood, a int[], texts text[], ip inet,"
    " r int4range, w positive)",
)
VALUES: dict[str, tuple[Any, Any]] = {
    "b": (pa.bool_(), True),
    "i2": (pa.int64(), -5),
    "i4": (pa.uint8(), 200),
    "i8": (pa.int32(), -(2**31)),
    "f4": (pa.float64(), 1.5),
    "f8": (pa.float32(), -0.25),
    "n": (pa.decimal128(10, 2), Decimal("-12.50")),
    "t": (pa.string_view(), 'a\t"b\\N\né'),
    "v": (pa.large_string(), "some text"),
    "c": (pa.dictionary(pa.int8(), pa.string()), "abc"),
    "j": (pa.string(), '{"a": [1, null]}'),
    "p": (pa.large_string(), "[1, 2]"),
    "y": (pa.large_binary(), b"\x00\xff"),
    "u": (pa.binary(16), uuid.UUID(int=77).bytes),
    "d": (pa.timestamp("ns"), datetime(1969, 2, 3)),  # noqa: DTZ001  the column has no zone
    "o": (pa.time64("ns"), time(1, 2, 3, 4)),
    "local": (pa.timestamp("ms"), datetime(2026, 2, 3, 4, 5, 6, 7000)),  # noqa: DTZ001
    "at": (pa.timestamp("us", "Asia/Tokyo"), datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=UTC)),
    "i": (pa.duration("ms"), timedelta(days=3, seconds=5)),
    "m": (pa.dictionary(pa.uint32(), pa.string_view()), "ok"),
    "a": (pa.list_(pa.int64()), [1, None, -3]),
    "texts": (pa.large_list(pa.string_view()), ['a"b', "", None]),
    "w": (pa.int64(), 3),
}
BACK = {
    **{name: value for name, (_, value) in VALUES.items()},
    "j": {"a": [1, None]},
    "p": [1, 2],
    "u": uuid.UUID(int=77),
    "d": date(1969, 2, 3),
}


@pytest.fixture
def url(empty_url: str) -> str:
    run(empty_url, *TABLES)
    return empty_url


def table(*names: str, rows: int = 1) -> Any:
    fields = {name: VALUES[name] for name in names or VALUES}
    return pa.table({name: array([value] * rows, kind) for name, (kind, value) in fields.items()})


def array(values: list[Any], kind: Any) -> Any:
    if pa.types.is_dictionary(kind):  # pyarrow makes none of views itself
        indices = pa.array(range(len(values)), kind.index_type)
        return pa.DictionaryArray.from_arrays(indices, pa.array(values, kind.value_type))
    return pa.array(values, kind)


def append(url: str, data: object, columns: Sequence[str] = ()) -> int:
    return append_rows(url, [TableRows("t", columns, arrow=data)])["t"]


def copy_format(url: str, data: object) -> tuple[str, list[str]]:
    """Return the format in which a table is sent, and the notes."""
    origin = Origin("test")
    with open_link(url) as link:
        parts = Parts([TableRows("t", arrow=data)], read_catalog(link), origin)
        return next(parts.loads()).copy_format.name, origin.notes


def test_values_of_every_type_come_back_in_binary(url: str) -> None:
    everything = table(rows=2)
    assert copy_format(url, everything) == (BINARY.name, [])
    assert append(url, everything) == 2
    assert run(url, f"SELECT {', '.join(BACK)} FROM t") == [tuple(BACK.values())] * 2
    run(url, "TRUNCATE t")
    nothing = pa.table({name: array([None], kind) for name, (kind, _) in VALUES.items()})
    assert append(url, nothing) == 1
    assert append(url, pa.table({name: pa.nulls(1) for name in VALUES})) == 1
    assert run(url, "SELECT * FROM t") == [(None,) * 25] * 2


def test_what_the_encoder_lacks_goes_as_text_and_is_said(url: str) -> None:
    data = pa.table(
        {
            "ip": ["10.0.0.1", None],
            "j": [{"a": [1, None]}, None],
            "n": pa.array([0.1, None]),
            "t": ["a\tb\\", None],
        }
    )
    name, notes = copy_format(url, data)
    assert name == "text"
    assert notes == [
        f"t.{column}: Arrow's {kind} can't be sent in binary to {given}, so the rows of this "
        "table are sent as text, which is slower"
        for column, kind, given in (
            ("ip", "string", "inet"),
            ("j", "struct<a: list<item: int64>>", "jsonb"),
            ("n", "double", "numeric(30,3)"),
        )
    ]
    assert append(url, data) == 2
    assert run(url, "SELECT host(ip), j, n, t FROM t") == [
        ("10.0.0.1", {"a": [1, None]}, Decimal("0.100"), "a\tb\\"),
        (None,) * 4,
    ]


def test_uuids_may_be_text(url: str) -> None:
    data = pa.table({"u": [str(uuid.UUID(int=5)), None, uuid.UUID(int=6).hex]})
    assert copy_format(url, data) == (BINARY.name, [])
    assert append(url, data) == 3
    assert run(url, "SELECT u FROM t") == [(uuid.UUID(int=5),), (None,), (uuid.UUID(int=6),)]


@pytest.mark.parametrize(
    ("data", "columns", "kind", "said"),
    [
        (
            {"i4": ["1"]},
            (),
            SchemaError,
            "append_rows: t, column i4: its type is integer, and the Arrow data has string. Cast",
        ),
        ({"t": [1]}, (), SchemaError, "its type is text, and the Arrow data has int64"),
        ({"local": pa.array([0], pa.timestamp("us", "UTC"))}, (), SchemaError, "without time zone"),
        ({"a": pa.array([["x"]])}, (), SchemaError, r"type is integer\[\], and .*list<item: str"),
        ({"x": [1]}, (), SchemaError, "append_rows: t: the table has no column 'x'; it has b, i2"),
        ({"i4": [1]}, ("i4", "t"), SchemaError, "the Arrow data has no column t; it has i4"),
        (
            {"i4": [*range(20_000), 2**31]},
            (),
            LoadError,
            "append_rows: t, row 20,001, column i4: 2147483648 does not fit integer",
        ),
        ({"i4": [1.0, 1.5]}, (), LoadError, "row 2, column i4: 1.5 does not fit integer"),
        (
            {"d": pa.array([datetime(2026, 1, 1, 5)])},  # noqa: DTZ001  the column has no zone
            (),
            LoadError,
            r"column d: datetime.datetime\(2026.*does not fit date",
        ),
        ({"u": ["0" * 32, "0" * 30]}, (), LoadError, "row 2, column u: '0{30}' does not fit uuid"),
        ({"u": ["0" * 32, "other"]}, (), LoadError, "row 2, column u: 'other' does not fit uuid"),
        ({"v": ["a", "x" * 21]}, (), LoadError, "append_rows: t, row 2, column v: value too long"),
        ({"w": [1, -1]}, (), LoadError, "append_rows: t, row 2, column w: value for domain"),
        ({"m": ["no"]}, (), LoadError, 'row 1, column m: invalid input value for enum mood: "no"'),
    ],
)
def test_errors_name_the_column_and_both_types_or_the_row(
    url: str, data: dict[str, Any], columns: tuple[str, ...], kind: type[PerfdataError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        append(url, pa.table(data), columns)
    assert run(url, "SELECT count(*) FROM t") == [(0,)]


def test_parts_make_one_copy_and_columns_choose(url: str) -> None:
    frames = [table("i4", "t", rows=3), table("t", "i4", rows=40_000)]
    parts = [TableRows("t", ("t", "i4"), arrow=frame) for frame in frames]
    assert append_rows(url, parts) == {"t": 40_003}
    assert run(url, "SELECT count(DISTINCT xmin::text || cmin), count(i4) FROM t") == [(1, 40_003)]
    with pytest.raises(LoadError, match="the parts of t are partly binary, partly text"):
        append_rows(url, [*parts[:1], TableRows("t", ("t", "i4"), rows=[("x", 1)])])


def test_polars_duckdb_and_pandas(url: str) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(
        {
            "t": ["a", None],
            "m": polars.Series(["ok", "sad"], dtype=polars.Categorical),
            "d": [date(2026, 1, 1), None],
            "at": polars.Series([datetime(2026, 1, 1)] * 2).dt.replace_time_zone("UTC"),  # noqa: DTZ001
            "n": polars.Series([Decimal("1.50"), None]),
            "a": [[1, 2], []],
        }
    )
    assert copy_format(url, frame) == (BINARY.name, [])
    assert append(url, frame) == 2
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert run(url, "SELECT t, m, d, at, n, a FROM t ORDER BY t") == [
        ("a", "ok", date(2026, 1, 1), at, Decimal("1.500"), [1, 2]),
        (None, "sad", None, at, None, []),
    ]
    run(url, "TRUNCATE t")
    duckdb = pytest.importorskip("duckdb")
    relation = duckdb.sql(
        "SELECT i::int AS i4, 'x' || i AS t, DATE '2026-01-01' + i::int AS d, uuid() AS u,"
        " i * 1.5 AS n, now()::timestamp AS local FROM range(5000) r(i)"
    )
    assert append(url, relation) == 5000
    assert run(url, "SELECT sum(i4), max(d), count(DISTINCT u), sum(n) FROM t") == [
        (12497500, date(2039, 9, 9), 5000, Decimal("18746250.000"))
    ]
    run(url, "TRUNCATE t")
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"i4": [1, None], "t": ["a", None], "d": [pandas.Timestamp(0)] * 2})
    assert append(url, frame) == 2
    assert run(url, "SELECT i4, t, d FROM t") == [
        (1, "a", date(1970, 1, 1)),
        (None, None, date(1970, 1, 1)),
    ]
    with pytest.raises(LoadError, match="arrow= is a list, which has no __arrow_c_stream__"):
        append(url, [1])


def test_asyncpg_takes_binary_too(url: str) -> None:
    async def append() -> None:
        engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
        async with engine.begin() as connection:
            await connection.run_sync(append_rows, [TableRows("t", arrow=table())])
        await engine.dispose()

    asyncio.run(append())
    assert run(url, f"SELECT {', '.join(BACK)} FROM t") == [tuple(BACK.values())]


_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
_ROWS = st.fixed_dictionaries(
    {
        "b": st.none() | st.booleans(),
        "i8": st.none() | st.integers(-(2**63), 2**63 - 1),
        "f8": st.none() | st.floats(allow_nan=False),
        "t": st.none() | _TEXTS,
        "y": st.none() | st.binary(),
        "d": st.none() | st.dates(),
        "o": st.none() | st.times(),
        "at": st.none() | st.datetimes(timezones=st.just(UTC)),
        "i": st.none() | st.timedeltas(timedelta(days=-99999), timedelta(days=99999)),
        "n": st.none() | st.decimals(-(10**20), 10**20, places=3),
        "texts": st.none() | st.lists(st.none() | _TEXTS),
        "a": st.none() | st.lists(st.none() | st.integers(-(2**31), 2**31 - 1)),
    }
)
_KINDS = {
    **{name: kind for name, (kind, _) in VALUES.items()},
    "i8": pa.int64(),
    "f8": pa.float64(),
    "n": pa.decimal128(30, 3),
    "d": pa.date32(),
    "o": pa.time64("us"),
    "i": pa.duration("us"),
    "at": pa.timestamp("us", "UTC"),
}


@hypothesis.settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(_ROWS, min_size=1, max_size=20))
def test_any_values_come_back(url: str, rows: list[dict[str, Any]]) -> None:
    names = ("b", "i8", "f8", "t", "y", "d", "o", "at", "i", "n", "texts", "a")
    frame = pa.table(
        {
            "i4": pa.array(range(len(rows))),
            **{name: array([row[name] for row in rows], _KINDS[name]) for name in names},
        }
    )
    with psycopg.connect(url) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        append_rows(connection, [TableRows("t", arrow=frame)])
        back = connection.execute(f"SELECT {', '.join(names)} FROM t ORDER BY i4").fetchall()
        connection.rollback()
    assert back == [tuple(row[name] for name in names) for row in rows]


def test_without_the_extra_the_error_says_what_to_install(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "perfdata.load.rows.arrow", raising=False)
    monkeypatch.setitem(sys.modules, "pgpq", None)
    with pytest.raises(ConfigError, match=r"arrow= needs pgpq, .* Install perfdata\[arrow\]"):
        append(url, table("i4"))
