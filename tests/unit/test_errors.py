from __future__ import annotations

import pickle
import re

import pytest

import perfdata
from perfdata import errors

ERRORS = [
    found
    for found in vars(errors).values()
    if isinstance(found, type) and issubclass(found, errors.PerfdataError)
]


def test_every_error_is_exported_and_drawn_in_the_tree() -> None:
    names = {error.__name__ for error in ERRORS}
    assert names <= set(perfdata.__all__)
    assert names == set(re.findall(r"\b[A-Z]\w+Error\b", errors.__doc__ or "")) - {
        "PermissionError"
    }


def test_an_error_says_what_was_found_and_what_fixes_it() -> None:
    error = errors.GuardError("shop is not listed", remedy="Set PERFDATA_ALLOW=shop")
    assert (error.reason, error.remedy) == ("shop is not listed", "Set PERFDATA_ALLOW=shop")
    assert str(error) == "shop is not listed. Set PERFDATA_ALLOW=shop"
    assert (str(errors.GuardError("no")), errors.GuardError("no").remedy) == ("no", "")


def test_an_error_without_a_reason_takes_its_docstring() -> None:
    for error in ERRORS:
        assert error().reason
        assert not error().reason.endswith(".")


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_survives_pickling(kind: type[errors.PerfdataError]) -> None:
    error = kind("found this")
    error.remedy = "do that"
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes
    assert type(copied) is kind
    assert (str(copied), vars(copied)) == (str(error), vars(error))


def test_a_refusal_with_a_known_cause_names_its_remedy() -> None:
    error = perfdata.ServerRefusedError("canceling statement", sqlstate="57014")
    assert error.server_message == "canceling statement"
    assert "raise statement_timeout" in error.remedy


def test_only_a_refused_load_says_that_it_was_rolled_back() -> None:
    assert str(perfdata.ServerRefusedError("no")) == "the server refused: no"
    refused = perfdata.RowsRefusedError("no", detail="Key (id)=(1)")
    assert str(refused) == "the server refused: no; Key (id)=(1); everything was rolled back"
    assert isinstance(refused, perfdata.LoadError)
    assert not issubclass(perfdata.ServerRefusedError, perfdata.LoadError)
