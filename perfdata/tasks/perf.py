"""Perf tests: run them, accept their counts as baselines, report and compare."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.tasks.output import print_json, print_notes, show, shown_path
from perfdata.tasks.progress import reporting
from perfdata.tasks.task import (
    Code,
    answer_no,
    is_dry,
    load_settings,
    read_whole_number,
    task,
    untouched_target,
)

if TYPE_CHECKING:
    from invoke.context import Context

    from perfdata.config import Settings
    from perfdata.perf.gate.acceptance import Acceptance


@task(
    options={
        "dataset": "run on this dataset or snapshot instead of the ones that the tests name",
        "only": "run one scenario: its name, or a part of its test's name",
        "strict": "fail also if something asked for could not be measured (verdict not_judged)",
        "json": "print the results as JSON; pytest's output goes to stderr",
    }
)
def run(
    context: Context,
    *,
    dataset: str = "",
    only: str = "",
    strict: bool = False,
    json: bool = False,
) -> None:
    """Run the project's perf tests; exit 1 if a scenario regressed."""
    from invoke.exceptions import Exit

    from perfdata.perf.report.results import read_results, result_to_json, results_path
    from perfdata.tasks.pytest_run import Outcome, pytest_command, run_tests

    settings = load_settings()
    if is_dry(context):
        _check_dataset(settings, dataset)
        command = pytest_command(settings, dataset=dataset, only=only, strict=strict)
        if json:
            print_json({"folder": settings.root, "command": command})
        else:
            show(f"would run in {settings.root}: {shlex.join(command)}")
        return
    outcome = run_tests(settings, dataset=dataset, only=only, strict=strict, quiet=json)
    if json:
        results = read_results(results_path(settings)).scenarios
        print_json([result_to_json(result) for result in results])
    if outcome in {Outcome.REGRESSED, Outcome.NOT_JUDGED}:
        raise answer_no()
    if outcome is Outcome.BROKEN:
        raise Exit("error: the perf tests failed to complete", code=Code.ERROR)


def _check_dataset(settings: Settings, name: str) -> None:
    """Raise SnapshotNotFoundError if a dataset was named that does not exist."""
    from perfdata.snapshot.provide import check_known

    if name:
        check_known(untouched_target(settings).project, name, settings, build=True)


@task(
    options={
        "only": "accept one scenario; default: all scenarios of the last run",
        "json": "print the accepted scenarios as JSON",
    }
)
def accept(context: Context, *, only: str = "", json: bool = False) -> None:
    """Make the last run's counts and plans the baselines, and print the changes."""
    from perfdata.perf.gate.acceptance import accept as write
    from perfdata.perf.gate.acceptance import acceptances
    from perfdata.perf.report.results import read_results, results_path

    settings = load_settings()
    last_run = read_results(results_path(settings))
    accepted = acceptances(last_run.scenarios, settings.root, only)
    if not is_dry(context):
        write(accepted)
    if json:
        print_json([_facts(acceptance) for acceptance in accepted])
        return
    verb = "would accept" if is_dry(context) else "accepted"
    print(f"{verb} the run of {last_run.created_at:%Y-%m-%d %H:%M:%S} UTC")
    for acceptance in accepted:
        scenario = f"{acceptance.scenario} on {acceptance.dataset}"
        print(f"{acceptance.done.value}: {scenario}, {shown_path(acceptance.path)}")
        print_notes((*acceptance.changes, *acceptance.still_red))
    if unknown := [result.scenario for result in last_run.scenarios if not result.baseline]:
        print(f"not accepted, because their environment is unknown: {', '.join(unknown)}")


def _facts(acceptance: Acceptance) -> dict[str, object]:
    return {
        "scenario": acceptance.scenario,
        "dataset": acceptance.dataset,
        "done": acceptance.done.value,
        "path": acceptance.path,
        "changes": acceptance.changes,
        "still_red": acceptance.still_red,
    }


@task(
    options={
        "output": "the file to write; default: report.html next to the results",
        "open": "open the report in a browser, if there is a display",
        "json": "print the report's path and each scenario's verdict as JSON",
    }
)
def report(context: Context, *, output: str = "", open: bool = False, json: bool = False) -> None:  # noqa: A002  the option's name
    """Write the last run's results and the history as one HTML page."""
    from perfdata.perf.report.charts import NO_CHARTS, have_charts
    from perfdata.perf.report.html import write_report
    from perfdata.perf.report.results import results_path
    from perfdata.tasks.perf_output import open_in_browser

    settings = load_settings()
    path, results, history = write_report(
        results_path(settings).parent,
        settings.root,
        Path(output) if output else None,
        dry=is_dry(context),
    )
    notes = [*history.notes, *([] if have_charts() else [NO_CHARTS])]
    if open and not is_dry(context) and (why := open_in_browser(path)):
        notes.append(f"not opened: {why}")
    if json:
        scenarios = [
            {
                "scenario": result.scenario,
                "dataset": result.dataset,
                "verdict": result.verdict.value,
            }
            for result in results.scenarios
        ]
        print_json({"path": path.resolve(), "scenarios": scenarios, "notes": notes})
    else:
        print(f"would write {shown_path(path)}" if is_dry(context) else shown_path(path))
        print_notes(notes)


@task(
    options={
        "rev": "the revision to compare with: a branch, a tag or a hash",
        "only": "compare one scenario: its name, or a part of its test's name",
        "dataset": "run on this dataset or snapshot instead of the ones that the tests name",
        "rounds": "rounds per side, at least 10; default: as many as take about 5 s",
        "json": "print the comparison as JSON, with the time of every round",
    },
    required={"rev": "main"},
)
def compare(
    context: Context,
    *,
    rev: str = "",
    only: str = "",
    dataset: str = "",
    rounds: str = "",
    json: bool = False,
) -> None:
    """Time this tree against a revision on the same data; exit 1 if it regressed."""
    from invoke.exceptions import Exit

    from perfdata.perf.compare.revision import check_comparison, compare_revision
    from perfdata.tasks.perf_output import print_comparison

    number = read_whole_number("rounds", rounds) if rounds else None
    settings = load_settings()
    if is_dry(context):
        _, comparison = check_comparison(settings, rev, number)
        _check_dataset(settings, dataset)
    else:
        with reporting() as report:
            comparison = compare_revision(
                settings, rev, only=only, dataset=dataset, rounds=number, report=report
            )
    if json:
        print_json(comparison.to_json())
    elif is_dry(context):
        print(f"would compare this tree with {comparison.label}")
    else:
        print_comparison(comparison)
    if comparison.errors:
        count = len(comparison.errors)
        raise Exit(f"error: {count} comparison{'s' if count > 1 else ''} failed", code=Code.ERROR)
    if comparison.regressed:
        raise answer_no()
