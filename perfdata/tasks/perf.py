"""Perf tests: run them, and accept what they measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.tasks.base import Code, answer_no, task
from perfdata.tasks.output import print_json
from perfdata.tasks.target import load_settings

if TYPE_CHECKING:
    from invoke.context import Context


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
    from perfdata.tasks.testing import Ended, run_tests

    settings = load_settings()
    ended = run_tests(settings, dataset=dataset, only=only, quiet=json)
    if json:
        print_json([one.to_json() for one in read_results(results_path(settings)).scenarios])
    if ended is Ended.RED:
        raise answer_no()
    if ended is Ended.BROKEN:
        raise Exit("error: the perf tests did not run to their end", code=Code.ERROR)
