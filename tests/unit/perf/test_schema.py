"""The schemas in docs/schema describe what is written, each field of it, and nothing else."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker, ValidationError

from perfdata import Settings
from perfdata.perf import model
from perfdata.perf.gate import baselines
from perfdata.perf.model import Budgets, FindingKind, PlanSource, Verdict
from perfdata.perf.report import history, results
from tests.welfare_results import COUNTED, RENEWED, RESULTS, SEARCHED

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
SCHEMAS = ROOT / "docs" / "schema"
# Where a document's parts stand, and what they are called in its schema.
PARTS = {
    "results": ("scenarios", "result"),
    "history": ("scenarios", "entry"),
    "baseline": ("statements", "statement"),
}


def schema(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        (SCHEMAS / f"perf-{name}.schema.json").read_text(encoding="utf-8")
    )
    return document


def closed(part: Any) -> Any:
    """Forbid what is not described: a reader has to let it pass, perfdata must not write it."""
    if isinstance(part, list):
        return [closed(one) for one in part]
    if not isinstance(part, dict):
        return part
    inner = {key: closed(one) for key, one in part.items()}
    if "properties" in part and isinstance(part.get("type"), str):
        inner.setdefault("additionalProperties", False)
    return inner


def check(document: object, name: str) -> None:
    Draft202012Validator(closed(schema(name)), format_checker=FormatChecker()).validate(document)


def written_results(folder: Path) -> dict[str, Any]:
    untimed = replace(SEARCHED, memory_bytes=None, budgets=Budgets(max_growth=1.1))
    settings = Settings(root=folder, home=folder / "home")
    path = results.write_results([*RESULTS, untimed], settings, {"test_a": "E   no"}, ["restored"])
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def written_history(folder: Path) -> dict[str, Any]:
    history.append_history(RESULTS, folder / "history.jsonl")
    line: dict[str, Any] = json.loads((folder / "history.jsonl").read_text(encoding="utf-8"))
    return line


def written_baseline(folder: Path) -> dict[str, Any]:
    baselines.write_baseline(folder / "a.json", baselines.Baseline.of(RENEWED))
    document: dict[str, Any] = json.loads((folder / "a.json").read_text(encoding="utf-8"))
    return document


WRITTEN: dict[str, Callable[[Path], dict[str, Any]]] = {
    "results": written_results,
    "history": written_history,
    "baseline": written_baseline,
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_is_as_its_schema_says(name: str, tmp_path: Path) -> None:
    Draft202012Validator.check_schema(schema(name))
    check(WRITTEN[name](tmp_path), name)


@pytest.mark.parametrize("name", WRITTEN)
def test_every_change_of_what_is_written_is_seen(name: str, tmp_path: Path) -> None:
    """No part of a document can go, be of another type, or come in without the schema's leave."""
    document = WRITTEN[name](tmp_path)
    for holder in [document, document[PARTS[name][0]][0]]:
        for key in [one for one in holder if one in _required(name, holder is document)]:
            kept = holder.pop(key)
            with pytest.raises(ValidationError):
                check(document, name)
            holder[key] = object
            with pytest.raises(ValidationError):
                check(document, name)
            holder[key] = kept
        holder["more"] = 1
        with pytest.raises(ValidationError):
            check(document, name)
        Draft202012Validator(schema(name)).validate(document)
        del holder["more"]


def _required(name: str, top: bool) -> list[str]:
    of = schema(name)
    part = of if top else of["$defs"][PARTS[name][1]]
    required: list[str] = part["required"]
    return required


@pytest.mark.parametrize(
    ("name", "part", "of", "made"),
    [
        ("results", "result", model.ScenarioResult, {"verdict", "counters"}),
        ("results", "statement", model.StatementCount, set()),
        ("results", "source", model.Source, set()),
        ("results", "plan", model.QueryPlan, {"fingerprint"}),
        ("results", "misestimate", model.Misestimate, set()),
        ("results", "time", model.TimeStats, set()),
        ("results", "budgets", model.Budgets, set()),
        ("results", "finding", model.Finding, set()),
        ("results", None, results.Results, {"format"}),
        ("history", None, history.Run, {"format"}),
        ("history", "entry", history.Entry, set()),
        ("baseline", None, baselines.Baseline, {"format"}),
        ("baseline", "statement", baselines.AcceptedStatement, set()),
        ("baseline", "plan", baselines.AcceptedPlan, set()),
    ],
)
def test_every_field_is_described(name: str, part: str | None, of: Any, made: set[str]) -> None:
    document = schema(name)["$defs"][part] if part else schema(name)
    described = document["properties"]
    assert set(described) == {one.name for one in fields(of)} | made
    assert all(one.get("description") for one in described.values())


def test_the_names_of_verdicts_findings_and_sources_are_all_there() -> None:
    parts = schema("results")["$defs"]
    result = parts["result"]["properties"]
    assert result["verdict"]["enum"] == [one.value for one in Verdict]
    assert result["plan_source"]["enum"] == [one.value for one in PlanSource]
    assert parts["finding"]["properties"]["kind"]["enum"] == [one.value for one in FindingKind]
    entry = schema("history")["$defs"]["entry"]["properties"]
    assert entry["verdict"]["enum"] == [one.value for one in Verdict]


def test_a_baseline_without_buffers_is_one_too() -> None:
    document = json.loads(baselines.to_text(baselines.Baseline.of(COUNTED)))
    assert document["statements"][0]["buffers"] is None
    check(document, "baseline")


def test_the_committed_baselines_are_as_their_schema_says() -> None:
    for path in (ROOT / "tests" / "perf" / "baselines").rglob("*.json"):
        check(json.loads(path.read_text(encoding="utf-8")), "baseline")


def test_a_line_of_before_buffers_were_kept_is_still_one() -> None:
    entry = {"scenario": "a", "dataset": "b", "verdict": "ok", "queries": 1, "rows": 1}
    line = {
        "format": history.FORMAT,
        "at": "2026-01-01T00:00:00+00:00",
        "commit": None,
        "server_version": "18.6",
        "scenarios": [{**entry, "median_s": None}],
    }
    check(line, "history")
