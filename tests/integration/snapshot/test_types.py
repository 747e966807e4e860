"""A zoo of types: every value that a column can hold comes back as it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from psycopg import sql

from perfdata import (
    SchemaError,
    ServerRefusedError,
    Settings,
    create_snapshot,
    restore_snapshot,
)
from tests.integration.databases import run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    RoundTrip = Callable[..., tuple[str, str, Any]]

NAME = "types"


# Every type of pg_catalog that takes input, with values at its edges; arrays are made of these.
VALUES: dict[str, Sequence[str]] = {
    "aclitem": ["=r/perfdata"],
    "bigint": ["-9223372036854775808", "9223372036854775807", "0"],
    "bit(3)": ["101", "000"],
    "bit varying": ["", "1", "0110" * 40],
    "boolean": ["t", "f"],
    "box": ["(1,2),(-3.5,-1e-300)"],
    "bpchar": ["a  ", "   ", "", "x"],
    "bytea": [r"\x", r"\x00ff5c0a", r"\x22277e"],
    '"char"': ["a", "", r"\001", r"\011", '"', "\\"],
    "character(5)": ["ab", "", "あいうえお"],
    "character varying": ["", "a ", "\\N", "\\."],
    "cid": ["0", "4294967295"],
    "cidr": ["10.0.0.0/8", "::/0", "2001:db8::/32"],
    "circle": ["<(1.1,2.2),0>"],
    "date": ["4714-11-24 BC", "5874897-12-31", "infinity", "-infinity", "2024-02-29", "0001-01-01"],
    "double precision": [
        "NaN", "Infinity", "-Infinity", "-0", "5e-324", "1.7976931348623157e308",
        "0.30000000000000004", "1e23",
    ],
    "gtsvector": [],
    "inet": ["192.168.1.5", "192.168.1.5/24", "::1", "::ffff:1.2.3.4/128"],
    "int2vector": ["1 2 -3", ""],
    "integer": ["-2147483648", "2147483647"],
    "interval": [
        "178000000 years", "-178000000 years", "1 mon -1 day 00:00:00.000001", "0",
        "-00:00:01.5", "1 year -2 mons +3 days -04:05:06.789",
    ],
    "json": ['{"b" : 1,\n\t"a":[ ],"b":2}', "null", '"\\u0000\\ud83d"', "1.0e400", '  "x"  '],
    "jsonb": ['{"b": 1, "a": {"": null}}', "null", "1.10", '"\\u00e9\\n\\t"'],
    "jsonpath": ['$."a b"[*] ? (@ > 1)', "strict $"],
    "line": ["{1,-1,0}", "{0.1,1e300,-0.5}"],
    "lseg": ["[(1,2),(3.5,1e-9)]"],
    "macaddr": ["08:00:2b:01:02:03"],
    "macaddr8": ["08:00:2b:01:02:03:04:05"],
    "money": ["-92233720368547758.08", "92233720368547758.07", "0.1"],
    "name": ["", "Ünïcode", "a" * 63, '"quoted"'],
    "numeric": [
        "NaN", "Infinity", "-Infinity", "0.000", "1" + "0" * 1000, "-0." + "0" * 900 + "1",
        "12345678901234567890.12345678901234567890",
    ],
    "numeric(10,3)": ["1.5", "-9999999.999", "NaN"],
    "oid": ["0", "4294967295"],
    "oidvector": ["1 2 4294967295", ""],
    "path": ["[(1,2),(3,4)]", "((1,2),(3,4))"],
    "pg_lsn": ["0/0", "FFFFFFFF/FFFFFFFF"],
    "pg_snapshot": ["10:20:10,14,15"],
    "point": ["(1.5,-0)", "(NaN,Infinity)"],
    "polygon": ["((1,2),(3,4),(5e100,6))"],
    "real": ["NaN", "-0", "1.1754944e-38", "0.1", "3.4028235e38"],
    "refcursor": ["", "my cursor"],
    "regclass": ["pg_class", '"Mixed Name"."sp ace"', "-", "4000000000"],
    "regcollation": ['"C"', "-"],
    "regconfig": ["english", "simple"],
    "regdictionary": ["simple"],
    "regnamespace": ["pg_catalog", '"Mixed Name"', "-"],
    "regoper": ["pg_catalog.||/", "0"],
    "regoperator": ["+(integer,integer)", "0"],
    "regproc": ["now", "-"],
    "regprocedure": ["sum(integer)", "-"],
    "regrole": ["perfdata", "-"],
    "regtype": ["integer", "timestamp with time zone[]", "-"],
    "regdatabase": ["postgres", "-"],
    "smallint": ["-32768", "32767"],
    "text": ["", "null", "NULL", "\\N", "\\.", '"', "'", "\\", " x ", "a\nb\r\nc\td", "😀"],
    "tid": ["(0,0)", "(4294967295,65535)"],
    "time": ["24:00:00", "00:00:00.000001"],
    "time with time zone": ["24:00:00-15:59", "00:00:00+15:59:59"],
    "timestamp": [
        "4714-11-24 00:00:00 BC", "294276-12-31 23:59:59.999999", "infinity", "-infinity",
        "0044-03-15 12:00 BC",
    ],
    "timestamp(0) with time zone": ["2024-12-31 23:59:59.9+09"],
    "timestamp with time zone": [
        "4714-11-24 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00", "infinity", "-infinity",
        "1883-11-18 12:03:57-07:52:58",
    ],
    "tsquery": ["'a b' & !c:*A <2> 'it''s'", ""],
    "tsvector": ["'a b':1A,2B 'it''s' '\\\\':3", ""],
    "txid_snapshot": ["10:20:10,14,15"],
    "uuid": ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
    "xid": ["0", "4294967295"],
    "xid8": ["0", "18446744073709551615"],
    "xml": ["<a b='1'>x<!-- c --> &amp;\n</a>", "just <b>content</b>", ""],
    "int4range": ["empty", "[1,5)", "(,)", "[,3]"],
    "int8range": ["[-9223372036854775808,9223372036854775807)"],
    "numrange": ["[NaN,NaN]", "(1.10,2.200)", "empty"],
    "tsrange": ['["0044-03-15 12:00 BC",infinity)', "(,)"],
    "tstzrange": ["[2024-01-01 00:00+09,)", "empty"],
    "daterange": ["[-infinity,2024-02-29]", "empty"],
    "int4multirange": ["{}", "{[1,3),[5,8)}"],
    "int8multirange": ["{(,5),[9,)}"],
    "nummultirange": ["{[1.10,2.2],(3,4)}"],
    "tsmultirange": ["{[2024-01-01,2024-01-02)}"],
    "tstzmultirange": ["{[2024-01-01 00:00+09,infinity)}"],
    "datemultirange": ["{[2024-01-01,2024-01-02)}", "{}"],
}  # fmt: skip
OBJECTS = ('CREATE SCHEMA "Mixed Name"', 'CREATE TABLE "Mixed Name"."sp ace" ()')

# What the server takes no text for, or never stores in a column.
_UNWRITABLE = (
    "pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list",
    "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary", "pg_ddl_command",
)  # fmt: skip


def known_types(url: str) -> dict[str, Sequence[str]]:
    """Return the values of the types that this server has, by the type as it calls it."""
    known: dict[str, Sequence[str]] = {}
    with psycopg.connect(url, autocommit=True) as connection:
        for name, values in VALUES.items():
            bare = name.partition("(")[0].strip('"') if name != '"char"' else name
            found = connection.execute("SELECT to_regtype(%s)::text", (bare,)).fetchone()
            if found and found[0]:
                known[name] = values
        try:
            connection.execute("SELECT '<a/>'::xml")
        except psycopg.errors.FeatureNotSupported:
            known["xml"] = []
    return known


def insertions(types: dict[str, Sequence[str]]) -> list[sql.Composed]:
    """Make the statements that insert the values, a column a type, and arrays of them."""
    statements = []
    longest = max(map(len, types.values()))
    for n in range(longest + 1):
        cells, arrays = [], []
        for name, values in types.items():
            kind = sql.SQL(name)
            cells.append(
                sql.SQL("{}::{}").format(sql.Literal(values[n]), kind)
                if n < len(values)
                else sql.SQL("NULL")
            )
            elements = sql.SQL(", ").join(
                sql.SQL("{}::{}").format(sql.Literal(value), kind) for value in values[: n + 1]
            )
            arrays.append(
                sql.SQL("ARRAY[{}, NULL]::{}[]").format(elements, kind)
                if values
                else sql.SQL("NULL")
            )
        joined = sql.SQL(", ").join
        statements.append(sql.SQL("INSERT INTO scalars VALUES ({})").format(joined(cells)))
        statements.append(sql.SQL("INSERT INTO arrays VALUES ({})").format(joined(arrays)))
    return statements


def tables(types: dict[str, Sequence[str]]) -> list[str]:
    names = list(types)
    scalars = ", ".join(f"c{n} {name}" for n, name in enumerate(names))
    arrays = ", ".join(f"c{n} {name}[]" for n, name in enumerate(names))
    return [f"CREATE TABLE scalars ({scalars})", f"CREATE TABLE arrays ({arrays})"]


def test_every_built_in_type_and_its_arrays_come_back(
    round_trip: RoundTrip, empty_url: str
) -> None:
    types = known_types(empty_url)
    _, target, restored = round_trip(
        [*OBJECTS, *tables(types)],
        [
            *insertions(types),
            "INSERT INTO arrays (c1) VALUES ('[-1:0][2:3]={{1,NULL},{3,4}}'), ('{}')",
        ],
    )
    assert restored.rows["scalars"] > 5
    assert run(target, "SELECT count(*) FROM arrays") == [(restored.rows["arrays"],)]


def test_no_built_in_type_is_forgotten(empty_url: str) -> None:
    missing = run(
        empty_url,
        sql.SQL(
            "SELECT typname::text FROM pg_type WHERE typtype IN ('b', 'r', 'm') AND typelem = 0"
            " AND typnamespace = 'pg_catalog'::regnamespace AND NOT typname = ANY ({})"
            " AND NOT oid = ANY (SELECT to_regtype(n) FROM unnest({}::text[]) n"
            " WHERE to_regtype(n) IS NOT NULL)"
        ).format(
            sql.Literal(list(_UNWRITABLE)),
            sql.Literal([n.partition("(")[0].strip() if n != '"char"' else n for n in VALUES]),
        ),
    )
    assert missing == []


MADE = (
    "CREATE SCHEMA elsewhere",
    "CREATE TYPE elsewhere.mood AS ENUM ('sad', 'so \"so\"', '', 'ハッピー')",
    "CREATE DOMAIN elsewhere.short AS text CHECK (length(value) < 5) NOT NULL",
    "CREATE DOMAIN padded AS bpchar",
    "CREATE DOMAIN deeper AS padded",
    "CREATE TYPE pair AS (a int, b text, c bpchar, d elsewhere.mood[])",
    "CREATE DOMAIN of_pair AS pair CHECK ((value).a > 0)",
    "CREATE TYPE nested AS (p pair, ps pair[], t timestamptz)",
    'CREATE TYPE text_range AS RANGE (subtype = text, collation = "C")',
    "CREATE TYPE mood_range AS RANGE (subtype = elsewhere.mood, multirange_type_name = mood_spans)",
    "CREATE TABLE made (id int, m elsewhere.mood, ms elsewhere.mood[], s elsewhere.short,"
    " d deeper, ds deeper[], p pair, o of_pair, n nested, r text_range, mr mood_range,"
    " mm mood_spans, rows_of pair[], whole made_of)",
)


def test_types_that_somebody_made_come_back(round_trip: RoundTrip) -> None:
    """Enums, domains over domains, composites of composites, ranges, a table's own row type."""
    schema = [*MADE[:-1], "CREATE TABLE made_of (x numeric, y json)", MADE[-1]]
    round_trip(
        schema,
        [
            "INSERT INTO made VALUES (1, 'so \"so\"', '{sad,NULL,\"\"}', 'abcd', 'x  ', '{\"y \"}',"
            " (1, 'a\"b\\c', 'z  ', '{ハッピー}'), (2, NULL, NULL, NULL),"
            " ((3, '', NULL, '{}'), ARRAY[(4, ',', '()', NULL)::pair, NULL], '0044-03-15 BC'),"
            " '[\"a,b\",\"c\\\"d\")', '[sad,\"\"]', '{[sad,sad]}', ARRAY[(5, 'n', '', NULL)::pair],"
            " (1.10, '{\"a\" : 1}'))",
            "INSERT INTO made (id, s, p, n) VALUES (2, '', (NULL, NULL, NULL, NULL), NULL),"
            " (3, ' ', NULL, (NULL, NULL, NULL))",
        ],
    )


