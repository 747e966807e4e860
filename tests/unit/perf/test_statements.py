"""Fingerprints: values do not matter, names do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfdata.perf.capture.statements import fingerprint, normalise

_texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00\\%$"), max_size=20)
_values = st.one_of(
    st.integers(-(2**63), 2**63).map(str),
    st.floats(0, 1e15).map(lambda number: format(number, "f")),
    _texts.map(lambda text: "'" + text.replace("'", "''") + "'"),
    st.integers(1, 99).map(lambda number: f"${number}"),
    st.integers(1, 99).map(lambda number: f"%(param_{number})s"),
    st.just("%s"),
)
_names = st.from_regex(r"col_[a-z0-9_]{0,20}", fullmatch=True)
_blanks = st.sampled_from([" ", "\n", "\t ", " /* why */ ", " -- why\n"])


@given(_values, _values)
def test_values_do_not_matter(one: str, other: str) -> None:
    query = "SELECT a, {} FROM t WHERE b = {} AND c BETWEEN {} AND 5 ORDER BY a LIMIT 10"
    assert fingerprint(query.format(one, other, one)) == fingerprint(query.format(other, one, one))


@given(st.lists(_values, min_size=1, max_size=40), st.lists(_values, min_size=1, max_size=40))
def test_the_length_of_a_list_does_not_matter(ones: list[str], others: list[str]) -> None:
    query = "SELECT a FROM t WHERE b IN ({}) AND c = ANY (ARRAY[{}])"
    first = fingerprint(query.format(", ".join(ones), ", ".join(others)))
    assert first == fingerprint(query.format(", ".join(others), ", ".join(ones)))
    assert first.text == "SELECT a FROM t WHERE b IN (?) AND c = ANY(ARRAY[?])"


@given(st.lists(st.tuples(_values, _values), min_size=1, max_size=30))
def test_the_number_of_inserted_rows_does_not_matter(rows: list[tuple[str, str]]) -> None:
    values = ", ".join(f"({one}, {other})" for one, other in rows)
    assert normalise(f"INSERT INTO t (a, b) VALUES {values}") == (
        "INSERT INTO t (a, b) VALUES (?, ?)"
    )


@given(_names, _names)
def test_names_matter(one: str, other: str) -> None:
    query = "SELECT {} FROM t WHERE b = 1"
    same = fingerprint(query.format(one)) == fingerprint(query.format(other))
    assert same == (one == other)


@given(st.lists(_blanks, min_size=5, max_size=5))
def test_white_space_comments_and_case_do_not_matter(blanks: list[str]) -> None:
    words = ["select", "A", "From", "T", "wHERE", "b = 1"]
    query = "".join(word + blank for word, blank in zip(words, [*blanks, " "], strict=True))
    assert fingerprint(query) == fingerprint("SELECT a FROM t WHERE b = 2")


@given(st.text(max_size=60))
def test_any_text_has_a_fingerprint(text: str) -> None:
    assert len(fingerprint(text).fingerprint) == 16


@given(_values, _values)
def test_what_sqlglot_does_not_parse_is_normalised_by_its_tokens(one: str, other: str) -> None:
    one, other = one.lstrip("-"), other.lstrip("-")
    assert normalise(f"CALL  Refresh_All({one},{other}) -- now") == "call refresh_all ( ? )"
    assert normalise(f"SELECT a FROM t WHERE ((b = {one}") == "select a from t where ( ( b = ?"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT 1 FROM t WHERE a", "SELECT 1 FROM t WHERE NOT a"),
        ("SELECT a FROM t WHERE b IS NULL", "SELECT a FROM t WHERE b IS NOT NULL"),
        ("SELECT a FROM t WHERE b = true", "SELECT a FROM t WHERE b = false"),
        ('SELECT "A" FROM t', "SELECT a FROM t"),
        ("SELECT a FROM t", "SELECT a FROM t FOR UPDATE"),
        ("SELECT a FROM t JOIN u USING (a)", "SELECT a FROM t LEFT JOIN u USING (a)"),
        ("SELECT a FROM t ORDER BY a", "SELECT a FROM t ORDER BY a DESC"),
        ("SELECT d ->> 'one' FROM t", "SELECT d ->> 'other' FROM t"),
        ("VACUUM a", "VACUUM b"),
        ("SELECT f(1)", "SELECT f(1, 2)"),
        ("SELECT a::varchar(5) FROM t", "SELECT a::varchar(6) FROM t"),
    ],
)
def test_what_chooses_another_plan_is_another_statement(one: str, other: str) -> None:
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("SELECT a FROM t WHERE b LIKE %(b_1)s || '%%'", "SELECT a FROM t WHERE b LIKE ? || ?"),
        ("SELECT 7 %% 3", "SELECT ? % ?"),
        ("SELECT b'101', x'1f', E'it\\'s', $$it$$, $a$it$a$", "SELECT ?, ?, ?, ?, ?"),
        ("SELECT now() - interval '30 days'", "SELECT CURRENT_TIMESTAMP - INTERVAL '?'"),
        ("SELECT a FROM t WHERE (b, c) IN ((1, 2), (3, 4))",
         "SELECT a FROM t WHERE (b, c) IN ((?, ?))"),
        ("SELECT a FROM t WHERE b IN (SELECT c FROM u WHERE d = 4)",
         "SELECT a FROM t WHERE b IN (SELECT c FROM u WHERE d = ?)"),
        ("select 1; select 2;", "SELECT ?; SELECT ?"),
    ],
)  # fmt: skip
def test_the_normalised_text_is_what_a_reader_expects(query: str, text: str) -> None:
    assert normalise(query) == text


def test_a_statement_with_very_many_values_is_shortened_before_it_is_parsed() -> None:
    """Of 60,000 values sqlglot alone would take seconds."""
    row = "(%(a)s::UUID, %(b)s::VARCHAR, 5)"
    short = normalise(f"INSERT INTO t (a, b, c) VALUES {row}")
    assert normalise(f"INSERT INTO t (a, b, c) VALUES {', '.join([row] * 20_000)}") == short


def test_a_statement_nested_deeper_than_the_stack_has_a_fingerprint() -> None:
    assert fingerprint("SELECT " + "(" * 5_000 + "1" + ")" * 5_000).text.startswith("select")
