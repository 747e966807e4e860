"""``--dry`` with perf.run, perf.report and perf.compare: checks, and no change."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from invoke.config import Config
from invoke.context import Context
from invoke.exceptions import Exit

from perfdata import Settings
from perfdata.perf.report.results import write_results
from perfdata.tasks import perf
from tests.welfare_results import RESULTS

if TYPE_CHECKING:
    from pathlib import Path

    from perfdata.tasks.task import Task

DRY = Context(Config(overrides={"run": {"dry": True}}))


def failed(task: Task, **options: str) -> str:
    """Run a task that exits with 2, and return its message."""
    with pytest.raises(Exit) as ended:
        task(DRY, **options)
    assert ended.value.code == 2
    return ended.value.message or ""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").write_text('[tool.perfdata]\nproject = "perfdata.welfare"\n')
    monkeypatch.delenv("PERFDATA_HOME", raising=False)
    monkeypatch.delenv("PERFDATA_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_shows_the_command_of_pytest(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    perf.run(DRY, dataset="10_offices", only="renew")
    assert capsys.readouterr().out == (
        f"would run in {project}: {sys.executable} -m pytest --perf-only --benchmark-quiet "
        "--perf-dataset 10_offices -k renew\n"
    )
    perf.run(DRY, strict=True)
    assert capsys.readouterr().out.endswith(
        "-m pytest --perf-only --benchmark-quiet --perf-strict\n"
    )
    assert [path.name for path in project.iterdir()] == ["pyproject.toml"]


def test_a_dataset_that_does_not_exist_fails_as_in_the_real_run(project: Path) -> None:
    assert "did you mean 10_offices?" in failed(perf.run, dataset="10_office")
    git("init", "--quiet", project=project)
    commit(project)
    assert "did you mean 10_offices?" in failed(perf.compare, rev="HEAD", dataset="10_office")


def test_a_report_is_not_written(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no " in failed(perf.report)
    write_results(RESULTS, Settings(root=project, home=project / ".perfdata"))
    perf.report(DRY)
    assert capsys.readouterr().out.startswith("would write .perfdata/results/report.html\n")
    for output in ("no/such/folder/report.html", "."):
        assert "the report can't be written to" in failed(perf.report, output=output)
    assert [path.name for path in (project / ".perfdata" / "results").iterdir()] == ["perf.json"]


def test_a_comparison_only_names_the_revision(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git("init", "--quiet", project=project)
    commit(project)
    head = git("rev-parse", "HEAD", project=project).strip()
    perf.compare(DRY, rev="HEAD")
    assert capsys.readouterr().out == f"would compare this tree with HEAD ({head[:10]})\n"
    assert "names no commit" in failed(perf.compare, rev="no_such")
    assert "must be from 10" in failed(perf.compare, rev="HEAD", rounds="3")
    assert not (project / ".perfdata").exists()


def commit(project: Path) -> None:
    git("add", "--all", project=project)
    author = ("-c", "user.name=a", "-c", "user.email=a@example")
    git(*author, "commit", "--quiet", "--message", "Begin", project=project)


def git(*arguments: str, project: Path) -> str:
    command = ["git", "-C", str(project), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