def test_casts_to_text_that_somebody_made_are_not_asked(round_trip: RoundTrip) -> None:
    """For built-in types too, and for domains, arrays and enums."""
    casts = []
    for n, kind in enumerate(("point", "int[]", "mood", "pair", "varbit")):
        casts += [
            f"CREATE FUNCTION shout{n}({kind}) RETURNS text IMMUTABLE LANGUAGE sql"
            " AS $$ SELECT 'no!' $$",
            f"CREATE CAST ({kind} AS text) WITH FUNCTION shout{n}({kind}) AS ASSIGNMENT",
        ]
    round_trip(
        [
            "CREATE TYPE mood AS ENUM ('sad', 'fine')",
            "CREATE TYPE pair AS (a int, b int)",
            *casts,
            "CREATE DOMAIN place AS point",
            "CREATE TABLE cast_away (p point, a int[], m mood, q pair, v varbit, d place)",
        ],
        [
            "INSERT INTO cast_away VALUES ('(1,2)', '{1,NULL}', 'sad', (NULL, NULL), '101',"
            " '(3,4)'), (NULL, '{}', 'fine', (1, NULL), '', NULL), (NULL, NULL, NULL, NULL,"
            " NULL, NULL)"
        ],
    )


EXTENSIONS = {
    "hstore": ["", 'a=>1, "b c"=>NULL, "\\"q\\""=>"\\\\"'],
    "citext": ["MiXed", ""],
    "ltree": ["a.b.c", ""],
    "cube": ["(1,2),(3,4)", "(0)"],
    "seg": ["1.0 .. 2.50", "<3"],
    "isn": [],
}


