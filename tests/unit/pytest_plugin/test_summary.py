"""The summary at the end of a pytest session."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from perfdata.pytest_plugin.summary import Summary
from tests.welfare_results import RESULTS


@pytest.mark.parametrize("isatty", [False, True])
def test_only_a_terminal_limits_the_width_of_the_table(isatty: bool) -> None:
    summary = Summary(_anything())
    summary._results = {(result.test, result.scenario): result for result in RESULTS}
    printed: list[str] = []
    reporter = _anything(
        isatty=isatty,
        section=printed.append,
        write_line=lambda text, **_: printed.append(text),
        _tw=SimpleNamespace(fullwidth=60, hasmarkup=False),
    )
    summary.pytest_terminal_summary(reporter)
    heading, *lines = printed[1].splitlines()
    assert ("time" in heading) is not isatty
    assert lines[-1].startswith("the terminal is too narrow for: ") is isatty


def _anything(**attributes: object) -> Any:
    return SimpleNamespace(**attributes)
