"""Perf tests: run them, accept what they measured, and look at it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.errors import ConfigError
from perfdata.tasks.browser import open_in_browser
from perfdata.tasks.output import print_json, print_notes, shown_path
from perfdata.tasks.progress import reporting
from perfdata.tasks.target import load_settings
from perfdata.tasks.task import Code, answer_no, is_dry, task

if TYPE_CHECKING:
    from invoke.context import Context

    from perfdata.perf.accepting import Acceptance


@task(
    options={
        "dataset": "run on this dataset or snapshot, not on the one that each test names",
        "only": "run one scenario: its name, or a part of its test's",
        "json": "print the results as JSON; what pytest says goes to stderr",
    }
)
def run(_context: Context, *, dataset: str = "", only: str = "", json: bool = False) -> None:
    """Run the project's perf tests; exit code 1 where a scenario regressed."""
    from invoke.exceptions import Exit

    from perfdata.perf.results import read_results, results_path
    from perfdata.tasks.pytest_run import Ended, run_tests

    settings = load_settings()
    ended = run_tests(settings, dataset=dataset, only=only, quiet=json)
    if json:
        print_json([one.to_json() for one in read_results(results_path(settings)).scenarios])
    if ended is Ended.RED:
        raise answer_no()
    if ended is Ended.BROKEN:
        raise Exit("error: the perf tests did not run to their end", code=Code.ERROR)


@task(
    options={
        "only": "accept one scenario; not given: all that the last run measured",
        "json": "print what was accepted as JSON",
    }
)
def accept(context: Context, *, only: str = "", json: bool = False) -> None:
    """Make the last run's counts and plans the baselines, and show what changes."""
    from perfdata.perf.accepting import accept as write
    from perfdata.perf.accepting import acceptances
    from perfdata.perf.results import read_results, results_path

    settings = load_settings()
    run_before = read_results(results_path(settings))
    found = acceptances(run_before.scenarios, settings.root, only)
    if not is_dry(context):
        write(found)
    if json:
        print_json([_accepted(one) for one in found])
        return
    verb = "would accept" if is_dry(context) else "accepted"
    print(f"{verb} the run of {run_before.created_at:%Y-%m-%d %H:%M:%S} UTC")
    for one in found:
        print(f"{one.done.value}: {one.scenario} on {one.dataset}, {shown_path(one.path)}")
        print_notes((*one.changes, *one.still_red))
    if unknown := [one.scenario for one in run_before.scenarios if not one.baseline]:
        print(f"not accepted, as their environment is not known: {', '.join(unknown)}")


def _accepted(one: Acceptance) -> dict[str, object]:
    return {
        "scenario": one.scenario,
        "dataset": one.dataset,
        "done": one.done.value,
        "path": one.path,
        "changes": one.changes,
        "still_red": one.still_red,
    }


@task(
    options={
        "output": "the file to write; not given: report.html beside the results",
        "open": "open it in a browser, where there is a display",
        "json": "print where it is, and each scenario's verdict, as JSON",
    }
)
def report(_context: Context, *, output: str = "", open: bool = False, json: bool = False) -> None:  # noqa: A002  the option's name
    """Write the last run's results, and the trend, as one HTML page."""
    from perfdata.perf.html.page import write_report
    from perfdata.perf.html.pictures import NO_PICTURES, have_pictures
    from perfdata.perf.results import results_path

    settings = load_settings()
    path, results, history = write_report(
        results_path(settings).parent, settings.root, Path(output) if output else None
    )
    notes = [*history.notes, *([] if have_pictures() else [NO_PICTURES])]
    if open and (why := open_in_browser(path)):
        notes.append(f"not opened: {why}")
    if json:
        told = [
            {"scenario": one.scenario, "dataset": one.dataset, "verdict": one.verdict.value}
            for one in results.scenarios
        ]
        print_json({"path": path.resolve(), "scenarios": told, "notes": notes})
    else:
        print(shown_path(path))
        print_notes(notes)


@task(
    options={
        "rev": "the revision to compare with: a branch, a tag, a hash",
        "only": "compare one scenario: its name, or a part of its test's",
        "dataset": "run on this dataset or snapshot, not on the one that each test names",
        "rounds": "how many rounds a side, from 10; as many as take about 5 s where not given",
        "json": "print the comparison as JSON, with the time of each round",
    },
    required={"rev": "main"},
)
def compare(
    _context: Context,
    *,
    rev: str = "",
    only: str = "",
    dataset: str = "",
    rounds: str = "",
    json: bool = False,
) -> None:
    """Time this tree and a revision in turn, on the same data; exit code 1 where it regressed."""
    from invoke.exceptions import Exit

    from perfdata.perf import compare as comparing
    from perfdata.tasks.perf_output import print_comparison

    number = _read_rounds(rounds) if rounds else None
    with reporting() as report:
        found = comparing.compare(
            load_settings(), rev, only=only, dataset=dataset, rounds=number, report=report
        )
    if json:
        print_json(found.to_json())
    else:
        print_comparison(found)
    if found.errors:
        raise Exit(f"error: {len(found.errors)} could not be compared", code=Code.ERROR)
    if found.regressed:
        raise answer_no()


def _read_rounds(text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"--rounds must be a whole number, not {text!r}")
    return int(text)