def test_types_of_extensions_come_back(round_trip: RoundTrip, empty_url: str) -> None:
    available = {
        name: EXTENSIONS[name]
        for (name,) in run(empty_url, "SELECT name::text FROM pg_available_extensions")
        if EXTENSIONS.get(name)
    }
    assert available, "neither server was built without its extensions"
    columns = ", ".join(f"c{n} {name}" for n, name in enumerate(available))
    rows = [
        sql.SQL("INSERT INTO extended VALUES ({})").format(
            sql.SQL(", ").join(sql.Literal(values[n]) for values in available.values())
        )
        for n in range(2)
    ]
    round_trip(
        [
            *(f"CREATE EXTENSION {name}" for name in available),
            f"CREATE TABLE extended ({columns})",
        ],
        rows,
    )


def test_every_text_comes_back(round_trip: RoundTrip) -> None:
    """Each character of the first planes, what COPY gives a meaning, and lines of megabytes."""
    meanings = [
        "", "null", "NULL", "\\N", "\\.", "\\\\.", '"', '""', '"\\', '\\"', "],", "],\n[", "[",
        "\n\\.\n", "\r\n", "\\n", "\\u0000", "\\ud83d", "\ufffd", "\ufeff", "\u3000", "\x01,\x02",
    ]  # fmt: skip
    texts = [
        *meanings,
        *(chr(code) for code in (*range(1, 0x2FF), 0x2028, 0xFFFF, 0x10000, 0x10FFFF)),
        "".join(chr(code) for code in range(1, 0xD800)),
        '\\"\n\x01' * 600_000,
    ]
    with_rows = sql.SQL(
        "INSERT INTO said SELECT n, t FROM unnest({}::text[]) WITH ORDINALITY u (t, n)"
    )
    _, target, _ = round_trip(
        ["CREATE TABLE said (n int, t text)", "CREATE TABLE one (t text)"],
        [
            with_rows.format(sql.Literal(texts)),
            "INSERT INTO said VALUES (0, NULL)",
            "INSERT INTO one SELECT t FROM said",
        ],
    )
    assert [row[0] for row in run(target, "SELECT t FROM said ORDER BY n")] == [None, *texts]
    assert run(target, "SELECT count(*), count(t) FROM one") == [(len(texts) + 1, len(texts))]


