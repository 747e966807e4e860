"""Entries of ``allow``, and the addresses that they name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from perfdata import addresses as address
from perfdata.addresses import Address
from perfdata.target.guard import Location

IDENTIFIER = 7_713_088_136_475_349_437


@pytest.fixture(autouse=True)
def _run_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have libpq's default folder be Debian's."""
    monkeypatch.setattr(address, "default_folder", lambda: "/run/postgresql")


def location(host: str, port: int = 5432, database: str = "shop", known: bool = True) -> Location:
    link: Any = SimpleNamespace(server_identifier=IDENTIFIER if known else None)
    return Location(cast("Any", link), Address(host, port), database)


@pytest.mark.parametrize(
    ("host", "port", "entry", "also"),
    [
        ("db.example", 5432, "db.example/shop", "db.example:5432/shop"),
        ("db.example", 6432, "db.example:6432/shop", None),
        ("::1", 5432, "[::1]/shop", "[::1]:5432/shop"),
        ("::1", 5433, "[::1]:5433/shop", None),
        ("/run/postgresql", 5432, "local/shop", "local:5432/shop"),
        ("/run/postgresql", 5433, "local:5433/shop", None),
        ("/run/pg", 5432, "/run/pg:5432/shop", None),
        ("@pg", 5433, "@pg:5433/shop", None),
        ("local", 5432, "[local]/shop", "[local]:5432/shop"),
    ],
)
def test_an_address_is_written_in_its_own_way(
    host: str, port: int, entry: str, also: str | None
) -> None:
    here = location(host, port)
    assert here.entry == entry
    for one in (entry, also, f"{entry}@{IDENTIFIER}"):
        if one is not None:
            assert here.listed([one])
            assert here.listed_by_name([one])


@pytest.mark.parametrize(
    "entry",
    [
        "db.example/shop",  # port 5432
        "db.example:54330/shop",
        "db.example:5433/shops",
        "DB.example:5433/shop",
        "*:5433/shop",
        "db.*:5433/shop",
        "db.example:*/shop",
        "db.example:543?/shop",
        "*",
        "*/*",
        "local/shop",
        "shop",
        "db.example:5433",
        "db.example:5433/",
        "",
        f"db.example:5433/shop@{IDENTIFIER - 1}",
        "db.example:5433/shop@1234",
    ],
)
def test_what_does_not_name_it_does_not_cover_it(entry: str) -> None:
    assert not location("db.example", 5433).listed([entry])


@pytest.mark.parametrize("pattern", ["*", "sh*", "sho?", "[st]hop"])
def test_a_wildcard_covers_names_of_databases_and_is_no_full_name(pattern: str) -> None:
    here = location("db.example", 5433)
    for entry in (f"db.example:5433/{pattern}", f"db.example:5433/{pattern}@{IDENTIFIER}"):
        assert here.listed([entry])
        assert not here.listed_by_name([entry])


def test_an_identifier_that_the_role_may_not_read_does_not_match() -> None:
    entry = f"db.example/shop@{IDENTIFIER}"
    assert location("db.example").listed([entry])
    assert not location("db.example", known=False).listed([entry])


@pytest.mark.parametrize(
    ("host", "port", "old", "new"),
    [
        ("db.example", 5433, "db.example/shop", "db.example:5433/shop"),
        ("db.example", 5433, "db.example/sh*", "db.example:5433/sh*"),
        ("db.example", 5433, "*/shop", "db.example:5433/shop"),
        ("db.example", 5433, "db.*/*", "db.example:5433/shop"),
        ("::1", 5433, "::1/shop", "[::1]:5433/shop"),
        ("/run/pg", 5432, "local/sh*", "/run/pg:5432/sh*"),
        ("/run/postgresql", 5433, "local/shop", "local:5433/shop"),
        ("db.example", 5433, "db.example/other", None),
        ("db.example", 5433, "db.example:5434/shop", None),
    ],
)
def test_an_old_entry_has_a_new_form(host: str, port: int, old: str, new: str | None) -> None:
    here = location(host, port)
    assert here.updated(old) == new
    if new is not None:
        assert not here.listed([old])
        assert here.listed([new])
