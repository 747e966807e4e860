"""Runs workflow files as GitHub would: jobs by what they need, steps in order, all on this machine.

Every job begins with an empty workspace at the same path and an environment of its own. What is
not known is Unsupported and ends the rehearsal: nothing is passed over.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.rehearsal.expressions import Expressions, Unsupported
from tests.rehearsal.standins import (
    ActionError,
    Artifacts,
    Cache,
    Postgres,
    check_out,
    install_gh,
    make_python,
    stop_servers,
)
from tests.rehearsal.workflow import read_action, read_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.rehearsal.workflow import Job, Step, Workflow

# GitHub runs a script so where the step names no shell, and so where it names bash.
_SHELLS = {
    None: ["bash", "-e"],
    "bash": ["bash", "--noprofile", "--norc", "-eo", "pipefail"],
}
_PINNED = re.compile(r"([\w.-]+/[\w./-]+)@[0-9a-f]{40}")
# What belongs to the rehearsal's own process, or would lead a job to the caller's database.
_NOT_HANDED_ON = ("GITHUB_", "PERFDATA_", "PYTEST_", "NOX", "VIRTUAL_ENV", "PYTHON")


@dataclass
class StepResult:
    """How one step ended: success, failure or skipped, and what it printed."""

    name: str
    outcome: str
    output: str = ""
    outputs: dict[str, str] = field(default_factory=dict)


@dataclass
class JobResult:
    """How one leg of a job ended, its steps by name, its outputs, its summary."""

    result: str
    steps: dict[str, StepResult] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""

    @property
    def output(self) -> str:
        """All that the job printed."""
        return "\n".join(
            f"--- {one.name}: {one.outcome}\n{one.output}" for one in self.steps.values()
        )


@dataclass
class Run:
    """One run of a workflow: the results of its jobs, each by its matrix's leg."""

    number: int
    jobs: dict[str, dict[str, JobResult]]
    artifacts: Path

    def job(self, name: str, leg: str = "") -> JobResult:
        """Return one leg of a job; ``leg`` is the first value of its matrix."""
        return self.jobs[name][leg]

    def result(self, name: str) -> str:
        """Return what a job that needs this one sees."""
        results = {one.result for one in self.jobs[name].values()}
        return "failure" if "failure" in results else results.pop() if len(results) == 1 else "?"


@dataclass(frozen=True)
class Asked:
    """What started a run: the event, the ref that it is about, the inputs given by hand."""

    event: str
    ref: str
    inputs: dict[str, str | bool]


class GitHub:
    """A repository with its cache, its issues and its runs, below one folder."""

    def __init__(self, folder: Path, origin: Path) -> None:
        self.folder, self.origin = folder, origin
        self.cache = Cache(folder / "cache")
        self.issues = folder / "issues.json"
        self.others: dict[str, Path] = {}
        self._runs = 0
        install_gh(folder / "programs")

    def published(self, action: str) -> Path | None:
        """Return where an action of another repository lies, where that is one of ``others``."""
        for name, tree in self.others.items():
            if action.startswith(f"{name}/"):
                return tree / action.removeprefix(f"{name}/")
        return None

    def run(
        self,
        file: str,
        event: str,
        *,
        inputs: Mapping[str, str | bool] | None = None,
        ref: str = "refs/heads/main",
        only: Mapping[str, str] | None = None,
    ) -> Run:
        """Run a workflow file of the origin's newest commit.

        ``only`` runs the jobs that it does not name: of those it gives the results instead.
        """
        self._runs += 1
        tree = self.folder / "trees" / str(self._runs)
        subprocess.run(["git", "clone", "--quiet", self.origin, tree], check=True)
        workflow = read_workflow(tree / ".github" / "workflows" / file)
        run = Run(self._runs, {}, self.folder / "artifacts" / str(self._runs))
        given = {**workflow.inputs, **(inputs or {})} if event == "workflow_dispatch" else {}
        for job in workflow.jobs.values():
            if only and job.id in only:
                run.jobs[job.id] = {"": JobResult(only[job.id])}
                continue
            asked = Asked(event, ref, given)
            legs = [_Running(self, workflow, job, leg, run, tree, asked) for leg in job.legs]
            with ThreadPoolExecutor() as pool:  # each on a machine of its own, as on GitHub
                results = list(pool.map(_Running.run, legs))
            names = [next(iter(leg.values()), "") for leg in job.legs]
            if len(set(names)) < len(names):
                raise Unsupported(f"job {job.id}: legs that begin alike are told apart by nothing")
            run.jobs[job.id] = dict(zip(names, results, strict=True))
        return run