def test_tables_of_every_width_come_back(round_trip: RoundTrip) -> None:
    """No column, one, 500, as many as there can be; columns that were dropped, generated alone."""
    wide = ", ".join(f"c{n} int" for n in range(500))
    widest = ", ".join(f"c{n} bool" for n in range(1600))
    schema = [
        "CREATE TABLE none ()",
        "CREATE TABLE one (a text)",
        f"CREATE TABLE wide ({wide})",
        f"CREATE TABLE widest ({widest})",
        "CREATE TABLE dropped (a int, b text, c int)",
        "ALTER TABLE dropped DROP COLUMN b",
        "CREATE TABLE nothing_left (a int)",
        "ALTER TABLE nothing_left DROP COLUMN a",
        "CREATE TABLE made_up (a int GENERATED ALWAYS AS (1) STORED)",
    ]
    _, target, _ = round_trip(
        schema,
        [
            "INSERT INTO none DEFAULT VALUES",
            "INSERT INTO none SELECT FROM generate_series(1, 4)",
            "INSERT INTO one VALUES (NULL), (''), ('null')",
            f"INSERT INTO wide SELECT {', '.join(map(str, range(499)))}, NULL",
            "INSERT INTO widest DEFAULT VALUES",
            "INSERT INTO widest (c0, c1599) VALUES (true, false)",
            "INSERT INTO dropped VALUES (1, 2), (NULL, 3)",
            "INSERT INTO nothing_left SELECT FROM generate_series(1, 3)",
            "INSERT INTO made_up SELECT FROM generate_series(1, 2)",
        ],
    )
    assert run(target, "SELECT count(*) FROM none") == [(5,)]
    assert run(target, "SELECT count(*) FROM made_up") == [(2,)]


