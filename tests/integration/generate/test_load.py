"""Generated columns of every kind, loaded into real tables: PostgreSQL reads what was meant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from perfdata import append_rows
from perfdata import generate as g
from tests.unit.generate.kinds import dataset_of, tables_of

if TYPE_CHECKING:
    from perfdata.generate import GeneratedTable

TABLES = """
CREATE TABLE people (
    id int PRIMARY KEY, key uuid UNIQUE, number int UNIQUE, score int, big bigint,
    price numeric(4, 2), active boolean, state text, rare text, note text, team_code text,
    team text, joined date, "left" date, seen timestamptz, answered timestamptz, called timestamptz,
    settings jsonb,
    boss int REFERENCES people, ended timestamptz, reason text, twice int, constant text,
    nothing text, tags text[]
);
CREATE TABLE countries (code text PRIMARY KEY, size int);
CREATE TABLE things (
    id int PRIMARY KEY, owner int REFERENCES people, owner_team text,
    maker uuid REFERENCES people (key), country text REFERENCES countries
);
CREATE TABLE pets (
    id uuid PRIMARY KEY, owner int REFERENCES people, owner_joined date, place int,
    youngest boolean, UNIQUE (owner, place)
);
CREATE TABLE links (person int REFERENCES people, thing int REFERENCES things,
    PRIMARY KEY (person, thing));
CREATE TABLE skewed (country text REFERENCES countries);
"""
# What COPY text could be taken for, at the ends of values and alone.
ODD = ["\\N", "\\", "\\.", "a\tb\n", "\r\n", "", " ", "NULL", '"', "'", "\\t", "日本\u2028"]


def loaded(url: str, table: GeneratedTable) -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        columns = ", ".join(f'"{column}"' for column in table.columns)
        return connection.execute(f"SELECT {columns} FROM {table.table}".encode()).fetchall()


def as_read(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value


def test_postgresql_reads_every_kind_and_every_reference(empty_url: str) -> None:
    tables = tables_of(dataset_of(people=4200))
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute(TABLES.encode())
        connection.execute("SET timezone = 'UTC'")
    append_rows(empty_url, tables.values())
    for table in tables.values():
        found = [
            {name: as_read(value) for name, value in row.items()}
            for row in loaded(empty_url, table)
        ]
        assert len(found) == table.count
        assert sorted(found, key=repr) == sorted(table.records(), key=repr)


def test_no_text_is_taken_for_something_else(empty_url: str) -> None:
    dataset = dataset_of()
    documents = [{"text": text, "at": None} for text in ODD]
    table = g.table(
        dataset,
        "odd",
        len(ODD),
        text=g.listed(ODD),
        again=lambda text: text,
        document=g.listed(documents),
        texts=g.listed([[text, None] for text in ODD]),
        bytes=g.listed([text.encode() for text in ODD]),
        at=datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
        span=timedelta(days=-2, microseconds=7),
    )
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE odd (text text, again text, document jsonb, texts text[], bytes bytea, "
            "at timestamptz, span interval)"
        )
    append_rows(empty_url, [table])
    assert loaded(empty_url, table) == list(table.records())
