"""The files of a run's results.

The file, ``results/perf.json`` under PERFDATA_HOME, holds ``format`` ("perfdata-results/2"),
``created_at`` (UTC), ``scenarios``: of each ScenarioResult its fields, enums by their values, with
``verdict`` and ``counters``; ``failures``: what other tests that failed said; and ``notes``. A new
meaning of a field gets another number after the slash; fields may be added under the same.
docs/schema/perf-results.schema.json describes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from perfdata.errors import ResultsError
from perfdata.perf.model import ScenarioResult
from perfdata.temporary import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from perfdata.config import Settings

FORMAT = "perfdata-results/2"
_AGAIN = "run the perf tests (nox -s perf)"


def write_results(
    results: Iterable[ScenarioResult],
    settings: Settings,
    failures: Mapping[str, str] | None = None,
    notes: Iterable[str] = (),
) -> Path:
    """Write a run's results as JSON in one step, and return the file.

    ``failures`` are the tests that failed otherwise, by name, with what they said; ``notes`` say
    where the data came from.
    """
    document = {
        "format": FORMAT,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "scenarios": [result.to_json() for result in results],
        "failures": dict(failures or {}),
        "notes": list(notes),
    }
    settings.make_home()
    path = results_path(settings)
    path.parent.mkdir(exist_ok=True)
    write_whole(path, json.dumps(document, ensure_ascii=False, indent=2) + "\n")
    return path


def results_path(settings: Settings) -> Path:
    """Return where the results of the last run are."""
    return settings.home / "results" / "perf.json"


@dataclass(frozen=True)
class Results:
    """What a results file holds: when the run ended, its scenarios in their order, what failed."""

    created_at: datetime
    scenarios: tuple[ScenarioResult, ...]
    failures: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_results(path: Path) -> Results:
    """Read a results file.

    Raises ResultsError where there is none, and for one that is damaged or of another format.
    """
    try:
        document = json.loads(path.read_bytes())
        if document["format"] != FORMAT:
            raise ResultsError(
                f"{path} is of the format {document['format']!r}, and this perfdata reads "
                f"{FORMAT!r}: {_AGAIN}"
            )
        return Results(
            datetime.fromisoformat(document["created_at"]),
            tuple(map(ScenarioResult.from_json, document["scenarios"])),
            dict(document.get("failures", {})),
            tuple(document.get("notes", ())),
        )
    except FileNotFoundError:
        raise ResultsError(f"there is no {path} yet: {_AGAIN}") from None
    except OSError as error:
        raise ResultsError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ResultsError(f"{path} is damaged ({error!r}): {_AGAIN}") from error
