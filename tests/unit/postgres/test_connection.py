from __future__ import annotations

import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from perfdata import ConfigError, ConnectError, aio
from perfdata.postgres.connection import open_link
from perfdata.postgres.url import describe, normalise_url
from perfdata.text import join_first


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        (
            "postgresql://u:p%40ss%2Fw@h:5433/db",
            {"user": "u", "password": "p@ss/w", "port": "5433"},
        ),
        ("postgres://h/db", {"host": "h", "dbname": "db"}),
        ("postgresql+asyncpg://u@h/db?ssl=require", {"sslmode": "require", "host": "h"}),
        ("postgresql+psycopg://u@/db?host=/var/run/pg", {"host": "/var/run/pg", "dbname": "db"}),
        ("postgresql+asyncpg://h/db?prepared_statement_cache_size=0", {"host": "h"}),
        ("postgresql+psycopg://u@/db?host=a:1&host=b:2", {"host": "a,b", "port": "1,2"}),
        ("postgresql://a:1,b:2/db?target_session_attrs=any", {"host": "a,b", "port": "1,2"}),
        ("postgresql://h/db?options=-c%20geqo%3Doff", {"options": "-c geqo=off"}),
        ("postgresql+psycopg://h/db?options=-c%20geqo%3Doff", {"options": "-c geqo=off"}),
        ("postgresql+psycopg://u:a+b%20c@h/db", {"password": "a+b c"}),
        ("host=h dbname='my db' sslmode=disable", {"dbname": "my db", "sslmode": "disable"}),
        ("service=perf", {"service": "perf"}),
    ],
)
def test_every_form_of_url_is_understood(url: str, parts: dict[str, str]) -> None:
    found = conninfo_to_dict(normalise_url(url))
    assert {key: found.get(key) for key in parts} == parts
    assert not found.keys() & {"prepared_statement_cache_size", "ssl"}


# Passwords with characters that end one early: its rest would be a host, a port or a name.
UNENCODED = (
    "u:pa@secret@h/db", "u:pa@secret/x@h/db", "u:pa@secret#x@h/db", "u:pa/secret@h/db",
    "u:12/secret@h/db", "u:pa@1:2/secret@h/db", "u@d:secret@h/db", "u:a@h1,v:secret@h2/db",
    "postgresql://u:secret@h/db", "u:secret", "u:7654321", "u:secret%zz@h/db",
)  # fmt: skip


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:secret@h/db",
        "u:secret",
        "u:x://secret@h/db",
        "dbname=postgresql://u:secret@h/db",
        "host=h password=pa secret dbname=d",
        "host=h password=pa secret=1 dbname=d",
        "postgresql://h/db?password=pa&secret",
        "postgresql://h/db?password=pa&secret=x",
        *(f"postgresql{driver}://{rest}" for rest in UNENCODED for driver in ("", "+asyncpg")),
    ],
)
def test_a_url_that_cannot_be_read_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        normalise_url(url)
    assert "secret" not in str(caught.value)
    assert "7654321" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_unencoded_character_in_a_password_is_told_how_to_be_encoded() -> None:
    with pytest.raises(ConfigError, match="must be percent-encoded: @ is %40, / is %2F, % is %25"):
        normalise_url("postgresql://u:pa@ss@h/db")


@pytest.mark.parametrize(
    "url",
    [
        "u:pa@secret@127.0.0.1:1/db",
        "u:pa@secret/x@127.0.0.1/db",
        "u@127.0.0.1:1/db?password=secret",
        "u@127.0.0.1:1/db?sslpassword=secret",
        "127.0.0.1:7654321",
    ],
)
def test_an_engine_that_cannot_connect_is_described_with_no_part_of_a_password(url: str) -> None:
    engine = create_engine(f"postgresql+psycopg://{url}")
    with pytest.raises((ConfigError, ConnectError)) as caught, open_link(engine):
        pass
    assert "secret" not in str(caught.value)
    assert "7654321" not in str(caught.value)


@pytest.mark.asyncio
async def test_nor_is_one_of_asyncpg() -> None:
    engine = create_async_engine("postgresql+asyncpg://u:pa@secret@127.0.0.1:1/db")
    with pytest.raises(ConfigError, match="percent-encoded") as caught:
        await aio.create_snapshot(engine, "any")
    assert "secret" not in str(caught.value)


def test_a_description_has_no_password() -> None:
    assert describe("host=h port=5 user=u password=secret dbname=d") == "u@h:5/d"
    assert describe("host=/run/pg dbname=d") == "/run/pg/d"
    assert describe("service=perf password=secret") == "service perf"


def test_what_is_no_database_is_named() -> None:
    with pytest.raises(ConfigError, match=r"not builtins\.int"), open_link(3):
        pass


def test_long_lists_are_cut() -> None:
    assert join_first(["a", "b"]) == "a, b"
    assert join_first(list(range(1005)), 2) == "0, 1 and 1,003 more"
