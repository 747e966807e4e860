"""The page: results and history in, one HTML document out."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from perfdata.errors import ConfigError
from perfdata.perf.history import History, read_history
from perfdata.perf.html.pictures import have_pictures
from perfdata.perf.html.view import FEWEST_RUNS, ScenarioView, number
from perfdata.perf.model import Verdict
from perfdata.perf.results import read_results
from perfdata.perf.terminal import seconds
from perfdata.temporary import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from jinja2 import Environment

    from perfdata.perf.results import Results

# No XML document may hold them, and no browser shows them; the last ones turn the direction.
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff"
    "\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def write_report(
    folder: Path, root: Path, output: Path | None = None
) -> tuple[Path, Results, History]:
    """Write the page of a folder's perf.json and history.jsonl; return it and what it was made of.

    It goes to ``output``, or ``report.html`` beside them; ``root`` is the project's folder.
    Raises ResultsError where the results can't be read, ConfigError where the page can't be
    written.
    """
    results = read_results(folder / "perf.json")
    history = read_history(folder / "history.jsonl")
    path = output or folder / "report.html"
    try:
        write_whole(path, render(results, history, root))
    except OSError as error:
        raise ConfigError(f"the report can't be written to {path}: {error.strerror}") from error
    return path, results, history


def render(results: Results, history: History, root: Path) -> str:
    """Return the page: well-formed, self-contained, every text in it escaped.

    The command that accepts a result is that of the project in ``root``.
    """
    scenarios = [
        ScenarioView(place, result, history.of(result), root)
        for place, result in enumerate(results.scenarios, 1)
    ]
    page = _environment().get_template("report.html.j2")
    text = page.render(
        headline=headline(results),
        created_at=results.created_at,
        scenarios=scenarios,
        failures=results.failures,
        notes=(*results.notes, *history.notes),
        fewest_runs=FEWEST_RUNS,
        have_pictures=have_pictures(),
    )
    return _CONTROL.sub("\ufffd", text)


def headline(results: Results) -> str:
    """Say in a line how many scenarios there are, and what is to be known of them at once."""
    counted = _counted(len(results.scenarios), "scenario")
    red = sum(one.verdict is Verdict.REGRESSED for one in results.scenarios)
    said = [f"{red} of {counted} regressed" if red else f"{counted}, none regressed"]
    if new := sum(one.verdict is Verdict.NO_BASELINE for one in results.scenarios):
        said.append(f"{new} without a baseline")
    if results.failures:
        said.append(f"{_counted(len(results.failures), 'test')} failed")
    return "; ".join(said)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("perfdata.perf", "html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "seconds": seconds}
    return environment
