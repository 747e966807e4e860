"""The database's URL, as SQLAlchemy and as libpq read it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url as parsed_url

from perfdata.postgres.url import make_url, normalise_url

_words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1)


def _as_sqlalchemy_connects(url: str) -> dict[str, str]:
    arguments = create_engine(url).dialect.create_connect_args(parsed_url(url))[1]
    return {key: str(value) for key, value in arguments.items() if key != "context"}


@given(_words, _words, _words, _words)
def test_whatever_stands_in_a_conninfo_stands_in_its_url(
    user: str, password: str, database: str, folder: str
) -> None:
    parts = {"user": user, "password": password, "dbname": database, "host": f"/{folder}"}
    parts["host"] = parts["host"].replace(",", "")
    url = make_url(make_conninfo("", **parts), "psycopg")
    assert _as_sqlalchemy_connects(url) == parts
    assert conninfo_to_dict(normalise_url(url)) == parts


@pytest.mark.parametrize(
    "parts",
    [
        {"host": "db.example", "port": "5433", "dbname": "d", "sslmode": "require"},
        {"host": "one,other", "port": "5432,5433", "user": "u", "dbname": "d"},
        {"host": "::1", "user": "u", "dbname": "d", "options": "-c work_mem=1MB -c jit=off"},
        {"service": "reporting"},
    ],
)
def test_hosts_ports_and_options_arrive(parts: dict[str, str]) -> None:
    url = make_url(make_conninfo("", **parts), "psycopg")
    assert _as_sqlalchemy_connects(url) == parts
    assert conninfo_to_dict(normalise_url(url)) == parts
