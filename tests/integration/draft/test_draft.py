"""Drafts run as they are, whatever the schema, and hold nothing of anybody's rows."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from datetime import date
from itertools import count
from typing import TYPE_CHECKING

import pytest

from perfdata import SchemaError, Target, build_dataset, draft_dataset
from perfdata.postgres.url import normalise_url
from tests.integration.databases import mark_owned, run
from tests.integration.inner import entry
from tests.integration.load.test_zoo import SEQUENCES, VIEWS, ZOO, ZOO_18
from tests.integration.snapshot.test_types import known_types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from perfdata import Built, Draft, Settings
    from tests.integration.conftest import Databases

AS_OF = date(2026, 1, 1)
_numbers = count(1)

# Every way in which rows are kept apart, and names that are no names in Python.
KEYS = (
    "CREATE TABLE person (id uuid PRIMARY KEY, manager uuid REFERENCES person)",
    "CREATE TABLE profile (person_id uuid PRIMARY KEY REFERENCES person, bio text)",
    'CREATE TABLE tag (code char(2) PRIMARY KEY, letter "char" NOT NULL)',
    "CREATE TABLE tagged (person_id uuid REFERENCES person, tag char(2) REFERENCES tag,"
    " PRIMARY KEY (person_id, tag))",
    "CREATE TABLE invoice (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number int UNIQUE,"
    " person_id uuid NOT NULL REFERENCES person, UNIQUE (person_id, number))",
    "CREATE TABLE line (invoice_id bigint REFERENCES invoice, position int, n smallint,"
    " PRIMARY KEY (invoice_id, position))",
    "CREATE TABLE part (invoice_id bigint, position int, of_part text,"
    " FOREIGN KEY (invoice_id, position) REFERENCES line, UNIQUE (invoice_id, position, of_part))",
    "CREATE TYPE side AS ENUM ('left', 'right')",
    "CREATE TABLE hand (person_id uuid NOT NULL REFERENCES person, side side NOT NULL,"
    " UNIQUE (person_id, side))",
    "CREATE TABLE flag (on_off boolean PRIMARY KEY, side side UNIQUE)",
    "CREATE TABLE tiny (id smallint PRIMARY KEY, letter varchar(1) UNIQUE)",
    'CREATE TABLE "order" (id serial PRIMARY KEY, "from" text, "to do" int NOT NULL, "name" text,'
    ' "{braces}" text, _hidden text, lower_once text NOT NULL)',
    'CREATE UNIQUE INDEX ON "order" (lower(lower_once))',
    'CREATE TABLE "Class" ("Id" int PRIMARY KEY, "class" int NOT NULL REFERENCES "Class")',
    "CREATE TABLE egg (id int PRIMARY KEY, hen int NOT NULL)",
    "CREATE TABLE hen (id int PRIMARY KEY, egg int NOT NULL REFERENCES egg)",
    "ALTER TABLE egg ADD FOREIGN KEY (hen) REFERENCES hen",
)
# As the migrations of examples/shop make it.
SHOP = (
    "CREATE TABLE customers (id serial PRIMARY KEY, name text NOT NULL,"
    " email text NOT NULL UNIQUE)",
    "CREATE TABLE products (id serial PRIMARY KEY, name text NOT NULL,"
    " price numeric(10,2) NOT NULL)",
    "CREATE TABLE orders (id serial PRIMARY KEY, customer_id int NOT NULL REFERENCES customers,"
    " ordered_at timestamptz NOT NULL, status text NOT NULL DEFAULT 'new')",
    "CREATE TABLE order_lines (order_id int NOT NULL REFERENCES orders, position int NOT NULL,"
    " product_id int NOT NULL REFERENCES products, quantity int NOT NULL,"
    " PRIMARY KEY (order_id, position))",
)
# Tables whose keys share the tenant, and people who may not follow themselves.
SHARED = (
    "CREATE TABLE tenant (id uuid PRIMARY KEY)",
    "CREATE TABLE client (tenant_id uuid REFERENCES tenant, id bigint,"
    " PRIMARY KEY (tenant_id, id))",
    "CREATE TABLE item (tenant_id uuid REFERENCES tenant, id bigint, sku text NOT NULL,"
    " PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, sku))",
    "CREATE TABLE sale (tenant_id uuid REFERENCES tenant, id bigint, client_id bigint NOT NULL,"
    " PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, client_id) REFERENCES client)",
    "CREATE TABLE sold (tenant_id uuid, sale_id bigint, item_id bigint, note_id bigint,"
    " PRIMARY KEY (tenant_id, sale_id, item_id),"
    " FOREIGN KEY (tenant_id, sale_id) REFERENCES sale,"
    " FOREIGN KEY (tenant_id, item_id) REFERENCES item)",
    "CREATE TABLE area (region int, id int, PRIMARY KEY (region, id))",
    "CREATE TABLE shop (region int, id int, PRIMARY KEY (region, id))",
    "CREATE TABLE visit (region int NOT NULL, shop int NOT NULL, area int NOT NULL,"
    " FOREIGN KEY (region, shop) REFERENCES shop, FOREIGN KEY (region, area) REFERENCES area)",
    "CREATE TABLE account (id serial PRIMARY KEY)",
    "CREATE TABLE follows (follower int REFERENCES account, followee int REFERENCES account,"
    " PRIMARY KEY (follower, followee), CHECK (follower <> followee))",
    "CREATE TABLE schema_migrations (version text PRIMARY KEY)",
)
CHECKS = (
    "CREATE DOMAIN grade AS int CHECK (VALUE BETWEEN 1 AND 5)",
    "CREATE DOMAIN shirt AS text CHECK (VALUE IN ('S', 'M', 'L'))",
    "CREATE TABLE checked (id int PRIMARY KEY CHECK (id >= 100), price numeric(6,2) NOT NULL"
    " CHECK (price > 0 AND price < 10), grade grade, shirt shirt NOT NULL,"
    " status text NOT NULL CHECK (status = ANY (ARRAY['new', 'it''s old'])),"
    " code varchar(8) NOT NULL CHECK (length(code) = 4 OR length(code) = 8),"
    " short text NOT NULL CHECK (char_length(short) <= 3), long text CHECK (length(long) >= 12),"
    " start_on date NOT NULL, end_on date CHECK (end_on > start_on), low int, high int,"
    " CHECK (low < high), share real NOT NULL CHECK (share >= 0 AND share <= 1),"
    " level int NOT NULL CHECK (level IN (10, 20)), maybe text CHECK (maybe IS NOT NULL),"
    " negative int NOT NULL CHECK (negative < -5))",
    "ALTER TABLE checked DROP CONSTRAINT checked_code_check",
    "CREATE TABLE listed (kind text NOT NULL, at date NOT NULL) PARTITION BY LIST (kind)",
    "CREATE TABLE listed_a PARTITION OF listed FOR VALUES IN ('a', 'b')",
    "CREATE TABLE listed_c PARTITION OF listed FOR VALUES IN ('c')",
    "CREATE TABLE ranged (at date NOT NULL, n int) PARTITION BY RANGE (at)",
    "CREATE TABLE ranged_1 PARTITION OF ranged FOR VALUES FROM ('2001-01-01') TO ('2002-01-01')",
    "CREATE TABLE ranged_2 PARTITION OF ranged FOR VALUES FROM ('2005-01-01') TO ('2006-01-01')",
    "CREATE TABLE nested (at date, kind text) PARTITION BY RANGE (at)",
    "CREATE TABLE nested_1 PARTITION OF nested FOR VALUES FROM ('2001-01-01') TO ('2002-01-01')"
    " PARTITION BY LIST (kind)",
    "CREATE TABLE nested_1_x PARTITION OF nested_1 FOR VALUES IN ('x')",
)
# Types of which no value is drafted, or which this server cannot read back.
_NO_VALUE = {"aclitem", "gtsvector"}
SCHEMAS = {
    "zoo": ZOO,
    "sequences": SEQUENCES,
    "views": VIEWS,
    "keys": KEYS,
    "shared": SHARED,
    "checks": CHECKS,
}


@pytest.fixture
def build(settings: Settings, tmp_path: Path) -> Iterator[Callable[[str, Draft], Built]]:
    """Return a function that builds a draft's dataset, the module of a project, in a database."""
    module = f"drafted_{next(_numbers)}"

    def built(url: str, draft: Draft) -> Built:
        project = "from perfdata import Project\nproject = Project(name='d', datasets=(dataset,))\n"
        (tmp_path / f"{module}.py").write_text(f"{draft.text}\n{project}", encoding="utf-8")
        mark_owned(url)
        own = replace(
            settings,
            root=tmp_path,
            home=tmp_path / "home",
            project=module,
            allow=(entry(url),),
        )
        return build_dataset(Target(own, normalise_url(url), embedded=False), "draft")

    yield built
    sys.modules.pop(module, None)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_draft_of_any_schema_runs(
    empty_url: str, build: Callable[[str, Draft], Built], schema: str
) -> None:
    newest = run(empty_url, "SHOW server_version_num")[0][0] >= "180000"
    run(empty_url, *SCHEMAS[schema], *(ZOO_18 if newest and schema == "zoo" else ()))
    draft = draft_dataset(empty_url, as_of=AS_OF)
    rows = build(empty_url, draft).rows
    assert rows.keys() == set(draft.tables)
    assert all(rows.values())
    assert "schema_migrations" not in rows
    assert draft == draft_dataset(empty_url, as_of=AS_OF)


