"""What a perf run says: on pytest's terminal as it happens, in its files, in a job's summary."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from perfdata.config import Settings
from perfdata.errors import ConfigError
from perfdata.perf.gate.advice import notices, warnings
from perfdata.perf.gate.baselines import orphaned_baselines
from perfdata.perf.model import ScenarioResult, Verdict
from perfdata.perf.report.history import append_history
from perfdata.perf.report.markdown import markdown
from perfdata.perf.report.results import result_from_json, result_to_json, write_results
from perfdata.perf.report.terminal import table
from perfdata.pytest_plugin.redaction import REDACTION_PLUGIN
from perfdata.temporary import write_whole
from perfdata.text import make_printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from perfdata.progress import Event
    from perfdata.pytest_plugin.redaction import Redaction

_ATTRIBUTE, _NOTES = "perfdata", "perfdata_notes"
_LEFT_OUT = "perfdata_left_out"
SUMMARY_PLUGIN = "perfdata-summary"
# What leaves tests out, or has them measure on other data, by pytest's names for the options.
_NARROWING = (
    *("keyword", "markexpr", "lf", "stepwise", "deselect", "ignore", "ignore_glob"),
    *("collectonly", "perf_dataset"),
)
_TAIL = 40  # lines of a failure's text: what went wrong stands at its end


class Announcer:
    """Writes lines to pytest's terminal, also while it captures what tests print."""

    def __init__(self, config: pytest.Config) -> None:
        self._reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._capture: Any = config.pluginmanager.get_plugin("capturemanager")
        self._summary: Summary | None = config.pluginmanager.get_plugin(SUMMARY_PLUGIN)
        redaction: Any = config.pluginmanager.get_plugin(REDACTION_PLUGIN)
        self.redaction: Redaction = redaction

    def report(self, event: Event) -> None:
        """Write an event that is a line; how far a work has come is not for a test's terminal."""
        if event.done is None and event.total is None:
            self.line(event.text)

    def line(self, text: str) -> None:
        """Write a line of perfdata's own, and keep it for the summary."""
        text = make_printable(self.redaction.text(text))
        if self._summary is not None:
            self._summary.notes.append(text)
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


def attach(
    report: pytest.TestReport, settings: Settings | None, results: Iterable[ScenarioResult]
) -> None:
    """Put a test's results on its report as plain data, which also comes from a xdist worker."""
    documents = [result_to_json(result) for result in results]
    places = [str(settings.root), str(settings.home)] if settings else None
    vars(report)[_ATTRIBUTE] = {"places": places, "results": documents}


def attach_notes(report: pytest.TestReport, config: pytest.Config) -> None:
    """Put on a report what a xdist worker had to say since the last: it has no terminal."""
    summary: Summary | None = config.pluginmanager.get_plugin(SUMMARY_PLUGIN)
    if summary is not None and hasattr(config, "workerinput"):
        vars(report)[_NOTES], summary.notes = summary.notes, []


def junit_properties(results: Iterable[ScenarioResult]) -> Iterator[tuple[str, object]]:
    """Yield what JUnit's XML says of a test: dataset, verdict, counters, median time.

    The names are as ``perfdata.SCENARIO.queries``.
    What was not measured has no property.
    """
    for result in results:
        found: dict[str, object] = {
            "dataset": result.dataset,
            "verdict": result.verdict.value,
            **result.counters,
        }
        if result.time is not None:
            found["median_s"] = result.time.median_s
        if result.memory_bytes is not None:
            found["memory_bytes"] = result.memory_bytes
        for name, value in found.items():
            yield f"perfdata.{result.scenario}.{name}", value


