"""The history: a line of JSON a run, appended to ``results/history.jsonl`` under PERFDATA_HOME.

A line holds ``format`` ("perfdata-history/1"), ``at`` (UTC), ``commit`` (GITHUB_SHA, or null),
``server_version``, and of each scenario its name, dataset, verdict, counters, the median of its
rounds in seconds, its peak memory and the environment that it was measured in; null where
something was not measured. Lines are never changed; what older ones do not have is not known.
docs/schema/perf-history.schema.json describes it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from perfdata.perf.model import ScenarioResult

FORMAT = "perfdata-history/1"
_DAMAGED = "damaged"
_SHOWN_FORMAT = 40  # characters of what may be anything


@dataclass(frozen=True)
class Entry:
    """What a line of the history keeps of one scenario; None is what was not measured."""

    scenario: str
    dataset: str
    verdict: str
    queries: int
    rows: int
    buffers: int | None = None
    temp_blocks: int | None = None
    wal_records: int | None = None
    median_s: float | None = None
    memory_bytes: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, result: ScenarioResult) -> Entry:
        """Take what is kept from a result."""
        return cls(
            scenario=result.scenario,
            dataset=result.dataset,
            verdict=result.verdict.value,
            queries=result.queries,
            rows=result.rows,
            buffers=result.buffers,
            temp_blocks=result.temp_blocks,
            wal_records=result.wal_records,
            median_s=result.time.median_s if result.time else None,
            memory_bytes=result.memory_bytes,
            environment=dict(result.environment),
        )


_TEXTS = ("scenario", "dataset", "verdict")
_NUMBERS = {one.name for one in fields(Entry)} - {*_TEXTS, "environment"}
_ALWAYS = {"queries", "rows"}
_MOST = 1e18


@dataclass(frozen=True)
class Run:
    """A line of the history."""

    at: datetime
    commit: str | None
    server_version: str | None
    scenarios: tuple[Entry, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the run as its line holds it."""
        at = self.at.isoformat(timespec="seconds")
        return {"format": FORMAT, **asdict(self), "at": at}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Run:
        """Read a run back; fields that a newer perfdata added are left out."""
        commit, version = document["commit"], document["server_version"]
        if not all(one is None or isinstance(one, str) for one in (commit, version)):
            raise TypeError("commit and server_version are text, or null")
        return cls(
            at=datetime.fromisoformat(document["at"]).astimezone(UTC),
            commit=commit,
            server_version=version,
            scenarios=tuple(map(_entry, document["scenarios"])),
        )


@dataclass(frozen=True)
class RunHistory:
    """The runs that could be read, oldest first, and a line for what was left out."""

    runs: tuple[Run, ...] = ()
    notes: tuple[str, ...] = ()

    def of(self, result: ScenarioResult) -> list[tuple[Run, Entry]]:
        """Return a scenario's runs on the same dataset, in an environment not known as another."""
        key = (result.scenario, result.dataset)
        found = ((run, one) for run in self.runs for one in run.scenarios)
        return [
            (run, one)
            for run, one in found
            if (one.scenario, one.dataset) == key
            and (one.environment == result.environment or not one.environment)
        ]


def append_history(results: Sequence[ScenarioResult], path: Path) -> None:
    """Append a run to a history file, which is made where it is not there."""
    if not results:
        return
    run = Run(
        at=datetime.now(UTC),
        commit=os.environ.get("GITHUB_SHA"),
        server_version=results[0].settings.get("server_version"),
        scenarios=tuple(map(Entry.of, results)),
    )
    line = json.dumps(run.to_json(), ensure_ascii=False).encode() + b"\n"
    # One write in append mode: the lines of runs that end together do not mix. What a killed run
    # or a full disk left of a line is ended first, so that it costs no line but its own.
    with path.open("a+b", buffering=0) as file:
        if size := file.seek(0, os.SEEK_END):
            file.seek(size - 1)
        file.write((b"" if not size or file.read(1) == b"\n" else b"\n") + line)


def read_history(path: Path) -> RunHistory:
    """Read a history file, of which no line is worth an error; one that is not there is empty."""
    if not path.exists():
        return RunHistory()
    runs, left_out = [], Counter[str]()
    for line in path.read_bytes().splitlines():
        read = _run(line) if line.strip() else None
        if isinstance(read, Run):
            runs.append(read)
        elif read is not None:
            left_out[read] += 1
    notes = (_note(path.name, why, count) for why, count in left_out.items())
    return RunHistory(tuple(sorted(runs, key=lambda run: run.at)), tuple(notes))


def _run(line: bytes) -> Run | str:
    """Read a line; what can't be read is told by its format, or as damaged."""
    try:
        document = json.loads(line)
        if document["format"] != FORMAT:
            return str(document["format"])[:_SHOWN_FORMAT]
        return Run.from_json(document)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return _DAMAGED


def _entry(document: Mapping[str, Any]) -> Entry:
    known = {one.name: document[one.name] for one in fields(Entry) if one.name in document}
    for name in _NUMBERS & known.keys():
        if not _is_number(known[name]) and (known[name] is not None or name in _ALWAYS):
            raise TypeError(f"{name} is no number")
    for name in _TEXTS:
        if not isinstance(known[name], str):
            raise TypeError(f"{name} is no text")
    return Entry(**known)


def _is_number(value: object) -> bool:
    # What is larger than a float can hold is no count, and could not be drawn.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _MOST


def _note(name: str, why: str, count: int) -> str:
    what = "1 line" if count == 1 else f"{count} lines"
    verb = "is" if count == 1 else "are"
    if why == _DAMAGED:
        return f"{name}: {what} {verb} damaged and left out"
    return (
        f"{name}: {what} {verb} of the format {why!r} and left out; this perfdata reads {FORMAT!r}"
    )
