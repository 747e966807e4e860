"""The results of a run as Markdown, for GitHub's job summary."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from perfdata.perf.gate.advice import failure_lines, notices, warning_lines
from perfdata.perf.model import Verdict, broken_budgets
from perfdata.perf.report.terminal import counted, median_time
from perfdata.text import blank_out, make_printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from perfdata.perf.model import ScenarioResult

_MARKS = {Verdict.OK: "✅", Verdict.IMPROVED: "✅", Verdict.REGRESSED: "❌"}
_WARNING = "⚠️"
_HEAD = """\
| scenario | dataset | queries | rows | buffers | time | verdict |
| :-- | :-- | --: | --: | --: | --: | :-- |"""
# GitHub accepts 1 MiB per step; the most called statements come first.
_LINES_SHOWN = 40
_WIDTH = 140  # columns of a code block that GitHub shows without scrolling


def markdown(
    results: Sequence[ScenarioResult],
    failures: Mapping[str, str],
    notes: Sequence[str],
    root: Path,
) -> str:
    """Return the results as a table, followed by the details of each regressed scenario.

    ``failures`` are other failed tests by name, with their output; ``notes`` describe the data;
    ``root`` is the project's folder.
    """
    regressed = [result for result in results if result.verdict is Verdict.REGRESSED]
    unjudged = sum(result.verdict is Verdict.NOT_JUDGED for result in results)
    parts = [f"## {_headline(len(results), len(regressed), len(failures), unjudged)}"]
    if results:
        parts.append("\n".join([_HEAD, *map(_row, results)]))
    lines = [*notices(results, root), *warning_lines(results)]
    if lines:
        parts.append("\n".join(f"- {_WARNING} {_escape(line)}" for line in lines))
    parts += [_details(result, root) for result in regressed]
    parts += [_folded(f"❌ {test}", output) for test, output in failures.items()]
    if notes:
        parts.append("\n".join(f"- {_escape(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def _headline(scenarios: int, regressed: int, failures: int, unjudged: int) -> str:
    total = f"{scenarios} scenario{'' if scenarios == 1 else 's'}"
    not_judged = [f"{unjudged} not judged"] if unjudged else []
    if not (regressed or failures):
        mark = _WARNING if unjudged else "✅"
        return f"{mark} {', '.join([total, 'none regressed', *not_judged])}"
    parts = [f"{regressed} of {total} regressed"] if regressed else []
    if failures:
        parts.append("a test failed" if failures == 1 else f"{failures} tests failed")
    return f"❌ {', '.join([*parts, *not_judged])}"


def _row(result: ScenarioResult) -> str:
    budgets = {broken.name.removeprefix("max_"): broken for broken in broken_budgets(result)}

    def count(name: str) -> str:
        broken, found = budgets.get(name), counted(result, name)
        return found if broken is None else f"**{found}** (max. {broken.limit:,})"

    cells = (
        _escape(result.scenario),
        _escape(result.dataset),
        count("queries"),
        count("rows"),
        count("buffers"),
        "–" if result.time is None else median_time(result.time),
        f"{_MARKS.get(result.verdict, _WARNING)} {result.verdict.value}",
    )
    return f"| {' | '.join(cells)} |"


def _details(result: ScenarioResult, root: Path) -> str:
    first, *rest = failure_lines(result, root, _WIDTH)
    return _folded(f"❌ {first}", "\n".join(rest), shown=True)


def _folded(title: str, text: str, *, shown: bool = False) -> str:
    lines = make_printable(text).splitlines()
    if (more := len(lines) - _LINES_SHOWN) > 0:
        lines = [*lines[:_LINES_SHOWN], f"… {more} more lines"]
    # The fence is longer than any run of backquotes in the text, which could end it.
    fence = "`" * max(3, 1 + max((_longest_run(line) for line in lines), default=0))
    opened = " open" if shown else ""
    body = "\n".join([fence, *lines, fence])
    # Inside HTML, up to the next empty line, Markdown's characters have no meaning.
    title = html.escape(make_printable(" ".join(title.split())))
    return f"<details{opened}><summary>{title}</summary>\n\n{body}\n\n</details>"


def _longest_run(line: str) -> int:
    longest = run = 0
    for char in line:
        run = run + 1 if char == "`" else 0
        longest = max(longest, run)
    return longest


def _escape(text: str) -> str:
    """Escape a text for a table's cell, a list and HTML."""
    text = blank_out(text).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{char}" if char in "\\`*_[]|" else char for char in text)
