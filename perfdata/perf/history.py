"""The history: a line of JSON a run, appended to ``results/history.jsonl`` under PERFDATA_HOME.

A line holds ``format`` ("perfdata-history/1"), ``at`` (UTC), ``commit`` (GITHUB_SHA, or null),
``server_version``, and of each scenario its name, dataset, verdict, queries, rows and the median
of its rounds in seconds (null where nothing was timed). Lines are never changed.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from perfdata.perf.model import ScenarioResult

FORMAT = "perfdata-history/1"


def append_history(results: Sequence[ScenarioResult], path: Path) -> None:
    """Append a run to a history file, which is made where it is not there."""
    if not results:
        return
    line = {
        "format": FORMAT,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": os.environ.get("GITHUB_SHA"),
        "server_version": results[0].settings.get("server_version"),
        "scenarios": [_scenario(result) for result in results],
    }
    # One write in append mode: runs that end together do not mix their lines.
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _scenario(result: ScenarioResult) -> dict[str, Any]:
    return {
        "scenario": result.scenario,
        "dataset": result.dataset,
        "verdict": result.verdict.value,
        "queries": result.queries,
        "rows": result.rows,
        "median_s": result.time and result.time.median_s,
    }