def test_any_name_is_a_name(round_trip: RoundTrip) -> None:
    """Upper case, blanks, quotes, dots, percent signs, key words, Japanese, 63 bytes."""
    names = [
        "MiXed", "two words", 'qu"ote', "do.t", "%s", "%(x)s", "select", "表", "x" * 63, "a\\b",
        "new\nline", "'", "-- c", "{}",
    ]  # fmt: skip
    schema, rows = [], []
    for n, name in enumerate(names):
        here, there = sql.Identifier(name), sql.Identifier(names[n - 1])
        schema += [
            sql.SQL("CREATE SCHEMA {}").format(here),
            sql.SQL("CREATE TABLE {}.{} ({} int GENERATED ALWAYS AS IDENTITY, {} text)").format(
                here, there, here, there
            ),
            sql.SQL("ALTER TABLE {}.{} ADD CONSTRAINT {} PRIMARY KEY ({})").format(
                here, there, here, here
            ),
            sql.SQL(
                "ALTER TABLE {}.{} ADD o int, ADD CONSTRAINT {} FOREIGN KEY (o) REFERENCES {}.{}"
            ).format(here, there, sql.Identifier(f"k{name}"[:60]), here, there),
        ]
        rows.append(
            sql.SQL("INSERT INTO {}.{} ({}, o) VALUES ('x', 2), ('y', 1)").format(
                here, there, there
            )
        )
    _, _, restored = round_trip(schema, rows)
    assert len(restored.rows) == len(names)
    assert set(restored.rows.values()) == {2}


def make_database(server: Any, name: str, encoding: str) -> None:
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(
            sql.SQL(
                "CREATE DATABASE {} ENCODING {} LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0"
            ).format(sql.Identifier(name), sql.Literal(encoding))
        )


@pytest.fixture
def encoded(server: Any, databases: Any) -> Callable[[str], str]:
    """Make a database of another encoding."""

    def make(encoding: str) -> str:
        name = f"in_{encoding.lower()}"
        make_database(server, name, encoding)
        databases.made.append(name)
        return str(databases.url(name))

    return make


def test_an_encoding_that_says_nothing_is_refused(
    encoded: Callable[[str], str], settings: Settings
) -> None:
    url = encoded("SQL_ASCII")
    run(url, "CREATE TABLE t (a text)")
    with pytest.raises(SchemaError, match="SQL_ASCII"):
        create_snapshot(url, NAME, all_rows=True, settings=settings)


