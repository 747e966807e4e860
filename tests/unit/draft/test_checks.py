"""Check constraints, as PostgreSQL writes them, are read or left to a person."""

from __future__ import annotations

from decimal import Decimal

import pytest

from perfdata.draft.checks import ColumnRules, read_check

COLUMNS = ("id", "a", "b", "status")


def read(definition: str, domain_of: str = "") -> dict[str, ColumnRules] | None:
    found: dict[str, ColumnRules] = {}
    if read_check(
        definition, domain_of, COLUMNS, lambda name: found.setdefault(name, ColumnRules())
    ):
        return found
    return None


@pytest.mark.parametrize(
    ("definition", "column", "rules"),
    [
        ("CHECK ((id > 0))", "id", ColumnRules(low=Decimal(0), open_low=True)),
        ("CHECK ((id < 50)) NOT VALID", "id", ColumnRules(high=Decimal(50), open_high=True)),
        ("CHECK ((0 <= id)) NO INHERIT", "id", ColumnRules(low=Decimal(0))),
        ("CHECK ((id >= '-5'::integer)) NOT ENFORCED", "id", ColumnRules(low=Decimal(-5))),
        (
            "CHECK (((a > (0)::numeric) AND (a <= 99.5)))",
            "a",
            ColumnRules(low=Decimal(0), open_low=True, high=Decimal("99.5")),
        ),
        (
            "CHECK (((status)::text = ANY ((ARRAY['x'::character varying, 'y''z'::character"
            " varying])::text[])))",
            "status",
            ColumnRules(choices=["x", "y'z"]),
        ),
        ("CHECK ((id = ANY (ARRAY[1, 2])))", "id", ColumnRules(choices=[Decimal(1), Decimal(2)])),
        ("CHECK ((status = 'x'::text))", "status", ColumnRules(choices=["x"])),
        ("CHECK ((length(status) < 10))", "status", ColumnRules(longest=9)),
        (
            "CHECK (((char_length((status)::text) >= 2) AND (char_length((status)::text) <= 9)))",
            "status",
            ColumnRules(shortest=2, longest=9),
        ),
        ("CHECK ((b >= a))", "b", ColumnRules(after="a")),
        ("CHECK ((a < b))", "b", ColumnRules(after="a", strictly=True)),
        ("CHECK ((a <> b))", "b", ColumnRules(differs="a")),
        ("CHECK ((a IS NOT NULL))", "a", ColumnRules(required=True)),
    ],
)
def test_what_can_be_read(definition: str, column: str, rules: ColumnRules) -> None:
    assert read(definition) == {column: rules}


def test_a_domains_constraint_is_that_of_its_column() -> None:
    assert read("CHECK ((VALUE > 0))", "a") == {"a": ColumnRules(low=Decimal(0), open_low=True)}
    assert read("CHECK ((VALUE > 0))") is None


def test_a_text_that_may_not_be_empty_needs_nothing() -> None:
    assert read("CHECK ((status <> ''::text))") == {}


@pytest.mark.parametrize(
    "definition",
    [
        "CHECK ((status ~ '^a'::text))",
        "CHECK (((a > 0) OR (b > 0)))",
        "CHECK ((a IS NULL))",
        "CHECK ((lower(status) = status))",
        "CHECK (((a + b) > 0))",
        "CHECK ((a > now()))",
        "CHECK ((status <> 'x'::text))",
        "CHECK (no_function_that_sqlglot_knows(a))",
        "no check",
    ],
)
def test_what_cannot_be_read(definition: str) -> None:
    assert read(definition) is None


def test_the_parts_before_and_after_an_unread_one_hold() -> None:
    found: dict[str, ColumnRules] = {}
    definition = "CHECK (((status ~ 'x'::text) AND (a > 0) AND (b < 5)))"
    rules = lambda name: found.setdefault(name, ColumnRules())  # noqa: E731
    assert not read_check(definition, "", COLUMNS, rules)
    assert found.keys() == {"a", "b"}
