"""The summary of a pytest session: terminal, results files, job summary and error reports."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from perfdata.config import Settings
from perfdata.errors import ConfigError, NotJudgedError, PerfdataError, RegressedError
from perfdata.perf.gate.advice import notices, unjudged_messages, warning_lines
from perfdata.perf.gate.baselines import orphaned_baselines
from perfdata.perf.model import ScenarioResult, Verdict
from perfdata.perf.report.history import append_history
from perfdata.perf.report.markdown import markdown
from perfdata.perf.report.results import result_from_json, result_to_json, write_results
from perfdata.perf.report.terminal import results_table
from perfdata.pytest_plugin.redaction import REDACTION_PLUGIN
from perfdata.temporary import write_whole
from perfdata.text import make_printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from perfdata.progress import Event
    from perfdata.pytest_plugin.redaction import Redaction

_ATTRIBUTE, _NOTES = "perfdata", "perfdata_notes"
_DESELECTED = "perfdata_deselected"
SUMMARY_PLUGIN = "perfdata-summary"
# pytest's names for the options that deselect tests or change their dataset.
_NARROWING = (
    *("keyword", "markexpr", "lf", "stepwise", "deselect", "ignore", "ignore_glob"),
    *("collectonly", "perf_dataset"),
)
_TAIL = 40  # lines of a failure's text, which ends with the error


class Announcer:
    """Writes lines to pytest's terminal, even while it captures output."""

    def __init__(self, config: pytest.Config) -> None:
        self._reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._capture: Any = config.pluginmanager.get_plugin("capturemanager")
        self._summary: Summary | None = config.pluginmanager.get_plugin(SUMMARY_PLUGIN)
        redaction: Any = config.pluginmanager.get_plugin(REDACTION_PLUGIN)
        self.redaction: Redaction = redaction

    def report(self, event: Event) -> None:
        """Write an event as a line, unless it only reports progress."""
        if event.done is None and event.total is None:
            self.line(event.text)

    def line(self, text: str) -> None:
        """Write a line, and keep it for the summary."""
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
    """Attach a test's results to its report as plain data, which xdist's workers can send."""
    documents = [result_to_json(result) for result in results]
    places = [str(settings.root), str(settings.home)] if settings else None
    vars(report)[_ATTRIBUTE] = {"places": places, "results": documents}


def attach_notes(report: pytest.TestReport, config: pytest.Config) -> None:
    """Attach an xdist worker's new notes to a report, since it has no terminal."""
    summary: Summary | None = config.pluginmanager.get_plugin(SUMMARY_PLUGIN)
    if summary is not None and hasattr(config, "workerinput"):
        vars(report)[_NOTES], summary.notes = summary.notes, []