def test_a_draft_of_the_welfare_schema_runs(
    database_url: str, build: Callable[[str, Draft], Built]
) -> None:
    draft = draft_dataset(database_url, as_of=AS_OF)
    rows = build(database_url, draft).rows
    assert rows["staffs"] == 1000
    assert all(rows.values())
    assert 'role=g.choice(["employee", "manager", "owner", "app_admin"])' in draft.text
    assert "is_test_data=True," in draft.text
    alone = draft_dataset(database_url, ["offices"], as_of=AS_OF)
    assert alone.tables == ("staffs", "offices")  # an office must have a creator


def test_a_draft_of_the_shop_runs(empty_url: str, build: Callable[[str, Draft], Built]) -> None:
    run(empty_url, *SHOP)
    draft = draft_dataset(empty_url, as_of=AS_OF)
    rows = build(empty_url, draft).rows
    assert rows["customers"] == 1000 <= rows["orders"] <= 3000 <= rows["order_lines"] <= 9000
    assert 'email=g.text("user{row}@example.test"),  # unique' in draft.text
    assert "position=g.position()," in draft.text


def test_each_type_has_a_value(empty_url: str, build: Callable[[str, Draft], Built]) -> None:
    known = sorted(known_types(empty_url).keys() - _NO_VALUE)
    tables = [f"CREATE TABLE t{n} (a {name}, b {name}[] NOT NULL)" for n, name in enumerate(known)]
    run(empty_url, 'CREATE SCHEMA "Mixed Name"', *tables)
    draft = draft_dataset(empty_url, as_of=AS_OF)
    assert build(empty_url, draft).rows.keys() == set(draft.tables)
    left_out = re.findall(r"no value is known for type (.+)", draft.text)
    assert {name for name in left_out if not name.startswith("reg")} <= {
        "cid", "int2vector", "oidvector", "pg_snapshot", "refcursor", "tid", "txid_snapshot",
        "xid8", "xml",
    }  # fmt: skip


