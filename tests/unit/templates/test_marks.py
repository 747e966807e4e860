from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfdata.templates.marks import (
    NAME_MAX_BYTES,
    Kind,
    Mark,
    format_comment,
    parked_name,
    parse_mark,
    read_mark,
    replaced_name,
    template_name,
    user_text,
)

SERVER = 7_301_234_567_890_123_456
MARK = Mark(Kind.TEMPLATE, oid=7, target="shop", key="ab", used=1.5, server=SERVER)


@given(words=st.text(alphabet=st.characters(exclude_characters="\0")), target=st.text(min_size=1))
def test_a_comment_gives_back_its_words_and_its_mark(words: str, target: str) -> None:
    mark = Mark(Kind.BEFORE, oid=7, target=target, first=True, lost=f"{target}: 1", server=SERVER)
    comment = format_comment(words, mark)
    assert user_text(comment) == words
    assert read_mark(comment, 7, SERVER) == mark


@pytest.mark.parametrize(
    "comment",
    [
        None,
        "",
        "a database",
        "perfdata: mine, don't touch",
        'perfdata: {"kind": "template"}',
        'perfdata: {"kind": "something", "oid": 7, "target": "shop"}',
        'perfdata: {"kind": "work", "oid": 7, "target": "shop", "more": 1}',
        'perfdata: {"kind": "before", "oid": 7, "target": "shop", "used": "x"}',
        'perfdata: {"kind": "before", "oid": 7, "target": "shop", "first": "no"}',
        'perfdata: {"kind": "before", "oid": 7, "target": "shop", "lost": ["customers"]}',
        'perfdata: ["kind"]',
        format_comment("", MARK) + "\nand a line of somebody's",
        format_comment("", replace(MARK, oid=8)),
        format_comment("", MARK).replace(str(SERVER), f'"{SERVER}"'),
    ],
)
def test_what_is_no_mark_of_this_database_is_none(comment: str | None) -> None:
    assert read_mark(comment, 7, SERVER) is None


def test_the_mark_of_a_dump_that_went_elsewhere_holds_no_longer() -> None:
    comment = format_comment("", MARK)
    assert read_mark(comment, 7, SERVER) == MARK
    assert read_mark(comment, 16384, SERVER) is None


def test_a_mark_does_not_hold_on_another_server_although_the_oid_is_the_same() -> None:
    """A fresh cluster hands out the same oids."""
    assert read_mark(format_comment("", MARK), 7, SERVER + 1) is None


@pytest.mark.parametrize("server", [SERVER, None, 0])
def test_a_mark_without_a_server_holds_nowhere(server: int | None) -> None:
    """Earlier versions wrote such marks; what the server's identifier is may not be known."""
    comment = format_comment("", replace(MARK, server=0))
    assert "server" not in comment
    assert parse_mark(comment) == replace(MARK, server=0)
    assert read_mark(comment, 7, server) is None


def test_a_mark_from_before_lost_rows_were_kept_in_it_is_read() -> None:
    mark = parse_mark('perfdata: {"kind": "before", "oid": 7, "target": "shop", "first": true}')
    assert mark == Mark(Kind.BEFORE, oid=7, target="shop", first=True)


def test_a_comment_without_a_mark_is_all_words() -> None:
    assert user_text("one\ntwo") == "one\ntwo"
    assert user_text(None) == ""


@given(st.text(min_size=1, max_size=63))
def test_names_are_short_enough_to_be_found_again(target: str) -> None:
    name = replaced_name(target, "20261124_120501")
    assert len(name.encode()) <= NAME_MAX_BYTES
    assert name.endswith("_before_20261124_120501")
    assert len(template_name("f" * 64).encode()) <= NAME_MAX_BYTES


def test_the_name_of_a_parked_database_fits_its_state() -> None:
    mark = Mark(Kind.PARKED, oid=7, target="shop", state="0123456789abcdef" * 4)
    assert parked_name("shop", mark.state) == "shop_at_0123456789ab"
    assert mark.fits("shop_at_0123456789ab")
    assert mark.fits("shop_at_0123456789ab_12")
    for other in ("shop", "shop_at_0123456789ab_x", "shop_at_0123456789ab_01", "shop_at_1"):
        assert not mark.fits(other)
    long = replace(mark, target="ü" * 60)
    assert long.fits(parked_name(long.target, mark.state, 3))
    assert len(parked_name(long.target, mark.state, 3).encode()) <= NAME_MAX_BYTES