class Summary:
    """The plugin that collects the results of all tests, wherever they ran, and shows them."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._is_worker = hasattr(config, "workerinput")
        self._left_out = False
        self._unsure: set[Path] = set()  # folders of tests that did not run to their end
        self._results: dict[tuple[str, str], ScenarioResult] = {}
        self._failures: dict[str, str] = {}
        self._others: dict[str, str] = {}  # of tests that use no fixture of perfdata's
        self._settings: Settings | None = None
        self._said: list[str] = []
        self.notes: list[str] = []

    def pytest_deselected(self, items: Iterable[pytest.Item]) -> None:
        """Know that not all perf tests are run."""
        self._left_out |= any("perf" in getattr(item, "fixturenames", ()) for item in items)

    @pytest.hookimpl(optionalhook=True)  # pytest-xdist's
    def pytest_testnodedown(self, node: Any) -> None:
        """Know what a worker left out: only there a test is deselected."""
        self._left_out |= getattr(node, "workeroutput", {}).get(_LEFT_OUT, False)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Know of modules that were skipped, or failed, before their tests were known."""
        self._take_unfinished(report)

    def _take_unfinished(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        if not report.passed:
            file = self._config.rootpath / report.nodeid.partition("::")[0]
            self._unsure.add(file.parent.resolve())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the results of a test; where a test is run again, the last ones count."""
        for note in vars(report).get(_NOTES, ()):
            if note not in self.notes and not self._is_worker:
                self.notes.append(note)
                self._said.append(note)
        self._take_unfinished(report)
        found: dict[str, Any] | None = vars(report).get(_ATTRIBUTE)
        if found is None:
            if report.failed:
                self._others[report.nodeid] = _tail(report)
            return
        if found["places"] is not None:
            root, home = map(Path, found["places"])
            self._settings = Settings(root=root, home=home)
        results = [result_from_json(document) for document in found["results"]]
        self._results |= {(one.test, one.scenario): one for one in results}
        self._failures.pop(report.nodeid, None)
        if report.failed and not any(one.verdict is Verdict.REGRESSED for one in results):
            self._failures[report.nodeid] = _tail(report)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the files of the run, and the job's summary where GitHub runs it."""
        if self._is_worker:
            vars(self._config)["workeroutput"][_LEFT_OUT] = self._left_out
        if self._is_worker or not (self._results or self._failures):
            return
        results = list(self._results.values())
        failures = self._failures | self._others
        root = self._settings.root if self._settings else Path.cwd()
        ended = exitstatus in {0, 1} and not (session.shouldstop or session.shouldfail)
        if ended and (found := self._orphans(root)):
            self.notes.append(found)
            self._said.append(found)
        text = markdown(results, failures, self.notes, root)
        try:
            if job_summary := os.environ.get("GITHUB_STEP_SUMMARY"):
                with Path(job_summary).open("a", encoding="utf-8") as file:
                    file.write(text)
            if self._settings is not None:
                path = write_results(results, self._settings, failures, self.notes)
                append_history(results, path.with_name("history.jsonl"))
                write_whole(path.with_name("summary.md"), text)
                self._said.append(f"results: {shown_path(path)}")
        except (ConfigError, OSError) as error:
            self._said.append(f"the results could not be written: {error}")

    def _orphans(self, root: Path) -> str:
        """Say which baselines no scenario has, where all tests were run; else nothing."""
        folders = [] if self._left_out else _whole_folders(self._config)
        found = list(orphaned_baselines(self._results.values(), root, folders, self._unsure))
        if not found:
            return ""
        return (
            f"no scenario of this run has the {'baseline' if len(found) == 1 else 'baselines'} "
            f"{', '.join(found)}: where the test is gone or has another name, remove the file"
        )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table, and where the results are."""
        if not (self._results or self._said):
            return
        terminalreporter.section("perfdata")
        results = list(self._results.values())
        writer = terminalreporter._tw  # noqa: SLF001  where else it says how wide it is
        if results:
            terminalreporter.write_line(
                table(results, writer.fullwidth, colour=bool(writer.hasmarkup))
            )
        for warning in warnings(results):
            terminalreporter.write_line(make_printable(f"warning: {warning}"), yellow=True)
        root = self._settings.root if self._settings else Path.cwd()
        for notice in notices(results, root):
            terminalreporter.write_line(make_printable(notice), bold=True)
        for said in self._said:
            terminalreporter.write_line(make_printable(said))


def _whole_folders(config: pytest.Config) -> list[Path]:
    """Return the folders whose tests a session runs all of; none where any are left out."""
    if any(config.getoption(name, None) for name in _NARROWING):
        return []
    named = (config.invocation_params.dir / one for one in config.args)
    return [one.resolve() for one in named if one.is_dir()]


def _tail(report: pytest.TestReport) -> str:
    return "\n".join(report.longreprtext.splitlines()[-_TAIL:])


def shown_path(path: Path) -> str:
    """Write a path as short as it can be from the current folder."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