def test_check_constraints_are_read_or_named(empty_url: str) -> None:
    run(
        empty_url,
        *CHECKS,
        "ALTER TABLE checked ADD CONSTRAINT odd CHECK (level % 2 = 0 OR maybe ~ '^a')",
    )
    draft = draft_dataset(empty_url, ["checked"], as_of=AS_OF)
    for line in (
        "id=g.serial(100),  # unique",
        'price=g.decimal("0.01", "9.99"),',
        "grade=g.nullable(g.integer(1, 5), 0.1),",
        'shirt=g.choice(["S", "M", "L"]),',
        """status=g.choice(["new", "it's old"]),""",
        'end_on=g.date(1, 30, after="start_on"),',
        "high=lambda low: low + 1,  # after low",
        "level=g.choice([10, 20]),",
        "negative=g.integer(-1005, -6),",
    ):
        assert f"        {line}\n" in draft.text
    (note,) = draft.notes
    assert note.startswith("checked: not read: CHECK (")
    assert "    # not read: CHECK (" in draft.text


ORDERED = (
    "CREATE TABLE ordered (on_day date NOT NULL, at_time timestamptz NOT NULL,"
    " n int NOT NULL, price numeric(6,2) NOT NULL, word text NOT NULL, half real,"
    " time_after_day timestamp CHECK (time_after_day > on_day),"
    " time_by_day timestamptz CHECK (time_by_day >= on_day),"
    " day_after_time date CHECK (day_after_time > at_time),"
    " day_by_time date CHECK (day_by_time >= at_time),"
    " int_after_price int CHECK (int_after_price > price),"
    " price_by_int numeric(8,2) CHECK (price_by_int >= n),"
    " word_after text NOT NULL CHECK (word_after > word),"
    " span interval, longer interval CHECK (longer >= span),"
    " _hidden int, after_hidden int CHECK (after_hidden > _hidden))",
)


