"""Baselines: the accepted counts of a scenario on a dataset, one small file each in git.

The files are in ``baselines/ENVIRONMENT/SCENARIO.DATASET.json`` beside the tests. The fields are
``format`` ("perfdata-baseline/1"), ``scenario``, ``dataset``, ``environment`` and ``settings`` of
the measured session, ``data`` (see ScenarioResult; missing in older files), ``plan_source``,
``counters`` and ``statements``. A statement has ``fingerprint``, ``text`` (normalised), ``calls``,
``rows``, ``buffers``, ``temp_blocks`` (null if they could not be judged) and ``plans``: the lines
of each signature, with ``query`` if a function or trigger ran it. Keys and statements are sorted;
there are no dates, times or values, so that equal counts of equal data give equal files.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from perfdata.errors import BaselineError, ConfigError
from perfdata.perf.model import PlanSource
from perfdata.temporary import write_whole

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from perfdata.perf.model import ScenarioResult, StatementCount

FORMAT = "perfdata-baseline/1"
_FOLDER = "baselines"
_REMEDY = "restore it from git, or remove it and accept the scenario again"
# Counted, but not accepted: it varies with hint bits and full-page images.
_NOT_KEPT = {"wal_records"}
# The embedded server's values, which an environment's name omits.
_USUAL_COLLATION = ("builtin", "C.UTF-8")
_USUAL_BLOCK = 8192
_LONGEST_NAME = 60  # characters of up to three bytes: file systems take 255 bytes


@dataclass(frozen=True, order=True)
class AcceptedPlan:
    """A plan's signature; ``query`` is empty for the statement's own."""

    query: str
    signature: tuple[str, ...]


@dataclass(frozen=True)
class AcceptedStatement:
    """The accepted counts of a statement; blocks are None if they could not be judged."""

    text: str
    fingerprint: str
    calls: int
    rows: int
    buffers: int | None = None
    temp_blocks: int | None = None
    plans: tuple[AcceptedPlan, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The accepted counts of a scenario on a dataset, in one environment."""

    scenario: str
    dataset: str
    statements: tuple[AcceptedStatement, ...]
    counters: Mapping[str, int]
    plan_source: PlanSource = PlanSource.NONE
    environment: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, result: ScenarioResult) -> Baseline:
        """Return the baseline that accepting a result makes."""
        judged = result.same_layout and result.plan_source is not PlanSource.NONE
        kept = {"queries", "rows"} if not judged else set(result.counters) - _NOT_KEPT
        return cls(
            scenario=result.scenario,
            dataset=result.dataset,
            statements=_sorted(_accepted(sent, judged=judged) for sent in result.statements),
            counters={name: count for name, count in result.counters.items() if name in kept},
            plan_source=result.plan_source if judged else PlanSource.NONE,
            environment=dict(result.environment),
            settings=dict(result.settings),
            data=dict(result.data),
        )


def baseline_path(
    folder: Path, environment: Mapping[str, str], scenario: str, dataset: str
) -> Path:
    """Return the path of a baseline of the tests in ``folder``; it may not exist."""
    name = f"{_file_name(scenario)}.{_file_name(dataset)}.json"
    return folder / _FOLDER / environment_name(environment) / name


def environment_name(environment: Mapping[str, str]) -> str:
    """Return an environment's folder: ``pg18``, ``pg15-libc-en_US.UTF-8``, ``pg18-16k``.

    ``environment`` is SessionFacts.environment: ``postgresql`` (the major version), ``provider``
    (builtin, icu, libc), ``locale`` and ``block_size`` (bytes).
    """
    parts = [f"pg{environment['postgresql']}"]
    collation = (environment["provider"], environment["locale"])
    if collation != _USUAL_COLLATION:
        parts += collation
    if (block := int(environment["block_size"])) != _USUAL_BLOCK:
        parts.append(f"{block // 1024}k")
    return "-".join(re.sub(r"[^\w.@-]+", "_", part) for part in parts)


def shared_baseline(result: ScenarioResult, tests: Sequence[str]) -> ConfigError:
    """Return an error for tests that would share a baseline."""
    return ConfigError(
        f"{' and '.join(tests)} measure {result.scenario} on {result.dataset}, and would share a "
        "baseline",
        remedy='Give each but one a name of its own: @pytest.mark.perf(name="…")',
    )