def junit_properties(results: Iterable[ScenarioResult]) -> Iterator[tuple[str, object]]:
    """Yield the properties of a test in JUnit's XML: dataset, verdict, counters, median time.

    The names are ``perfdata.SCENARIO.queries`` and so on; unmeasured counters are omitted, and
    ``.not_judged`` says what could not be judged.
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
        if messages := unjudged_messages(result):
            found["not_judged"] = "; ".join(messages)
        for name, value in found.items():
            yield f"perfdata.{result.scenario}.{name}", value


def shortened_error(
    call: pytest.CallInfo[None], found: pytest.ExceptionInfo[BaseException], *, is_perf: bool
) -> Any:
    """Show an error of perfdata by its message, below the user's lines that led to it.

    Regressions, and errors of fixtures, show no lines. Returns None for other errors.
    """
    error = found.value
    verdicts = (RegressedError, NotJudgedError)
    if isinstance(error, PerfdataError if call.when == "setup" else verdicts):
        return found.getrepr(style="value", chain=False)
    if isinstance(error, PerfdataError) and is_perf:
        # The message includes the cause; only an exception that the test was handling is chained.
        chain = error.__cause__ is None
        return found.getrepr(style="long", chain=chain, tbfilter=_own_lines)
    return None


def _own_lines(found: pytest.ExceptionInfo[BaseException]) -> Any:
    from perfdata.callers import Callers

    callers = Callers(Path.cwd())
    return found.traceback.filter(lambda entry: callers.shown(str(entry.path)) is not None)


class Summary:
    """The plugin that collects the results of all tests, including xdist's, and reports them."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._is_worker = hasattr(config, "workerinput")
        self._deselected = False  # some perf tests
        self._unsure: set[Path] = set()  # folders of tests that did not run to completion
        self._results: dict[tuple[str, str], ScenarioResult] = {}
        self._failures: dict[str, str] = {}
        self._others: dict[str, str] = {}  # failures of tests that use no fixture of perfdata
        self._settings: Settings | None = None
        self._lines: list[str] = []  # printed at the end
        self.notes: list[str] = []

    def pytest_deselected(self, items: Iterable[pytest.Item]) -> None:
        """Note whether perf tests were deselected."""
        self._deselected |= any("perf" in getattr(item, "fixturenames", ()) for item in items)

    @pytest.hookimpl(optionalhook=True)  # pytest-xdist's
    def pytest_testnodedown(self, node: Any) -> None:
        """Note whether perf tests were deselected in a worker."""
        self._deselected |= getattr(node, "workeroutput", {}).get(_DESELECTED, False)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note modules that were skipped or failed during collection."""
        self._take_unfinished(report)

    def _take_unfinished(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        if not report.passed:
            file = self._config.rootpath / report.nodeid.partition("::")[0]
            self._unsure.add(file.parent.resolve())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the results of a test; if it is run again, the last ones count."""
        for note in vars(report).get(_NOTES, ()):
            if note not in self.notes and not self._is_worker:
                self.notes.append(note)
                self._lines.append(note)
        self._take_unfinished(report)
        attached: dict[str, Any] | None = vars(report).get(_ATTRIBUTE)
        if attached is None:
            if report.failed:
                self._others[report.nodeid] = _tail(report)
            return
        if attached["places"] is not None:
            root, home = map(Path, attached["places"])
            self._settings = Settings(root=root, home=home)
        results = [result_from_json(document) for document in attached["results"]]
        self._results |= {(result.test, result.scenario): result for result in results}
        self._failures.pop(report.nodeid, None)
        if report.failed and not any(map(self._fails, results)):
            self._failures[report.nodeid] = _tail(report)

    def _fails(self, result: ScenarioResult) -> bool:
        """Tell whether a result fails its test."""
        strict = self._config.getoption("--perf-strict")
        return result.verdict is Verdict.REGRESSED or (
            strict and result.verdict is Verdict.NOT_JUDGED
        )

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the run's files, and the job summary on GitHub."""
        if self._is_worker:
            vars(self._config)["workeroutput"][_DESELECTED] = self._deselected
        if self._is_worker or not (self._results or self._failures):
            return
        results = list(self._results.values())
        failures = self._failures | self._others
        root = self._settings.root if self._settings else Path.cwd()
        complete = exitstatus in {0, 1} and not (session.shouldstop or session.shouldfail)
        if complete and (orphans := self._orphans(root)):
            self.notes.append(orphans)
            self._lines.append(orphans)
        text = markdown(results, failures, self.notes, root)
        try:
            if job_summary := os.environ.get("GITHUB_STEP_SUMMARY"):
                with Path(job_summary).open("a", encoding="utf-8") as file:
                    file.write(text)
            if self._settings is not None:
                path = write_results(results, self._settings, failures, self.notes)
                append_history(results, path.with_name("history.jsonl"))
                write_whole(path.with_name("summary.md"), text)
                self._lines.append(f"results: {shown_path(path)}")
        except (ConfigError, OSError) as error:
            self._lines.append(f"the results could not be written: {error}")

    def _orphans(self, root: Path) -> str:
        """Describe the baselines without a scenario; empty if there are none, or not all ran."""
        folders = [] if self._deselected else _complete_folders(self._config)
        found = list(orphaned_baselines(self._results.values(), root, folders, self._unsure))
        if not found:
            return ""
        return (
            f"no scenario of this run uses the {'baseline' if len(found) == 1 else 'baselines'} "
            f"{', '.join(found)}: if the test was removed or renamed, remove the file"
        )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table, notices, and the path of the results."""
        if not (self._results or self._lines):
            return
        terminalreporter.section("perfdata")
        results = list(self._results.values())
        writer = terminalreporter._tw  # noqa: SLF001  no public access to the width
        if results:
            width = writer.fullwidth if terminalreporter.isatty else None
            terminalreporter.write_line(
                results_table(results, width, colour=bool(writer.hasmarkup))
            )
        for warning in warning_lines(results):
            terminalreporter.write_line(make_printable(f"warning: {warning}"), yellow=True)
        root = self._settings.root if self._settings else Path.cwd()
        for notice in notices(results, root):
            terminalreporter.write_line(make_printable(notice), bold=True)
        for line in self._lines:
            terminalreporter.write_line(make_printable(line))


def _complete_folders(config: pytest.Config) -> list[Path]:
    """Return the folders of which a session runs all tests; none if options deselect any."""
    if any(config.getoption(name, None) for name in _NARROWING):
        return []
    paths = (config.invocation_params.dir / argument for argument in config.args)
    return [path.resolve() for path in paths if path.is_dir()]


def _tail(report: pytest.TestReport) -> str:
    return "\n".join(report.longreprtext.splitlines()[-_TAIL:])


def shown_path(path: Path) -> str:
    """Return a path relative to the current folder, if it is inside."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
