"""Accepting the last run: what it shows, what it writes, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from invoke.config import Config
from invoke.context import Context
from invoke.exceptions import Exit

from perfdata import ConfigError, RefusedError, Settings
from perfdata.perf.gate.acceptance import BaselineChange, accept, acceptances, in_ci
from perfdata.perf.gate.verdict import Judge
from perfdata.perf.model import Budgets, Finding, FindingKind, PlanSource, Verdict
from perfdata.perf.report.results import write_results
from perfdata.tasks import perf
from tests.unit.perf.parts import SEQ, plan, result, source, statement

if TYPE_CHECKING:
    from perfdata.perf.model import ScenarioResult

FILE = Path("tests/perf/baselines/pg18/report.100_offices.json")
OUTSIDE: dict[str, str] = {}


def judged(root: Path, one: ScenarioResult) -> ScenarioResult:
    return Judge(root, root / "tests" / "perf").judge(one)


def test_what_was_measured_becomes_what_is_compared_with(tmp_path: Path) -> None:
    (first,) = found = acceptances([judged(tmp_path, result())], tmp_path)
    assert (first.done, first.path, first.changes) == (BaselineChange.NEW, tmp_path / FILE, ())
    assert not first.path.exists()
    accept(found, OUTSIDE)
    assert judged(tmp_path, result()).verdict is Verdict.OK
    written = first.path.read_bytes(), first.path.stat().st_mtime_ns
    (same,) = found = acceptances([judged(tmp_path, result())], tmp_path)
    assert same.done is BaselineChange.SAME
    accept(found, OUTSIDE)
    assert (first.path.read_bytes(), first.path.stat().st_mtime_ns) == written


def test_what_changes_is_shown_and_what_was_red_is_green(tmp_path: Path) -> None:
    accept(acceptances([judged(tmp_path, result())], tmp_path), OUTSIDE)
    slow = judged(tmp_path, result(statement(plans=(plan(*SEQ, buffers=1_001),))))
    assert slow.verdict is Verdict.REGRESSED
    (one,) = found = acceptances([slow], tmp_path)
    assert one.done is BaselineChange.CHANGED
    assert "buffers 100 → 1,001 (+901 %)" in one.changes
    assert '-            "  Index Scan using by_name on t"' in one.changes
    assert '+            "    Seq Scan on t"' in one.changes
    accept(found, OUTSIDE)
    assert judged(tmp_path, slow).verdict is Verdict.OK


def test_a_changed_dataset_with_the_same_counts_is_accepted_too(tmp_path: Path) -> None:
    """Otherwise it would be named as the likely cause of everything that fails later."""

    def done(data: dict[str, str], **given: Any) -> BaselineChange:
        (one,) = found = acceptances([judged(tmp_path, result(data=data, **given))], tmp_path)
        accept(found, OUTSIDE)
        return one.done

    assert done({}) is BaselineChange.NEW
    assert done({"dataset": "a1"}) is BaselineChange.CHANGED
    assert done({"dataset": "b2"}) is BaselineChange.CHANGED
    written = (tmp_path / FILE).read_bytes()
    assert b"b2" in written
    assert done({"dataset": "b2"}) is BaselineChange.SAME
    assert done({}) is BaselineChange.SAME, "a run that does not know its data"
    assert (tmp_path / FILE).read_bytes() == written


def test_after_an_accept_only_what_changed_since_is_named(tmp_path: Path) -> None:
    """A migration without effect on this scenario is accepted; then its dataset changes."""
    before = {"dataset": "a1", "migrations": "0003 (0f)"}
    migrated = {**before, "migrations": "0004 (1e)"}
    for data in (before, migrated):
        accept(acceptances([judged(tmp_path, result(data=data))], tmp_path), OUTSIDE)
    slow = statement(plans=(plan(*SEQ, buffers=1_001),))

    def causes(data: dict[str, str]) -> list[str]:
        findings = judged(tmp_path, result(slow, data=data)).findings
        return [each.message for each in findings if each.kind is FindingKind.DATA]

    assert causes(migrated) == []
    (cause,) = causes({**migrated, "dataset": "b2"})
    assert cause.endswith("the dataset 100_offices has changed (its definition or its code)")


@pytest.mark.parametrize(
    "unjudged",
    [
        {"plan_source": PlanSource.NONE, "not_captured": ("no LOAD",)},
        {"same_layout": False, "not_captured": ("no CREATEDB",)},
    ],
)
def test_a_run_without_plans_disarms_no_baseline(tmp_path: Path, unjudged: dict[str, Any]) -> None:
    accept(acceptances([judged(tmp_path, result())], tmp_path), OUTSIDE)
    blind = judged(tmp_path, result(**unjudged))
    with pytest.raises(RefusedError) as caught:
        acceptances([blind], tmp_path)
    for words in ("report on 100_offices", str(FILE), *unjudged["not_captured"], "remove the file"):
        assert words in str(caught.value)
    (tmp_path / FILE).unlink()
    accept(acceptances([blind], tmp_path), OUTSIDE)
    assert judged(tmp_path, blind).verdict is Verdict.OK
    (armed,) = acceptances([judged(tmp_path, result())], tmp_path)
    assert "buffers None → 100" in armed.changes


def test_a_damaged_baseline_is_mended_by_accepting(tmp_path: Path) -> None:
    one = judged(tmp_path, result())
    accept(acceptances([one], tmp_path), OUTSIDE)
    (tmp_path / FILE).write_text("{")
    (found,) = acceptances([one], tmp_path)
    assert found.done is BaselineChange.CHANGED
    accept([found], OUTSIDE)
    assert judged(tmp_path, result()).verdict is Verdict.OK


def test_one_scenario_is_chosen_by_name_and_a_near_miss_is_suggested(tmp_path: Path) -> None:
    both = [judged(tmp_path, result()), judged(tmp_path, result(scenario="directory"))]
    assert [one.scenario for one in acceptances(both, tmp_path, "report")] == ["report"]
    with pytest.raises(ConfigError, match=r"no scenario 'repor'; did you mean report\?"):
        acceptances(both, tmp_path, "repor")
    with pytest.raises(ConfigError, match="run the perf tests first"):
        acceptances([], tmp_path)


def test_two_tests_do_not_share_a_baseline(tmp_path: Path) -> None:
    both = [judged(tmp_path, result()), judged(tmp_path, result(test="test_b.py::test_it"))]
    with pytest.raises(ConfigError, match=r"test_report and test_b\.py::test_it .* share"):
        acceptances(both, tmp_path)


def test_in_ci_nothing_is_written(tmp_path: Path) -> None:
    found = acceptances([judged(tmp_path, result())], tmp_path)
    with pytest.raises(RefusedError, match="in CI"):
        accept(found, {"CI": "true"})
    assert list(tmp_path.iterdir()) == []
    assert [in_ci({"CI": value}) for value in ("1", "true", "false", "0", "")] == [
        *(True, True, False, False, False)
    ]


@pytest.fixture
def last_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").write_text("[tool.perfdata]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERFDATA_HOME", raising=False)
    monkeypatch.delenv("CI", raising=False)
    settings = Settings(root=tmp_path, home=tmp_path / ".perfdata")
    write_results([judged(tmp_path, result())], settings)
    return tmp_path


def run(*, dry: bool = False, **options: str | bool) -> tuple[int, str]:
    """Call the task as invoke does, and return its exit code and what it says of that."""
    context = Context(Config(overrides={"run": {"dry": dry}}))
    try:
        perf.accept(context, **options)
    except Exit as ended:
        return ended.code, ended.message or ""
    return 0, ""


def test_the_task_says_what_it_did(last_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(dry=True) == (0, "")
    assert capsys.readouterr().out.startswith("would accept the run of 20")
    assert not (last_run / FILE).exists()
    assert run(only="report") == (0, "")
    assert f"new: report on 100_offices, {FILE}" in capsys.readouterr().out
    assert run(json=True) == (0, "")
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["scenario"], told["done"]) == ("report", "same")


def test_what_accepting_does_not_mend_is_said(
    last_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repeated = statement(calls=12, sources=(source(12, 12),))
    grown = Finding(FindingKind.GROWTH, fails=True, message="rows grow")
    red = judged(last_run, result(repeated, budgets=Budgets(max_queries=5)))
    red = replace(red, findings=(*red.findings, grown))
    write_results([red], Settings(root=last_run, home=last_run / ".perfdata"))
    said = [
        ("12 queries, max_queries is 5", "max_queries"),
        ("N+1: app/mails.py:12 in due sent one statement 12 times", "max_repeats"),
        ("rows grow", "max_growth"),
    ]
    for done in ("new", "same"):
        assert run() == (0, "")
        head, first, *lines = capsys.readouterr().out.splitlines()
        assert (head.startswith("accepted"), first.startswith(f"{done}: report on")) == (True, True)
        assert len(lines) == len(said)
        for line, (what, name) in zip(lines, said, strict=True):
            assert line.startswith(f"  still fails: {what}")
            assert line.endswith(f"change the code, or set {name} in the test's marker")
    assert run(json=True) == (0, "")
    (told,) = json.loads(capsys.readouterr().out)
    assert len(told["still_red"]) == len(said)


def test_the_task_refuses_in_ci_and_without_a_run(
    last_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    code, message = run()
    assert (code, message.startswith("error: baselines are not accepted in CI")) == (2, True)
    assert not (last_run / FILE).exists()
    monkeypatch.setenv("PERFDATA_HOME", "elsewhere")
    code, message = run()
    assert (code, "there is no" in message) == (2, True)