def test_columns_after_others_of_another_type_are_drafted(
    empty_url: str, build: Callable[[str, Draft], Built]
) -> None:
    run(empty_url, *ORDERED)
    draft = draft_dataset(empty_url, as_of=AS_OF)
    for line in (
        'time_after_day=g.timestamp(1, 30, after="on_day"),',
        'time_by_day=g.timestamp(0, 30, after="on_day"),',
        'day_after_time=g.date(2, 30, after="at_time"),',
        'day_by_time=g.date(1, 30, after="at_time"),',
        "int_after_price=lambda price: int(price) + 1,  # after price",
        "price_by_int=lambda n: n + 1,  # after n",
        'word_after=g.text("word after {row}"),',
    ):
        assert f"        {line}\n" in draft.text
    assert sorted(draft.notes) == [
        "ordered: not read: CHECK (after_hidden > _hidden)",
        "ordered: not read: CHECK (longer >= span)",
        "ordered: not read: CHECK (word_after > word)",
    ]
    assert build(empty_url, draft).rows == {"ordered": 1000}


def test_an_unknown_table_is_named(database_url: str) -> None:
    with pytest.raises(SchemaError, match=r"no table office; did you mean offices\?"):
        draft_dataset(database_url, ["office"])


CANARY = "canary"
LIKE = (
    "CREATE TABLE customer (id int PRIMARY KEY, name text, town text, born date, vip boolean)",
    "CREATE TABLE purchase (id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customer,"
    " note text, amount int NOT NULL, state text NOT NULL)",
    "CREATE TABLE phone (customer_id int REFERENCES customer, position int,"
    " PRIMARY KEY (customer_id, position))",
)
LIKE_ROWS = (
    f"INSERT INTO customer SELECT 870000 + g, '{CANARY} name ' || g, '{CANARY} town ' || g % 40,"
    " CASE WHEN g % 4 > 0 THEN date '1987-06-05' + g END, g % 10 = 0"
    " FROM generate_series(1, 2000) g",
    # One customer has an eighth of all.
    f"INSERT INTO purchase SELECT 870000 + g, 870001 + (2000 * (g / 20000.0) ^ 4)::int % 2000,"
    f" '{CANARY} note', 870000 + g % 5, '{CANARY} state ' || (g % 4 = 0)"
    " FROM generate_series(1, 20000) g",
    "INSERT INTO phone SELECT id, p FROM customer, generate_series(1, 4) p",
    "ANALYZE",
)
SCANS = "SELECT sum(seq_scan + coalesce(idx_scan, 0)) FROM pg_stat_user_tables"


def test_a_draft_like_another_database_has_its_shape_and_none_of_its_values(
    empty_url: str, databases: Databases, build: Callable[[str, Draft], Built]
) -> None:
    other = databases.make("template0")
    run(empty_url, *LIKE)
    run(other, *LIKE, *LIKE_ROWS)
    before = run(other, SCANS)
    draft = draft_dataset(empty_url, like=other, as_of=AS_OF)
    assert run(other, SCANS) == before  # no row was read
    assert CANARY not in draft.text
    assert "87" not in draft.text  # neither a key nor a year
    assert draft.notes == ()
    for line in (
        "_town=g.integer(1, 40),",
        'town=g.text("town {_town}"),',
        "born=g.nullable(g.date(-365, -1), 0.25),",
        "vip=g.boolean(0.10),",
        'note="note 1",',
    ):
        assert line in draft.text
    assert re.search(r"g\.per\(customer, 10, zipf=1\.0\)", draft.text)
    assert re.search(r"_state=g\.choice\(\{1: 7\d\d, 2: 2\d\d\}\)", draft.text)
    rows = build(empty_url, draft).rows
    assert "g.per(customer, 1, 7)" in draft.text
    assert rows.pop("phone") == pytest.approx(8000, rel=0.1)
    assert rows == {"customer": 2000, "purchase": 20000}
    found = run(
        empty_url,
        "SELECT count(DISTINCT town), avg((born IS NULL)::int)::float8 FROM customer",
    )
    assert found == [(40, pytest.approx(0.25, abs=0.05))]


def test_tables_without_statistics_are_named(empty_url: str, databases: Databases) -> None:
    other = databases.make("template0")
    run(empty_url, *LIKE)
    run(other, LIKE[0], LIKE_ROWS[0], "ANALYZE")
    (note,) = draft_dataset(empty_url, like=other, as_of=AS_OF).notes
    assert note.startswith("no statistics of phone, purchase there")
