"""A run's results as Markdown: what GitHub shows as the summary of a job."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from perfdata.perf.gate.advice import failure_lines, notices, warnings
from perfdata.perf.model import Verdict, broken_budgets
from perfdata.perf.report.terminal import counted, seconds
from perfdata.text import blank_out, make_printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from perfdata.perf.model import ScenarioResult

_MARKS = {Verdict.OK: "✅", Verdict.IMPROVED: "✅", Verdict.REGRESSED: "❌"}
_UNDECIDED = "⚠️"
_HEAD = """\
| scenario | dataset | queries | rows | buffers | time | verdict |
| :-- | :-- | --: | --: | --: | --: | :-- |"""
# GitHub takes 1 MiB a step; statements come most called first.
_LINES_SHOWN = 40
_WIDTH = 140  # columns of a code block that GitHub shows without scrolling


def markdown(
    results: Sequence[ScenarioResult],
    failures: Mapping[str, str],
    notes: Sequence[str],
    root: Path,
) -> str:
    """Write the results as a table, with what each red scenario did below it.

    ``failures`` are the tests that failed otherwise, by name, with what they said; ``notes`` say
    where the data came from; ``root`` is the project's.
    """
    red = [one for one in results if one.verdict is Verdict.REGRESSED]
    parts = [f"## {_headline(len(results), len(red), len(failures))}"]
    if results:
        parts.append("\n".join([_HEAD, *map(_row, results)]))
    told = [*notices(results, root), *warnings(results)]
    if told:
        parts.append("\n".join(f"- {_UNDECIDED} {_escape(one)}" for one in told))
    parts += [_details(one, root) for one in red]
    parts += [_folded(f"❌ {test}", said) for test, said in failures.items()]
    if notes:
        parts.append("\n".join(f"- {_escape(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def _headline(scenarios: int, red: int, failures: int) -> str:
    counted = f"{scenarios} scenario{'' if scenarios == 1 else 's'}"
    if not (red or failures):
        return f"✅ {counted}, none regressed"
    said = [f"{red} of {counted} regressed"] if red else []
    if failures:
        said.append("a test failed" if failures == 1 else f"{failures} tests failed")
    return f"❌ {', '.join(said)}"


def _row(result: ScenarioResult) -> str:
    budgets = {one.name.removeprefix("max_"): one for one in broken_budgets(result)}

    def count(name: str) -> str:
        broken, found = budgets.get(name), counted(result, name)
        return found if broken is None else f"**{found}** (max. {broken.limit:,})"

    cells = (
        _escape(result.scenario),
        _escape(result.dataset),
        count("queries"),
        count("rows"),
        count("buffers"),
        "–" if result.time is None else seconds(result.time.median_s),
        f"{_MARKS.get(result.verdict, _UNDECIDED)} {result.verdict.value}",
    )
    return f"| {' | '.join(cells)} |"


def _details(result: ScenarioResult, root: Path) -> str:
    first, *rest = failure_lines(result, root, _WIDTH)
    return _folded(f"❌ {first}", "\n".join(rest), shown=True)


def _folded(title: str, text: str, *, shown: bool = False) -> str:
    lines = make_printable(text).splitlines()
    if (more := len(lines) - _LINES_SHOWN) > 0:
        lines = [*lines[:_LINES_SHOWN], f"… {more} more lines"]
    # A fence is ended by as many backquotes: one longer than any in the text is not.
    fence = "`" * max(3, 1 + max((_longest_run(line) for line in lines), default=0))
    opened = " open" if shown else ""
    body = "\n".join([fence, *lines, fence])
    # In HTML up to the next empty line: Markdown's own signs mean nothing there.
    title = html.escape(make_printable(" ".join(title.split())))
    return f"<details{opened}><summary>{title}</summary>\n\n{body}\n\n</details>"


def _longest_run(line: str) -> int:
    longest = run = 0
    for char in line:
        run = run + 1 if char == "`" else 0
        longest = max(longest, run)
    return longest


def _escape(text: str) -> str:
    """Make a text mean itself in a table's cell, in a list and in HTML."""
    text = blank_out(text).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{char}" if char in "\\`*_[]|" else char for char in text)
