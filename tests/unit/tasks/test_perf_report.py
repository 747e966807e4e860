"""``perf.report``: what it prints, where it writes, and when it opens a browser."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from perfdata import Settings
from perfdata.perf.report.history import append_history
from perfdata.perf.report.results import write_results
from perfdata.tasks import perf
from tests.processes import run_script
from tests.welfare_results import RESULTS

if TYPE_CHECKING:
    from pathlib import Path


class Project:
    """A measured project, and a browser that notes what it opens.

    ``report`` runs the task in this process: matplotlib is imported once.
    """

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.folder = folder
        self.opened = folder / "opened"
        (folder / "pyproject.toml").write_text("[tool.perfdata]\n")
        self.results = folder / ".perfdata" / "results"
        self.browser = folder / "browser"
        self.browser.write_text(f'#!/bin/sh\necho "$1" > "{self.opened}"\n')
        self.browser.chmod(0o755)
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def measured(self) -> None:
        settings = Settings(root=self.folder, home=self.folder / ".perfdata")
        write_results(RESULTS, settings)
        append_history(RESULTS, self.results / "history.jsonl")

    def report(self, *, display: str = "", ci: str = "", **options: Any) -> tuple[int, str, str]:
        """Run the task, and return the exit code, what it printed, and its message."""
        with self._monkeypatch.context() as changed:
            for name, value in (("DISPLAY", display), ("CI", ci), ("WAYLAND_DISPLAY", "")):
                changed.delenv(name, raising=False)
                if value:
                    changed.setenv(name, value)
            changed.delenv("PERFDATA_HOME", raising=False)
            changed.chdir(self.folder)
            try:
                perf.report(Context(), **options)
            except Exit as ended:
                return ended.code, self._capsys.readouterr().out, ended.message or ""
            return 0, self._capsys.readouterr().out, ""


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Project:
    return Project(tmp_path, monkeypatch, capsys)


def test_the_page_lies_beside_the_results_and_nothing_is_opened(project: Project) -> None:
    project.measured()
    assert project.report(display=":7") == (0, ".perfdata/results/report.html\n", "")
    page = (project.results / "report.html").read_text("utf-8")
    assert "<h1>1 of 4 scenarios regressed; 1 without a baseline</h1>" in page
    assert "there is 1." in page
    assert "<code>perfdata perf.accept --only deadline_alerts</code>" in page
    assert not project.opened.exists()


def test_it_is_opened_where_that_is_asked_for_and_there_is_a_display(project: Project) -> None:
    """As a user runs it: the browsers of a process are looked up once."""
    project.measured()
    browser = {"BROWSER": f"{project.browser} %s", "DISPLAY": ":7"}
    options = ("perf.report", "--open", "--output", "a b.html")
    assert run_script(project.folder, "perfdata", *options, **browser).stdout == "a b.html\n"
    assert project.opened.read_text() == f"{(project.folder / 'a b.html').as_uri()}\n"


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({"ci": "true", "display": ":7"}, "running in CI"),
        pytest.param(
            {},
            "there is no display",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="displays are Linux's"),
        ),
    ],
)
def test_nothing_is_opened_where_nobody_would_see_it(
    environ: dict[str, str], why: str, project: Project
) -> None:
    project.measured()
    code, out, _ = project.report(open=True, **environ)
    assert code == 0
    assert f"not opened: {why}" in out
    assert not project.opened.exists()


def test_as_json(project: Project) -> None:
    project.measured()
    with (project.results / "history.jsonl").open("a") as file:
        file.write("damaged\n")
    assert json.loads(project.report(json=True)[1]) == {
        "path": str(project.results / "report.html"),
        "scenarios": [
            {"scenario": name, "dataset": "100_offices", "verdict": verdict}
            for name, verdict in (
                ("deadline_alerts", "regressed"),
                ("search_recipients", "no_baseline"),
                ("renew_cycle", "ok"),
                ("withdraw_office", "ok"),
            )
        ],
        "notes": ["history.jsonl: 1 damaged line ignored"],
    }


def test_without_results_it_says_how_to_have_some(project: Project) -> None:
    code, out, error = project.report()
    assert (code, out) == (2, "")
    assert error.startswith("error: there is no ")
    assert "nox -s perf" in error


@pytest.mark.parametrize("output", ["no/such/folder/report.html", "."])
def test_a_place_that_can_not_be_written_is_told(output: str, project: Project) -> None:
    project.measured()
    code, _, error = project.report(output=output)
    assert code == 2
    assert error.startswith(f"error: the report can't be written to {output}: ")
    assert sorted(one.name for one in project.folder.iterdir()) == [
        *(".perfdata", "browser", "pyproject.toml")
    ]
