"""Redaction of reports, without a session: what is searched, and what is left as it is."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from perfdata.pytest_plugin.redaction import Redaction

PASSWORD = "correct-horse-battery"
URL = f"postgresql://app:{PASSWORD}@db.example/shop"


class Point(NamedTuple):
    x: int
    y: int


class Fixed:
    """A representation of an error that has no attributes to redact."""

    __slots__ = ()

    def toterminal(self, _: object) -> None: ...


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGPASSWORD", "PERFDATA_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


def report_of(longrepr: Any = None, **facts: Any) -> pytest.TestReport:
    location = ("test_a.py", 1, "test_a")
    return pytest.TestReport("test_a.py::test_a", location, {}, "failed", longrepr, "call", **facts)


@pytest.mark.parametrize("url", [None, URL], ids=("nothing known", "a password known"))
def test_what_can_not_be_made_again_is_left_as_it_is(url: str | None) -> None:
    redaction = Redaction()
    if url:
        redaction.learn(url)
    fixed: Any = Fixed()
    report = report_of(fixed, user_properties=[("p", Point(1, 2)), ("url", URL), ("d", {1: URL})])
    redaction.pytest_runtest_logreport(report)
    shown = URL.replace(PASSWORD, "***") if url else URL
    assert report.user_properties == [("p", Point(1, 2)), ("url", shown), ("d", {1: shown})]
    assert isinstance(report.user_properties[0][1], Point)
    assert report.longrepr is fixed


def test_where_nothing_is_known_a_report_is_not_touched() -> None:
    report = report_of(URL, sections=[("Captured log", URL)], user_properties=[("url", URL)])
    before = dict(vars(report))
    Redaction().pytest_runtest_logreport(report)
    assert all(value is before[name] for name, value in vars(report).items())


def test_parts_of_a_password_are_searched_for_in_errors_alone() -> None:
    """To find them takes long, and only the diffs of errors are shortened."""
    redaction = Redaction()
    redaction.learn(URL)
    diff = f"- app:{PASSWORD[:12]}...\n+ {PASSWORD[8:]}@db.example\n? {URL}"
    report = report_of(diff, sections=[("Captured log", diff)])
    redaction.pytest_runtest_logreport(report)
    shown = URL.replace(PASSWORD, "***")
    assert report.longrepr == f"- app:***...\n+ ***@db.example\n? {shown}"
    assert report.sections == [("Captured log", diff.replace(URL, shown))]