def test_another_encoding_comes_back_and_takes_only_what_it_can_write(
    encoded: Callable[[str], str], settings: Settings, digests: Callable[[str], Any]
) -> None:
    """The manifest names it. A character that the other database lacks rolls everything back."""
    url = encoded("LATIN1")
    with psycopg.connect(url, autocommit=True, client_encoding="utf8") as connection:
        connection.execute("CREATE TABLE t (a text)")
        connection.execute("INSERT INTO t VALUES ('é ÿ'), ('x')")
        before = digests(url)
    with psycopg.connect(url, autocommit=True, client_encoding="latin1") as connection:
        made = create_snapshot(connection, NAME, all_rows=True, settings=settings)
        connection.execute("TRUNCATE t")
        restore_snapshot(connection, NAME, settings=settings)
    assert made.manifest.server_encoding == "LATIN1"
    assert digests(url) == before
    other = encoded("LATIN2")
    run(other, "CREATE TABLE t (a text)")
    with pytest.raises(ServerRefusedError, match="no equivalent in encoding"):
        restore_snapshot(other, NAME, settings=settings)
    assert run(other, "SELECT count(*) FROM t") == [(0,)]
    made.path.unlink()


def literal(values: Sequence[str | None]) -> str:
    """Write an array as PostgreSQL reads it."""
    cells = [
        "NULL" if one is None else '"' + one.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for one in values
    ]
    return "{" + ",".join(cells) + "}"


characters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
texts = st.text(characters)
documents = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=5,
)
moments = st.datetimes().map(str) | st.datetimes().map("{} BC".format)
# Below a year of 4,000 both eras are within what PostgreSQL's dates hold.
moments = moments.filter(lambda text: text < "4000")
floats = st.floats().map(repr)
VALUES_OF = {
    "text": texts,
    "varchar[]": st.lists(st.none() | texts).map(literal),
    "bpchar": texts,
    "bytea": st.binary().map(lambda value: "\\x" + value.hex()),
    "boolean": st.sampled_from(["t", "f"]),
    "bigint": st.integers(-(2**63), 2**63 - 1).map(str),
    "smallint[]": st.lists(st.none() | st.integers(-(2**15), 2**15 - 1).map(str)).map(literal),
    "numeric": st.decimals(allow_nan=False).map(str) | st.sampled_from(["NaN", "1e-1000"]),
    "double precision": floats,
    "real": st.floats(width=32).map(repr),
    "money": st.integers(-(2**63) + 1, 2**63 - 1).map(
        lambda n: f"{'-' if n < 0 else ''}{abs(n) // 100}.{abs(n) % 100:02}"
    ),
    "timestamp": moments,
    "timestamp with time zone": moments.map(lambda text: text.replace(" BC", "+05:30 BC")),
    "tsrange": st.tuples(moments, moments).map(lambda pair: f'["{pair[0]}",)'),
    "time": st.times().map(str),
    "interval": st.tuples(
        st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9), st.integers(-(2**53), 2**53)
    ).map(lambda t: f"{t[0]} mons {t[1]} days {t[2]} microseconds"),
    "uuid": st.uuids().map(str),
    "inet": st.ip_addresses().map(str),
    "varbit": st.text("01"),
    "point": st.tuples(floats, floats).map(lambda pair: f"({pair[0]},{pair[1]})"),
    "json": st.tuples(documents, st.sampled_from([None, 1, "\t"])).map(
        lambda pair: json.dumps(pair[0], indent=pair[1], ensure_ascii=pair[1] == 1)
    ),
    "jsonb": documents.map(json.dumps),
    "jsonb[]": st.lists(documents.map(json.dumps)).map(literal),
    "int8multirange": st.lists(st.integers(-1000, 1000)).map(
        lambda starts: "{" + ",".join(f"[{n},{n + 3})" for n in starts) + "}"
    ),
    "tsvector": st.lists(st.text(characters, min_size=1, max_size=100)).map(
        lambda words: " ".join(
            "'" + word.replace("\\", "\\\\").replace("'", "''") + "':1A" for word in words
        )
    ),
    "composed": st.tuples(st.none() | texts, texts).map(
        lambda pair: literal(pair).replace("NULL", "")[1:-1].join("()")
    ),
}


