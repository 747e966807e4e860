"""What a perf run says on pytest's terminal: what happens as it happens, and the table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfdata.config import Settings
from perfdata.errors import ConfigError
from perfdata.perf.report import table
from perfdata.perf.results import ScenarioResult, Verdict, write_results

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

    from perfdata.progress import Event

_COLOURS = {
    None: {"bold": True},
    Verdict.OK: {"green": True},
    Verdict.REGRESSED: {"red": True},
}
_ATTRIBUTE = "perfdata"


class Announcer:
    """Writes lines to pytest's terminal, also while it captures what tests print."""

    def __init__(self, config: pytest.Config) -> None:
        self._reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._capture: Any = config.pluginmanager.get_plugin("capturemanager")

    def report(self, event: Event) -> None:
        """Write an event that is a line; how far a work has come is not for a test's terminal."""
        if event.done is None and event.total is None:
            self.line(event.text)

    def line(self, text: str) -> None:
        """Write a line of perfdata's own."""
        if self._reporter is None:
            return
        if self._capture is None:
            self._write(text)
            return
        with self._capture.global_and_fixture_disabled():
            self._write(text)

    def _write(self, text: str) -> None:
        self._reporter.ensure_newline()
        self._reporter.write_line(f"perfdata: {text}")


def attach(report: pytest.TestReport, home: Path, results: Iterable[ScenarioResult]) -> None:
    """Put a test's results on its report as plain data, which also comes from a xdist worker."""
    found = {"home": str(home), "results": [result.to_json() for result in results]}
    vars(report)[_ATTRIBUTE] = found


class Summary:
    """The plugin that collects the results of all tests, wherever they ran, and shows them."""

    def __init__(self, config: pytest.Config) -> None:
        self._is_worker = hasattr(config, "workerinput")
        self._results: dict[tuple[str, str], ScenarioResult] = {}
        self._home: Path | None = None
        self._said = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the results of a test; where a test is run again, the last ones count."""
        found: dict[str, Any] | None = vars(report).get(_ATTRIBUTE)
        if found is None:
            return
        self._home = Path(found["home"])
        for document in found["results"]:
            result = ScenarioResult.from_json(document)
            self._results[result.test, result.scenario] = result

    def pytest_sessionfinish(self) -> None:
        """Write the results file."""
        if self._home is None or self._is_worker:
            return
        settings = Settings(root=self._home.parent, home=self._home)
        try:
            path = write_results(self._results.values(), settings)
        except (ConfigError, OSError) as error:
            self._said = f"the results could not be written: {error}"
        else:
            self._said = f"results: {shown_path(path)}"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table, and where the results are."""
        if not self._results:
            return
        terminalreporter.section("perfdata")
        for line in table(list(self._results.values())):
            terminalreporter.write_line(line.text, **_COLOURS.get(line.verdict, {}))
        terminalreporter.write_line(self._said)


def shown_path(path: Path) -> str:
    """Write a path as short as it can be from the current folder."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
