"""The history of runs: one line of JSON each in ``results/history.jsonl`` under PERFDATA_HOME.

The fields are ``format`` ("perfdata-history/1"), ``at`` (UTC), ``commit`` (GITHUB_SHA, or null),
``server_version`` and ``scenarios``: name, dataset, verdict, counters, median of the rounds in
seconds, peak memory and environment, null where something was not measured. Lines are only ever
appended; older ones may lack fields. docs/schema/perf-history.schema.json is the schema.
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
_SHOWN_FORMAT = 40  # characters of an unknown format's name


@dataclass(frozen=True)
class Entry:
    """One scenario of a run; None means not measured."""

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
        """Return the entry of a result."""
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
_NUMBERS = {each.name for each in fields(Entry)} - {*_TEXTS, "environment"}
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
        """Return the run as JSON data."""
        at = self.at.isoformat(timespec="seconds")
        return {"format": FORMAT, **asdict(self), "at": at}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Run:
        """Read JSON data; fields that a newer perfdata added are ignored."""
        commit, version = document["commit"], document["server_version"]
        if not all(text is None or isinstance(text, str) for text in (commit, version)):
            raise TypeError("commit and server_version must be text or null")
        return cls(
            at=datetime.fromisoformat(document["at"]).astimezone(UTC),
            commit=commit,
            server_version=version,
            scenarios=tuple(map(_entry, document["scenarios"])),
        )


@dataclass(frozen=True)
class RunHistory:
    """The readable runs, oldest first, and notes on the lines that were ignored."""

    runs: tuple[Run, ...] = ()
    notes: tuple[str, ...] = ()

    def of(self, result: ScenarioResult) -> list[tuple[Run, Entry]]:
        """Return a scenario's runs on the same dataset, in the same or an unknown environment."""
        key = (result.scenario, result.dataset)
        return [
            (run, entry)
            for run in self.runs
            for entry in run.scenarios
            if (entry.scenario, entry.dataset) == key
            and (entry.environment == result.environment or not entry.environment)
        ]


def append_history(results: Sequence[ScenarioResult], path: Path) -> None:
    """Append a run to a history file, which is created if it does not exist."""
    if not results:
        return
    run = Run(
        at=datetime.now(UTC),
        commit=os.environ.get("GITHUB_SHA"),
        server_version=results[0].settings.get("server_version"),
        scenarios=tuple(map(Entry.of, results)),
    )
    line = json.dumps(run.to_json(), ensure_ascii=False).encode() + b"\n"
    # A single write in append mode keeps the lines of concurrent runs apart. An incomplete last
    # line, left by a killed run or a full disk, is ended first, so that only that line is lost.
    with path.open("a+b", buffering=0) as file:
        if size := file.seek(0, os.SEEK_END):
            file.seek(size - 1)
        file.write((b"" if not size or file.read(1) == b"\n" else b"\n") + line)


def read_history(path: Path) -> RunHistory:
    """Read a history file. Unreadable lines are noted, a missing file is an empty history."""
    if not path.exists():
        return RunHistory()
    runs, ignored = [], Counter[str]()
    for line in path.read_bytes().splitlines():
        read = _run(line) if line.strip() else None
        if isinstance(read, Run):
            runs.append(read)
        elif read is not None:
            ignored[read] += 1
    notes = (_note(path.name, why, count) for why, count in ignored.items())
    return RunHistory(tuple(sorted(runs, key=lambda run: run.at)), tuple(notes))


def _run(line: bytes) -> Run | str:
    """Read a line; for an unreadable one return its format, or ``damaged``."""
    try:
        document = json.loads(line)
        if document["format"] != FORMAT:
            return str(document["format"])[:_SHOWN_FORMAT]
        return Run.from_json(document)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return _DAMAGED


def _entry(document: Mapping[str, Any]) -> Entry:
    names = [each.name for each in fields(Entry)]
    known = {name: document[name] for name in names if name in document}
    for name in _NUMBERS & known.keys():
        if not _is_number(known[name]) and (known[name] is not None or name in _ALWAYS):
            raise TypeError(f"{name} is not a number")
    for name in _TEXTS:
        if not isinstance(known[name], str):
            raise TypeError(f"{name} is not text")
    return Entry(**known)


def _is_number(value: object) -> bool:
    # A larger number is not a count, and could not be drawn.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _MOST


def _note(name: str, why: str, count: int) -> str:
    lines = "line" if count == 1 else "lines"
    if why == _DAMAGED:
        return f"{name}: {count} damaged {lines} ignored"
    return f"{name}: {count} {lines} of format {why!r} ignored; this perfdata reads {FORMAT!r}"
