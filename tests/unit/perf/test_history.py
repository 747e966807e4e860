"""The history of runs: what a line keeps, who may append, and what no line can break."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from perfdata.perf.model import PlanSource, QueryPlan, ScenarioResult, StatementCount, TimeStats
from perfdata.perf.report.history import FORMAT, Entry, append_history, read_history

if TYPE_CHECKING:
    from pathlib import Path

PLAN = QueryPlan(("Sort", "  Seq Scan on t"), calls=1, buffers=40, temp_blocks=3, wal_records=2)
RESULT = ScenarioResult(
    scenario="report",
    test="test_it",
    dataset="100_offices",
    statements=(StatementCount("f", "SELECT a FROM t", 2, 10, plans=(PLAN,)),),
    time=TimeStats(0.5, 0.4, 2, (0.4, 0.6)),
    settings={"server_version": "18.6"},
    environment={"postgresql": "18"},
    plan_source=PlanSource.AUTO_EXPLAIN,
    memory_bytes=4_096,
)
ENTRY = Entry(
    *("report", "100_offices", "no_baseline", 2, 10, 40, 3, 2, 0.5, 4_096),
    environment={"postgresql": "18"},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.jsonl"


def test_a_run_is_read_as_it_was_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_SHA", "c0ffee")
    append_history([RESULT], path)
    append_history([], path)
    history = read_history(path)
    (run,) = history.runs
    assert (run.commit, run.server_version, run.scenarios) == ("c0ffee", "18.6", (ENTRY,))
    assert history.notes == ()


def test_what_was_not_measured_is_null(path: Path) -> None:
    append_history([replace(RESULT, time=None, plan_source=PlanSource.NONE)], path)
    (written,) = json.loads(path.read_text("utf-8"))["scenarios"]
    assert [written[name] for name in ("buffers", "temp_blocks", "median_s")] == [None] * 3


def test_a_line_of_before_buffers_were_kept_can_be_read(path: Path) -> None:
    old = {
        "format": FORMAT,
        "at": "2026-01-01T00:00:00+00:00",
        "commit": None,
        "server_version": "18.6",
        "scenarios": [
            {"scenario": "report", "dataset": "100_offices", "verdict": "ok", "queries": 2}
            | {"rows": 10, "median_s": None}
        ],
    }
    path.write_text(json.dumps(old) + "\n")
    append_history([RESULT], path)
    old_run, run = (entry for _, entry in read_history(path).of(RESULT))
    assert (old_run.rows, old_run.buffers, old_run.environment) == (10, None, {})
    assert run == ENTRY


def test_damaged_lines_and_other_formats_are_told_and_left_out(path: Path) -> None:
    append_history([RESULT], path)
    line = path.read_bytes()
    others = [
        b"\xff\xfe\n",
        b"[]\n",
        b"{}\n",
        line[:40] + b"\n",
        line.replace(b'"queries": 2', b'"queries": "2"'),
        line.replace(b'"queries": 2', b'"queries": null'),
        line.replace(b'"queries": 2', b'"queries": NaN'),
        line.replace(b'"queries": 2', b'"queries": true'),
        line.replace(b'"queries": 2', b'"queries": 1' + b"0" * 400),
        line.replace(b'"commit": ', b'"commit": 7, "was": '),
        line.replace(b"history/1", b"history/2"),
        line.replace(b"history/1", b"history/2"),
        b"[" * 200_000 + b"\n",
        b"\n",
    ]
    path.write_bytes(b"".join([*others, line]))
    history = read_history(path)
    assert len(history.runs) == 1
    assert history.notes == (
        "history.jsonl: 11 damaged lines ignored",
        "history.jsonl: 2 lines of format 'perfdata-history/2' ignored; "
        "this perfdata reads 'perfdata-history/1'",
    )


def test_half_a_line_costs_no_other(path: Path) -> None:
    append_history([RESULT], path)
    path.write_bytes(path.read_bytes() + b'{"format": "perfda')
    append_history([RESULT], path)
    history = read_history(path)
    assert len(history.runs) == 2
    assert history.notes == ("history.jsonl: 1 damaged line ignored",)


def test_other_scenarios_datasets_and_environments_are_no_runs_of_a_result(path: Path) -> None:
    others = [
        replace(RESULT, scenario="other"),
        replace(RESULT, dataset="10_offices"),
        replace(RESULT, environment={"postgresql": "15"}),
    ]
    append_history([*others, RESULT], path)
    assert [entry for _, entry in read_history(path).of(RESULT)] == [ENTRY]


def test_a_history_that_is_not_there_is_empty(path: Path) -> None:
    assert read_history(path).runs == ()


def _append_often(path: Path) -> None:
    many = [replace(RESULT, scenario=f"scenario_{number}") for number in range(100)]
    for _ in range(10):
        append_history(many, path)


def test_runs_that_end_together_do_not_mix_their_lines(path: Path) -> None:
    """Lines of 25 kB: more than what Python writes at once through a buffer."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_often, args=(path,)) for _ in range(3)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert [one.exitcode for one in writers] == [0] * 3
    history = read_history(path)
    assert (len(history.runs), history.notes) == (30, ())