def read_baseline(path: Path, scenario: str, dataset: str) -> Baseline | None:
    """Read a baseline; None if the file does not exist.

    Raises BaselineError for a file that is damaged, of another format or of another scenario.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BaselineError(f"{path} can't be read: {error}") from error
    found = _parsed(text, path)
    if (found.scenario, found.dataset) != (scenario, dataset):
        raise BaselineError(
            f"{path} is the baseline of {found.scenario} on {found.dataset}, not of {scenario} on "
            f"{dataset}: {_REMEDY}"
        )
    return found


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline atomically, and create its folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, to_text(baseline))
    except OSError as error:
        raise BaselineError(f"{path} can't be written: {error.strerror}") from error


def to_text(baseline: Baseline) -> str:
    """Return a baseline as the text of its file: equal counts give equal text."""
    document = {**asdict(baseline), "format": FORMAT, "plan_source": baseline.plan_source.value}
    for statement in document["statements"]:
        statement["plans"] = [_plan_document(**plan) for plan in statement["plans"]]
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _plan_document(query: str, signature: Iterable[str]) -> dict[str, Any]:
    return {**({"query": query} if query else {}), "signature": list(signature)}


def _parsed(text: str, path: Path) -> Baseline:
    if "\n<<<<<<< " in f"\n{text}":
        raise BaselineError(f"{path} contains a merge conflict: {_REMEDY}")
    try:
        document = json.loads(text)
        if document["format"] == FORMAT:
            return _baseline(document)
        found = str(document["format"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BaselineError(f"{path} is damaged ({error!r}): {_REMEDY}") from error
    raise BaselineError(
        f"{path} has the format {found!r}, but this perfdata reads {FORMAT!r}: a newer "
        "perfdata, or another program, wrote it"
    )


def _baseline(document: Mapping[str, Any]) -> Baseline:
    return Baseline(
        scenario=document["scenario"],
        dataset=document["dataset"],
        statements=_sorted(map(_statement, document["statements"])),
        counters={name: int(count) for name, count in document["counters"].items()},
        plan_source=PlanSource(document["plan_source"]),
        environment=dict(document["environment"]),
        settings=dict(document["settings"]),
        data=dict(document.get("data", {})),
    )


def _statement(document: Mapping[str, Any]) -> AcceptedStatement:
    counts = {name: document[name] for name in ("buffers", "temp_blocks")}
    return AcceptedStatement(
        text=document["text"],
        fingerprint=document["fingerprint"],
        calls=int(document["calls"]),
        rows=int(document["rows"]),
        plans=tuple(
            AcceptedPlan(plan.get("query", ""), tuple(plan["signature"]))
            for plan in document["plans"]
        ),
        **{name: None if count is None else int(count) for name, count in counts.items()},
    )


def _accepted(statement: StatementCount, *, judged: bool) -> AcceptedStatement:
    plans = {AcceptedPlan(plan.query, plan.signature) for plan in statement.plans}
    return AcceptedStatement(
        text=statement.text,
        fingerprint=statement.fingerprint,
        calls=statement.calls,
        rows=statement.rows,
        buffers=statement.buffers if judged else None,
        temp_blocks=statement.temp_blocks if judged else None,
        plans=tuple(sorted(plans)) if judged else (),
    )


def _sorted(statements: Iterable[AcceptedStatement]) -> tuple[AcceptedStatement, ...]:
    return tuple(sorted(statements, key=lambda accepted: (accepted.text, accepted.fingerprint)))


def _file_name(name: str) -> str:
    """Return a name that every file system accepts; a changed name gets a hash appended."""
    safe = re.sub(r"[^\w.-]+", "_", name)[:_LONGEST_NAME]
    if safe == name:
        return name
    return f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def orphaned_baselines(
    results: Iterable[ScenarioResult],
    root: Path,
    folders: Collection[Path],
    unsure: Collection[Path] = (),
) -> Iterator[str]:
    """Yield the paths of baselines beside the tests of ``folders`` that no result uses.

    Only environments that were measured are searched, and no ``unsure`` folder, in which some
    tests did not run to completion.
    """
    kept = {(root / result.baseline).resolve() for result in results if result.baseline}
    for place in sorted({path.parent for path in kept}):
        tests = place.parent.parent
        if tests not in unsure and any(tests.is_relative_to(folder) for folder in folders):
            for path in sorted(set(place.glob("*.json")) - kept):
                inside = path.is_relative_to(root.resolve())
                yield (path.relative_to(root.resolve()) if inside else path).as_posix()
