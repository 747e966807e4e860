"""The results of a run as JSON: ``results/perf.json`` under PERFDATA_HOME.

The fields are ``format`` ("perfdata-results/2"), ``created_at`` (UTC), ``scenarios`` (the fields
of each ScenarioResult, enums by value, with ``verdict`` and ``counters``), ``failures`` (other
failed tests with their output) and ``notes``. The number in ``format`` changes when a field's
meaning does; new fields keep it. docs/schema/perf-results.schema.json is the schema.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from perfdata.errors import ResultsError
from perfdata.perf.model import (
    Budgets,
    Finding,
    FindingKind,
    Misestimate,
    PlanSource,
    QueryPlan,
    ScenarioResult,
    Source,
    StatementCount,
    TimeStats,
)
from perfdata.temporary import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from perfdata.config import Settings

FORMAT = "perfdata-results/2"
_REMEDY = "run the perf tests (nox -s perf)"


def write_results(
    results: Iterable[ScenarioResult],
    settings: Settings,
    failures: Mapping[str, str] | None = None,
    notes: Iterable[str] = (),
) -> Path:
    """Write a run's results atomically as JSON, and return the file's path.

    ``failures`` are other failed tests by name, with their output; ``notes`` describe the data.
    """
    document = {
        "format": FORMAT,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "scenarios": [result_to_json(result) for result in results],
        "failures": dict(failures or {}),
        "notes": list(notes),
    }
    settings.make_home()
    path = results_path(settings)
    path.parent.mkdir(exist_ok=True)
    write_whole(path, json.dumps(document, ensure_ascii=False, indent=2) + "\n")
    return path


def results_path(settings: Settings) -> Path:
    """Return the path of the last run's results."""
    return settings.home / "results" / "perf.json"


@dataclass(frozen=True)
class Results:
    """The contents of a results file; ``created_at`` is when the run ended."""

    created_at: datetime
    scenarios: tuple[ScenarioResult, ...]
    failures: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_results(path: Path) -> Results:
    """Read a results file; raise ResultsError if it is missing, damaged or of another format."""
    try:
        document = json.loads(path.read_bytes())
        if document["format"] != FORMAT:
            raise ResultsError(
                f"{path} has the format {document['format']!r}, but this perfdata reads "
                f"{FORMAT!r}: {_REMEDY}"
            )
        return Results(
            datetime.fromisoformat(document["created_at"]),
            tuple(map(result_from_json, document["scenarios"])),
            dict(document.get("failures", {})),
            tuple(document.get("notes", ())),
        )
    except FileNotFoundError:
        raise ResultsError(f"there is no {path} yet: {_REMEDY}") from None
    except OSError as error:
        raise ResultsError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ResultsError(f"{path} is damaged ({error!r}): {_REMEDY}") from error


def result_to_json(result: ScenarioResult) -> dict[str, Any]:
    """Convert a result to JSON data: enums become their values, tuples lists."""
    document = _plain(asdict(result))
    counts = {"verdict": result.verdict.value, "counters": result.counters}
    order = ("scenario", "test", "dataset", "verdict", "counters")
    document = {**document, **counts}
    for kept, statement in zip(document["statements"], result.statements, strict=True):
        for plan, given in zip(kept["plans"], statement.plans, strict=True):
            plan["fingerprint"] = given.fingerprint
    rest = [each.name for each in fields(result) if each.name not in order]
    return {key: document[key] for key in (*order, *rest)}


def result_from_json(document: Mapping[str, Any]) -> ScenarioResult:
    """Convert JSON data to a result; fields that a newer perfdata added are ignored."""
    return ScenarioResult(
        scenario=document["scenario"],
        test=document["test"],
        dataset=document["dataset"],
        statements=tuple(map(_statement, document["statements"])),
        time=_known(TimeStats, document["time"]) if document["time"] else None,
        budgets=_known(Budgets, document["budgets"]),
        settings=dict(document["settings"]),
        environment=dict(document["environment"]),
        data=dict(document.get("data", {})),
        plan_source=PlanSource(document["plan_source"]),
        same_layout=document.get("same_layout", True),
        not_captured=tuple(document["not_captured"]),
        incomplete_counters=tuple(document.get("incomplete_counters", ())),
        memory_bytes=document["memory_bytes"],
        growth=dict(document["growth"]),
        baseline=document["baseline"],
        accepted=document["accepted"],
        accepted_counters=dict(document["accepted_counters"]),
        findings=tuple(map(_finding, document["findings"])),
    )


def _plain(value: Any) -> Any:
    """Convert enums to their values and tuples to lists, recursively."""
    if isinstance(value, dict):
        return {key: _plain(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(child) for child in value]
    return value.value if isinstance(value, Enum) else value


def _known(of: Any, document: Mapping[str, Any], **given: Any) -> Any:
    """Make a dataclass from the fields that it has; lists become tuples."""
    known = {key: document[key] for key in of.__dataclass_fields__ if key in document}
    plain = {
        key: tuple(value) if isinstance(value, list) else value for key, value in known.items()
    }
    return of(**{**plain, **given})


def _statement(document: Mapping[str, Any]) -> StatementCount:
    parts = {"sources": Source, "plans": QueryPlan, "misestimates": Misestimate}
    given = {
        name: tuple(_known(kind, part) for part in document[name]) for name, kind in parts.items()
    }
    made: StatementCount = _known(StatementCount, document, **given)
    return made


def _finding(document: Mapping[str, Any]) -> Finding:
    made: Finding = _known(Finding, document, kind=FindingKind(document["kind"]))
    return made
