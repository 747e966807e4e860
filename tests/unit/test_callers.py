"""Which frames are the application's, and which frame's line repeated the calls."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from perfdata import ConfigError
from perfdata.callers import Callers
from perfdata.perf.capture.counts import StatementCounter

ROOT = Path(__file__).parents[2]
INSTALLED = Path(sysconfig.get_path("purelib"))
HERE = "tests/unit/test_callers.py"


def line_of(text: str) -> int:
    """Return the number of the first line of this file that contains the text."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_an_installed_package_that_is_named_is_the_applications() -> None:
    callers = Callers(ROOT, ["pytest_benchmark", "sqlalchemy.orm", "typing_extensions"])
    files = {
        "pytest_benchmark/plugin.py": True,
        "pytest_benchmark_more/plugin.py": False,
        "sqlalchemy/orm/session.py": True,
        "sqlalchemy/engine/base.py": False,
        "typing_extensions.py": True,
        "other/pytest_benchmark/plugin.py": False,
    }
    assert {file: callers.shown(str(INSTALLED / file)) is not None for file in files} == files
    assert Callers(ROOT).shown(str(INSTALLED / "pytest_benchmark/plugin.py")) is None


def test_a_package_that_is_not_installed_is_refused() -> None:
    with pytest.raises(ConfigError, match="own_packages names 'no_such', which is not installed"):
        Callers(ROOT, ["pytest_benchmark", "no_such.part"])


class Service:
    """Sends its statements as code in layers does: by a function that is called in a loop."""

    def __init__(self) -> None:
        self.counter = StatementCounter(Callers(ROOT))

    def send(self, key: int, table: str = "t") -> None:
        self.counter.begin(f"SELECT a FROM {table} WHERE b = %s", (key,))

    def send_two(self, key: int) -> None:
        self.send(key, "first")
        self.send(key, "second")

    def send_in_text(self, key: int) -> None:
        self.counter.begin(f"SELECT a FROM t WHERE b = {key}", None)

    def loops(self) -> list[str]:
        return [source.loop for sent in self.counter.statements() for source in sent.sources]


def test_a_loop_around_the_function_that_sends_is_named() -> None:
    service = Service()

    def loop() -> None:
        for key in range(5):
            service.send(key)  # the repeated call

    loop()
    line = line_of("# the repeated call")
    assert service.loops() == [f"{HERE}:{line} in {loop.__qualname__}"]


def test_a_loop_in_the_line_that_sends_is_not_named_again() -> None:
    service = Service()
    for key in range(5):
        service.counter.begin("SELECT a FROM t WHERE b = %s", (key,))
    assert [len(sent.sources) for sent in service.counter.statements()] == [1]
    assert service.loops() == [""]


def test_functions_between_the_loop_and_the_statement_are_passed_over() -> None:
    service = Service()
    for key in range(5):
        service.send_two(key)  # two levels below
    name = test_functions_between_the_loop_and_the_statement_are_passed_over.__qualname__
    assert service.loops() == [f"{HERE}:{line_of('# two levels below')} in {name}"] * 2


def test_a_library_may_run_the_loop() -> None:
    service = Service()
    list(map(service.send, range(5)))  # the loop is in map
    (loop,) = service.loops()
    assert loop.startswith(f"{HERE}:{line_of('# the loop is in map')} in ")


def test_of_nested_loops_the_one_with_most_calls_is_named() -> None:
    service = Service()

    def inner(outer: int) -> None:
        for key in range(4):
            service.send(10 * outer + key)  # the inner loop

    for outer in range(3):
        inner(outer)
    (loop,) = service.loops()
    assert loop.startswith(f"{HERE}:{line_of('# the inner loop')} in ")


def test_values_in_the_text_are_calls_of_one_statement() -> None:
    service = Service()
    for key in range(5):
        service.send_in_text(key)  # each with other text
    (loop,) = service.loops()
    assert loop.startswith(f"{HERE}:{line_of('# each with other text')} in ")


def test_one_call_has_no_loop() -> None:
    service = Service()
    service.send(1)
    assert service.loops() == [""]


def test_in_frames_that_a_debugger_traces_no_loop_is_named() -> None:
    """Their marks are unknown: an outer frame that is not traced has nothing to do with it."""
    service = Service()

    def loop() -> None:
        for key in range(5):
            service.send(key)

    def trace(*_: Any) -> Any:
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        loop()
    finally:
        sys.settrace(before)
    assert service.loops() == [""]
