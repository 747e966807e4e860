from __future__ import annotations

import secrets

from sqlalchemy import Boolean, Column, Enum, ForeignKey, Index, Integer, MetaData, Table

from perfdata.migrations.ddl import (
    added_tables,
    describe_differences,
    hash_ddl,
    pack_ddl,
    read_ddl,
    unpack_ddl,
)


def tables(*, indexed: bool = True, mood: str = "sad", nullable: bool = True) -> MetaData:
    metadata = MetaData()
    Table(
        "customers",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("age", Integer, index=indexed, nullable=nullable),
        Column("mood", Enum("happy", mood, name="mood")),
        Index("both", "id", "age"),
    )
    Table("orders", metadata, Column("customer", ForeignKey("customers.id")), schema="shop")
    return metadata


def test_statements_are_kept_by_table_and_by_type() -> None:
    ddl = read_ddl(tables())
    assert sorted(ddl) == ["customers", "enum mood", "shop.orders"]
    assert [text.split()[1] for text in ddl["customers"]] == ["TABLE", "INDEX", "INDEX"]
    assert unpack_ddl(pack_ddl(ddl)) == ddl
    assert hash_ddl(ddl) == hash_ddl(read_ddl(tables()))


def test_what_differs_is_a_column_an_index_or_a_type() -> None:
    before = read_ddl(tables())
    assert describe_differences(before, before) == []
    assert describe_differences(before, read_ddl(tables(indexed=False))) == [
        "customers: CREATE INDEX ix_customers_age ON customers (age) is gone"
    ]
    assert describe_differences(before, read_ddl(tables(nullable=False))) == [
        "customers.age was INTEGER, is INTEGER NOT NULL"
    ]
    (told,) = describe_differences(before, read_ddl(tables(mood="glad")))
    assert "'sad'" in told
    assert "'glad'" in told


def test_added_tables_are_told_only_where_nothing_else_differs() -> None:
    before = read_ddl(tables())
    more = tables()
    Table("payments", more, Column("id", Boolean))
    assert added_tables(before, read_ddl(more)) == ["payments"]
    assert added_tables(read_ddl(more), before) == []
    assert added_tables(read_ddl(tables(indexed=False)), read_ddl(more)) == []


def test_a_text_that_is_none_of_ours_or_too_long_is_no_ddl() -> None:
    assert unpack_ddl(None) is None
    assert unpack_ddl("") is None
    assert unpack_ddl("bm90aGluZw==") is None
    assert unpack_ddl("no base64!") is None
    assert pack_ddl({"long": [secrets.token_hex(64_000)]}) == ""
