"""Workflow files, read strictly: a key that the rehearsal does not know is Unsupported."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from tests.rehearsal.expressions import Unsupported

if TYPE_CHECKING:
    from pathlib import Path

_WORKFLOW = {"name", "on", "permissions", "concurrency", "env", "jobs"}
_JOB = {
    "name", "needs", "if", "runs-on", "timeout-minutes", "permissions", "outputs", "strategy",
    "services", "steps",
}  # fmt: skip
_STEP = {"name", "id", "if", "env", "run", "shell", "uses", "with", "timeout-minutes"}
_SERVICE = {"image", "env", "ports", "options"}


@dataclass(frozen=True)
class Step:
    """One step: a script (``run``), or an action (``uses``) with its inputs."""

    name: str
    id: str | None
    condition: str | None
    env: dict[str, str]
    run: str | None
    shell: str | None
    uses: str | None
    inputs: dict[str, str]
    timeout_s: float | None


@dataclass(frozen=True)
class Job:
    """One job, with the legs of its matrix (one empty leg where it has none)."""

    id: str
    needs: list[str]
    condition: str | None
    timeout_s: float
    permissions: dict[str, str]
    outputs: dict[str, str]
    legs: list[dict[str, str]]
    services: dict[str, dict[str, Any]]
    steps: list[Step]


@dataclass(frozen=True)
class Workflow:
    """One workflow: its jobs in an order in which each comes after those that it needs."""

    name: str
    env: dict[str, str]
    inputs: dict[str, str | bool]
    jobs: dict[str, Job]


@dataclass(frozen=True)
class CompositeAction:
    """A composite action: the defaults of its inputs, its outputs, its steps."""

    inputs: dict[str, str]
    required: set[str]
    outputs: dict[str, str]
    steps: list[Step] = field(default_factory=list)


def read_workflow(path: Path) -> Workflow:
    """Read a workflow file; every scalar is a text, as GitHub hands inputs and variables on."""
    document = _known(_load(path), _WORKFLOW, path.name)
    if document["permissions"]:
        raise Unsupported(f"{path.name}: permissions at the top are to be empty")
    triggers = _known(
        document["on"], {"schedule", "workflow_dispatch", "push", "pull_request"}, "on"
    )
    dispatch = triggers.get("workflow_dispatch") or {}
    jobs = {name: _job(name, job) for name, job in document["jobs"].items()}
    return Workflow(
        document["name"],
        document.get("env", {}),
        {name: _default(one) for name, one in dispatch.get("inputs", {}).items()},
        _ordered(jobs),
    )


def _default(document: dict[str, str]) -> str | bool:
    """Return an input's default, of the type that GitHub hands on when it is given by hand."""
    default = document.get("default", "")
    return default == "true" if document["type"] == "boolean" else default


def read_action(path: Path) -> CompositeAction:
    """Read a composite action's action.yml."""
    document = _known(_load(path), {"name", "description", "inputs", "outputs", "runs"}, str(path))
    runs = _known(document["runs"], {"using", "steps"}, str(path))
    if runs["using"] != "composite":
        raise Unsupported(f"{path}: runs.using is {runs['using']}")
    inputs = document.get("inputs", {})
    return CompositeAction(
        {name: one.get("default", "") for name, one in inputs.items()},
        {name for name, one in inputs.items() if one.get("required") == "true"},
        {name: one["value"] for name, one in document.get("outputs", {}).items()},
        [_step(step) for step in runs["steps"]],
    )


def _load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506  it makes texts alone
    return loaded


def _known(document: dict[str, Any], known: set[str], where: str) -> dict[str, Any]:
    if strange := sorted(document.keys() - known):
        raise Unsupported(f"{where}: {', '.join(strange)}")
    return document


def _job(name: str, document: dict[str, Any]) -> Job:
    _known(document, _JOB, f"job {name}")
    needs = document.get("needs", [])
    services = document.get("services", {})
    return Job(
        name,
        [needs] if isinstance(needs, str) else needs,
        document.get("if"),
        60 * float(document["timeout-minutes"]),
        document["permissions"] or {},
        document.get("outputs", {}),
        _legs(document.get("strategy", {})),
        {key: _known(one, _SERVICE, f"service {key}") for key, one in services.items()},
        [_step(step) for step in document["steps"]],
    )


def _legs(strategy: dict[str, Any]) -> list[dict[str, str]]:
    """Multiply a matrix out; ``include`` adds legs (here it never adds to one that is there)."""
    _known(strategy, {"fail-fast", "matrix"}, "strategy")
    matrix = dict(strategy.get("matrix", {}))
    included: list[dict[str, str]] = matrix.pop("include", [])
    names = list(matrix)
    product = itertools.product(*matrix.values()) if matrix else ()
    legs = [dict(zip(names, values, strict=True)) for values in product]
    for leg in included:
        # GitHub would add such a leg to those that it does not contradict.
        if any(all(one.get(name, leg[name]) == leg[name] for name in leg) for one in legs):
            raise Unsupported(f"matrix: include {leg}")
    legs = [*legs, *included] or [{}]
    if len({tuple(leg.items()) for leg in legs}) < len(legs):
        raise Unsupported("matrix: two legs that are the same")
    return legs


def _step(document: dict[str, Any]) -> Step:
    _known(document, _STEP, f"step {document.get('name', document)}")
    return Step(
        document.get("name") or document.get("uses") or document["run"],
        document.get("id"),
        document.get("if"),
        document.get("env", {}),
        document.get("run"),
        document.get("shell"),
        document.get("uses"),
        document.get("with", {}),
        60 * float(document["timeout-minutes"]) if "timeout-minutes" in document else None,
    )


def _ordered(jobs: dict[str, Job]) -> dict[str, Job]:
    ordered: dict[str, Job] = {}
    while len(ordered) < len(jobs):
        ready = [job for job in jobs.values() if set(job.needs) <= ordered.keys()]
        ready = [job for job in ready if job.id not in ordered]
        if not ready:
            raise Unsupported("jobs that need each other")
        ordered |= {job.id: job for job in ready}
    return ordered
