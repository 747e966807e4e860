"""``perf.report``, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from perfdata import Settings
from perfdata.perf.report.history import append_history
from perfdata.perf.report.results import write_results
from tests.welfare_results import RESULTS

PERFDATA = Path(sys.executable).parent / "perfdata"


class Project:
    """A folder with settings of its own, a browser that notes what it opens, and a display."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened = folder / "opened"
        (folder / "pyproject.toml").write_text("[tool.perfdata]\n")
        self.results = folder / ".perfdata" / "results"
        browser = folder / "browser"
        browser.write_text(f'#!/bin/sh\necho "$1" > "{self.opened}"\n')
        browser.chmod(0o755)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PERFDATA_")}
        for name in ("CI", "DISPLAY", "WAYLAND_DISPLAY"):
            kept.pop(name, None)
        self.environ = {**kept, "BROWSER": f"{browser} %s"}

    def measured(self) -> None:
        settings = Settings(root=self.folder, home=self.folder / ".perfdata")
        write_results(RESULTS, settings)
        append_history(RESULTS, self.results / "history.jsonl")

    def report(self, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PERFDATA, "perf.report", *options],
            cwd=self.folder, env={**self.environ, **environ},
            capture_output=True, text=True, check=False,
        )  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_page_lies_beside_the_results_and_nothing_is_opened(project: Project) -> None:
    project.measured()
    done = project.report(DISPLAY=":7")
    assert (done.returncode, done.stdout, done.stderr) == (0, ".perfdata/results/report.html\n", "")
    page = (project.results / "report.html").read_text("utf-8")
    assert "<h1>1 of 4 scenarios regressed; 1 without a baseline</h1>" in page
    assert "there is 1." in page
    assert "<code>perfdata perf.accept --only deadline_alerts</code>" in page
    assert not project.opened.exists()


def test_it_is_opened_where_that_is_asked_for_and_there_is_a_display(project: Project) -> None:
    project.measured()
    assert project.report("--open", "--output", "a b.html", DISPLAY=":7").stdout == "a b.html\n"
    assert project.opened.read_text() == f"{(project.folder / 'a b.html').as_uri()}\n"


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({"CI": "true", "DISPLAY": ":7"}, "running in CI"),
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
    done = project.report("--open", **environ)
    assert done.returncode == 0
    assert f"not opened: {why}" in done.stdout
    assert not project.opened.exists()


def test_as_json(project: Project) -> None:
    project.measured()
    with (project.results / "history.jsonl").open("a") as file:
        file.write("damaged\n")
    assert json.loads(project.report("--json").stdout) == {
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
    done = project.report()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: there is no ")
    assert "nox -s perf" in done.stderr


@pytest.mark.parametrize("output", ["no/such/folder/report.html", "."])
def test_a_place_that_can_not_be_written_is_told(output: str, project: Project) -> None:
    project.measured()
    done = project.report("--output", output)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: the report can't be written to {output}: ")
    assert sorted(one.name for one in project.folder.iterdir()) == [
        *(".perfdata", "browser", "pyproject.toml")
    ]
