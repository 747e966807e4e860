from __future__ import annotations

import pytest

from perfdata.passwords import without_passwords
from perfdata.tracebacks import code_error


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("host=db password=hunter2 user=app", "host=db password=*** user=app"),
        ("host=db password='hun ter\\'2' user=app", "host=db password=*** user=app"),
        ('connect("dbname=x password=hunter2")', 'connect("dbname=x password=***")'),
        (
            'connect(host="db", password="hunter2", port=1)',
            'connect(host="db", password=***, port=1)',
        ),
        (
            "os.environ | {'X': 1, **dict(PGPASSWORD='hunter2')}",
            "os.environ | {'X': 1, **dict(PGPASSWORD=***)}",
        ),
        ('if password == "hunter2":', "if password == ***:"),
        ("repr: 'password=\\'hunter2\\''", "repr: 'password=***"),
        ("postgresql://app:hunter2@db/x", "postgresql://app:***@db/x"),
        ("ALTER ROLE app PASSWORD 'hun''ter2'", "ALTER ROLE app PASSWORD '***'"),
        (
            "Input should be a valid integer [type=int, input_value='hunter2', input_type=str]",
            "Input should be a valid integer [type=int, input_value=***, input_type=str]",
        ),
        ("the password is wrong", "the password is wrong"),
    ],
)
def test_what_is_in_the_place_of_a_password_is_replaced(text: str, shown: str) -> None:
    """Also where perfdata does not know the password."""
    assert without_passwords(text) == shown


@pytest.mark.parametrize(
    ("password", "text", "shown"),
    [
        ("x", "project x of postgresql://app:x@db", "project x of postgresql://app:***@db"),
        ("postgres", "postgresql://postgres:postgres@db", "postgresql://postgres:***@db"),
        ("abcd", "abcdef, abcd and 'abcd'", "abcdef, *** and '***'"),
        ("correct-horse", "is-correct-horse-1", "is-***-1"),
        ("p@ss/w:rd", "app:p%40ss%2Fw%3Ard@db, p@ss/w:rd", "app:***@db, ***"),
        ("pass@word", "postgresql://app:pass@word@db", "postgresql://app:***@db"),
        ("", "nothing", "nothing"),
    ],
)
def test_a_known_password_is_replaced_by_the_rules_of_its_length(
    password: str, text: str, shown: str
) -> None:
    assert without_passwords(text, [password]) == shown


def test_a_line_of_the_source_in_a_traceback_shows_no_password() -> None:
    try:
        sorted((), password="hunter2")  # type: ignore[call-overload]
    except TypeError as error:
        found = code_error("the code", error)
    assert "sorted((), password=***)" in found.traceback
    assert "hunter2" not in f"{found}{found.traceback}"