class _Running:
    """One leg of a job while it runs."""

    def __init__(
        self,
        github: GitHub,
        workflow: Workflow,
        job: Job,
        leg: dict[str, str],
        run: Run,
        tree: Path,
        asked: Asked,
    ) -> None:
        self._github, self._job, self._run, self._tree = github, job, run, tree
        self._machine = github.folder / "machines" / "-".join([job.id, *leg.values()][:2])
        self._workspace, self._temp = self._machine / "work", self._machine / "temp"
        self._failed = False
        self._services: dict[str, Postgres] = {}
        sha = _git(tree, "rev-parse", "HEAD")
        self._contexts: dict[str, Any] = {
            "github": {
                "event_name": asked.event,
                "ref": asked.ref,
                "sha": sha,
                "repository": "example/perfdata",
                "run_id": str(run.number),
                "run_attempt": "1",
                "server_url": "https://github.example",
                # What the stand-in for gh believes; a job without permissions has none.
                "token": ",".join(f"{name}={may}" for name, may in job.permissions.items()),
            },
            "inputs": asked.inputs,
            "matrix": leg,
            "needs": {
                name: {
                    "result": run.result(name),
                    "outputs": next(iter(run.jobs[name].values())).outputs,
                }
                for name in job.needs
            },
            "steps": {},
            "runner": {"temp": str(self._temp), "os": "Linux"},
        }
        filled = Expressions(self._contexts).fill_all(workflow.env)
        self._contexts["env"] = filled
        self._environ = {**_environ(github), **filled, **self._facts(sha)}
        self._result = JobResult("success")

    def _facts(self, sha: str) -> dict[str, str]:
        files = {
            name: str(self._temp / name.lower())
            for name in ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_STEP_SUMMARY")
        }
        github = self._contexts["github"]
        facts = {
            f"GITHUB_{name}": github[name.lower()]
            for name in ("EVENT_NAME", "REF", "REPOSITORY", "RUN_ID", "RUN_ATTEMPT", "SERVER_URL")
        }
        return {
            **files,
            **facts,
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_SHA": sha,
            "GITHUB_WORKSPACE": str(self._workspace),
            "RUNNER_TEMP": str(self._temp),
            "REHEARSAL_ISSUES": str(self._github.issues),
        }

    def run(self) -> JobResult:
        """Run the job where its condition holds."""
        needed = [one["result"] for one in self._contexts["needs"].values()]
        status = _status(all(result == "success" for result in needed), "failure" in needed)
        if not Expressions(self._contexts, status).holds(self._job.condition):
            self._result.result = "skipped"
            return self._result
        shutil.rmtree(self._machine, ignore_errors=True)
        for folder in (self._workspace, self._temp):
            folder.mkdir(parents=True)
        try:
            self._start_services()
            for step in self._job.steps:
                self._result.steps[step.name] = self._step(step, self._contexts)
        finally:
            stop_servers(self._workspace)
            for service in self._services.values():
                service.stop()
        self._result.result = "failure" if self._failed else "success"
        self._result.outputs = Expressions(self._contexts).fill_all(self._job.outputs)
        self._log()
        return self._result

    def _log(self) -> None:
        log = self._github.folder / "logs" / f"{self._run.number}-{self._machine.name}.txt"
        log.parent.mkdir(exist_ok=True)
        log.write_text(self._result.output, encoding="utf-8")
        if self._result.summary:
            log.with_suffix(".md").write_text(self._result.summary, encoding="utf-8")

    def _start_services(self) -> None:
        ports: dict[str, Any] = {}
        for name, service in self._job.services.items():
            image = self._expressions().fill(service["image"])
            if not image:
                continue  # GitHub starts none of an empty image
            if service["ports"] != ["5432/tcp"] or "--health-cmd" not in service["options"]:
                raise Unsupported(f"service {name}: {service}")
            folder = self._machine / name
            folder.mkdir()
            started = self._services[name] = Postgres(folder, image, service["env"])
            ports[name] = {"ports": {"5432": str(started.port)}}
        self._contexts["job"] = {"services": ports}

    def _expressions(self, contexts: Mapping[str, Any] | None = None) -> Expressions:
        status = _status(not self._failed, self._failed)
        return Expressions(contexts or self._contexts, status)

    def _step(self, step: Step, contexts: dict[str, Any]) -> StepResult:
        result = StepResult(step.name, "skipped")
        expressions = self._expressions(contexts)
        if expressions.holds(step.condition):
            try:
                self._run_step(step, expressions, result)
            except (ActionError, subprocess.TimeoutExpired) as error:
                result.outcome, result.output = "failure", f"{result.output}\n{error}"
            self._failed |= result.outcome == "failure"
        if step.id is not None:
            outcome = {"outcome": result.outcome, "conclusion": result.outcome}
            contexts["steps"][step.id] = {**outcome, "outputs": result.outputs}
        return result

    def _run_step(self, step: Step, expressions: Expressions, result: StepResult) -> None:
        result.outcome = "success"
        if step.run is not None:
            self._script(step, {**self._environ, **expressions.fill_all(step.env)}, result)
        elif step.uses is not None and step.uses.startswith("$/"):
            place = self._tree / step.uses.removeprefix("$/")
            self._composite(step, place, expressions.fill_all(step.inputs), result)
        elif step.uses is not None and (pinned := _PINNED.fullmatch(step.uses)):
            inputs = expressions.fill_all(step.inputs)
            if (other := self._github.published(pinned[1])) is not None:
                self._composite(step, other, inputs, result)
            else:
                self._action(pinned[1], inputs, result)
        else:
            raise Unsupported(f"step {step.name}: {step.uses}")

    def _script(self, step: Step, environ: dict[str, str], result: StepResult) -> None:
        if step.run is None or "${{" in step.run:
            raise Unsupported(f"step {step.name}: an expression inside a script")
        script = self._temp / "script.sh"
        script.write_text(step.run, encoding="utf-8")
        for name in ("GITHUB_OUTPUT", "GITHUB_ENV"):
            Path(environ[name]).write_text("", encoding="utf-8")
        done = subprocess.run(
            [*_SHELLS[step.shell], script], cwd=self._workspace, env=environ,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False, timeout=step.timeout_s or self._job.timeout_s,
        )  # fmt: skip
        result.output = done.stdout
        result.outcome = "success" if done.returncode == 0 else "failure"
        result.outputs = _assignments(Path(environ["GITHUB_OUTPUT"]))
        exported = _assignments(Path(environ["GITHUB_ENV"]))
        self._environ |= exported
        self._contexts["env"] |= exported
        summary = Path(environ["GITHUB_STEP_SUMMARY"])
        if summary.exists():
            self._result.summary += summary.read_text(encoding="utf-8")
            summary.unlink()

    def _composite(
        self, step: Step, place: Path, inputs: dict[str, str], result: StepResult
    ) -> None:
        action = read_action(place / "action.yml")
        if wrong := (inputs.keys() - action.inputs.keys()) | (action.required - inputs.keys()):
            raise Unsupported(f"{step.uses}: inputs {sorted(wrong)}")
        contexts = {**self._contexts, "inputs": {**action.inputs, **inputs}, "steps": {}}
        printed = []
        for one in action.steps:
            done = self._step(one, contexts)
            self._result.steps[f"{step.name} / {one.name}"] = done
            printed.append(f"{one.name}: {done.outcome}")
            if done.outcome == "failure":
                result.outcome = "failure"
        result.output = "\n".join(printed)
        result.outputs = Expressions(contexts).fill_all(action.outputs)

    def _action(self, name: str, inputs: dict[str, str], result: StepResult) -> None:
        workspace, artifacts = self._workspace, Artifacts(self._run.artifacts)
        if name == "actions/checkout":
            result.output = check_out(self._github.origin, workspace, inputs)
        elif name == "actions/setup-python":
            programs = make_python(self._machine / "python")
            self._environ["PATH"] = f"{programs}{os.pathsep}{self._environ['PATH']}"
        elif name == "actions/cache/restore":
            result.outputs = self._github.cache.restore(workspace, inputs)
            result.output = str(result.outputs)
        elif name == "actions/cache/save":
            result.output = self._github.cache.save(workspace, inputs)
        elif name == "actions/upload-artifact":
            result.output = artifacts.upload(workspace, inputs)
        elif name == "actions/download-artifact":
            result.output = artifacts.download(workspace, inputs)
        else:
            raise Unsupported(f"action {name}")


def _status(success: bool, failure: bool) -> dict[str, Any]:
    return {
        "success": lambda: success,
        "failure": lambda: failure,
        "always": lambda: True,
        "cancelled": lambda: False,
    }


def _environ(github: GitHub) -> dict[str, str]:
    """Return this process's environment without what is the rehearsal's own."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(_NOT_HANDED_ON)
    }
    own = Path(sys.executable).parent
    path = [one for one in kept["PATH"].split(os.pathsep) if Path(one) != own]
    return {**kept, "PATH": os.pathsep.join([str(github.folder / "programs"), *path])}


def _assignments(file: Path) -> dict[str, str]:
    return dict(_pairs(file.read_text(encoding="utf-8").splitlines()))


def _pairs(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, equals, value = line.partition("=")
        if not equals or "<<" in name:
            raise Unsupported(f"an output {line!r}")
        yield name, value


def _git(folder: Path, *command: str) -> str:
    return subprocess.run(
        ["git", *command], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()