@pytest.fixture
def twins(databases: Any) -> tuple[str, str]:
    """Two databases with a table of many types."""
    columns = ", ".join(f"c{n} {name}" for n, name in enumerate(VALUES_OF))
    urls = databases.make("template0"), databases.make("template0")
    for url in urls:
        run(url, "CREATE TYPE composed AS (a text, b text)", f"CREATE TABLE many ({columns})")
    return urls


@examples(
    max_examples=25,
    deadline=None,
    # To shrink what fails is to restore it thousands of times.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rows=st.lists(st.tuples(*(st.none() | one for one in VALUES_OF.values())), min_size=1))
def test_whatever_values_there_are_come_back(
    rows: list[tuple[str | None, ...]],
    twins: tuple[str, str],
    settings: Settings,
    digests: Callable[[str], Any],
) -> None:
    source, target = twins
    cells = ", ".join(f"%s::text::{name}" for name in VALUES_OF)
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("TRUNCATE many")
        with connection.cursor() as cursor:
            cursor.executemany(sql.SQL(f"INSERT INTO many VALUES ({cells})"), rows)
    run(target, "TRUNCATE many")
    made = create_snapshot(source, NAME, all_rows=True, replace=True, settings=settings)
    try:
        restore_snapshot(target, NAME, settings=settings)
    finally:
        made.path.unlink()
    assert digests(target) == digests(source)


STRANGE = (
    "datestyle = 'SQL, DMY'", "intervalstyle = 'sql_standard'", "extra_float_digits = -15",
    "bytea_output = 'escape'", "timezone = 'Asia/Tokyo'", "array_nulls = off",
    "xmloption = 'document'", "standard_conforming_strings = off", "row_security = off",
    "quote_all_identifiers = on", "search_path = 'Mixed Name'", "client_encoding = 'LATIN1'",
    "default_transaction_isolation = 'serializable'", "default_transaction_read_only = on",
    "default_transaction_deferrable = on", "transform_null_equals = on",
    "debug_parallel_query = on" , "force_parallel_mode = on", "parallel_setup_cost = 0",
)  # fmt: skip


@pytest.mark.parametrize("where", ["source", "target"])
def test_a_databases_settings_change_no_value_of_any_type(
    round_trip: RoundTrip, empty_url: str, where: str
) -> None:
    """What decides how values are written and read is ours, where only one database has its own."""
    types = known_types(empty_url)
    known = {name for (name,) in run(empty_url, "SELECT lower(name) FROM pg_settings")}
    changes = "; ".join(
        f"EXECUTE format('ALTER DATABASE %I SET {one.replace(chr(39), chr(39) * 2)}',"
        " current_database())"
        for one in STRANGE
        if one.partition(" ")[0] in known
    )
    change = f"DO $do$ BEGIN {changes}; END $do$"
    reset = (
        "DO $do$ BEGIN EXECUTE format('ALTER DATABASE %I RESET ALL', current_database()); END $do$"
    )
    schema, rows = [*OBJECTS, *tables(types)], [*insertions(types)]
    if where == "target":
        round_trip([*schema, change], [*rows, reset])
    else:
        round_trip(schema, [*rows, change])


def test_a_databases_timeouts_end_neither_create_nor_restore(
    empty_url: str, settings: Settings
) -> None:
    name = psycopg.conninfo.conninfo_to_dict(empty_url)["dbname"]
    run(
        empty_url,
        "CREATE TABLE slow (id int PRIMARY KEY, up int REFERENCES slow)",
        "INSERT INTO slow SELECT g, g FROM generate_series(1, 300000) g",
        f"ALTER DATABASE \"{name}\" SET statement_timeout = '100ms'",
        f"ALTER DATABASE \"{name}\" SET idle_in_transaction_session_timeout = '100ms'",
    )
    made = create_snapshot(empty_url, NAME, all_rows=True, settings=settings)
    with psycopg.connect(empty_url, options="-c statement_timeout=0", autocommit=True) as other:
        other.execute("TRUNCATE slow")
    assert restore_snapshot(empty_url, NAME, settings=settings).rows == {"slow": 300000}
    made.path.unlink()
