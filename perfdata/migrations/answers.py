"""Answers of the child process, kept until a file changes that they were made from.

Within a process files are compared by size and times; between processes, in the home folder, by
content. With 150 revisions, comparing takes 0.5 ms, hashing 7 ms, and the child process 1 s.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from perfdata.errors import ConfigError
from perfdata.migrations.inputs import Inputs
from perfdata.migrations.job import run_job_with_inputs
from perfdata.progress import silent
from perfdata.temporary import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from perfdata.config import Settings
    from perfdata.migrations.job import Job
    from perfdata.progress import Report

T = TypeVar("T")
_FORMAT = "perfdata-answer/1"
# One for each project and each of its two questions; more if settings or Python change.
_FILES = 20


class _Kept(NamedTuple):
    answer: object
    inputs: Inputs
    stats: object


_kept: dict[tuple[object, ...], _Kept] = {}


def ask(job: Job, settings: Settings | None, make: Callable[[Any], T]) -> T:
    """Return the answer to a job that only reads; ``make`` makes it from the child's JSON.

    A kept answer is used if its inputs are unchanged. Without settings, none is read or written.
    """
    kept = _kept.get(_key(job))
    if kept is not None and kept.stats == kept.inputs.stats():
        return cast("T", kept.answer)
    path = None if settings is None else _path(job, settings)
    if path is not None and (found := _read(path)) is not None:
        value, inputs, stats = found
        answer = make(value)
        _kept[_key(job)] = _Kept(answer, inputs, stats)
        return answer
    return _ask_child(job, job, settings, make, silent)


def forget_answers(settings: Settings) -> None:
    """Remove the kept answers, so that everything is read again."""
    _kept.clear()
    for path in answers_folder(settings.home).glob("*.json"):
        path.unlink(missing_ok=True)


def run(
    job: Job, reading: Job, settings: Settings | None, make: Callable[[Any], T], report: Report
) -> T:
    """Run a job, whatever is kept, and keep its answer as the one to the job ``reading``."""
    return _ask_child(job, reading, settings, make, report)


def _ask_child(
    job: Job, reading: Job, settings: Settings | None, make: Callable[[Any], T], report: Report
) -> T:
    started_ns = time.time_ns()
    value, inputs = run_job_with_inputs(job, report)
    answer = make(value)
    stats = inputs.stats()
    digest = inputs.digest()
    if inputs.unchanged_since(started_ns):  # last, so that nothing above saw another content
        _kept[_key(reading)] = _Kept(answer, inputs, stats)
        if settings is not None and inputs.fixed:
            kept = {"answer": value, "inputs": asdict(inputs), "digest": digest}
            _write(_path(reading, settings), settings, kept)
    return answer


def answers_folder(home: Path) -> Path:
    """Return the folder of the kept answers in a home folder."""
    return home / "answers"


def _key(job: Job) -> tuple[object, ...]:
    return (job.task, job.migrations, job.metadata, *job.variables.items(), *sys.path)


def _path(job: Job, settings: Settings) -> Path:
    """Return the file of an answer: its name is a hash of what decides it and is no file."""
    environment = sorted(settings.environment.items())  # the project's code may read them
    code = [job.task, job.migrations, job.metadata]
    parts = [_FORMAT, *code, environment, sys.prefix, sys.version]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return answers_folder(settings.home) / f"{digest[:16]}.json"


def _read(path: Path) -> tuple[Any, Inputs, object] | None:
    """Read a kept answer; None if there is none, it is damaged or another user's, or outdated."""
    try:
        with path.open(encoding="utf-8") as file:
            if os.name == "posix" and os.fstat(file.fileno()).st_uid != os.getuid():
                return None
            document = json.load(file)
        kept = document["kept"]
        if document["sha256"] != _checksum(kept):
            return None
        inputs = Inputs(**kept["inputs"])
    except (OSError, ValueError, KeyError, TypeError):  # the last two: of another format
        return None
    stats = inputs.stats()  # before the content is read: a later change must show
    if not inputs.found_again() or inputs.digest() != kept["digest"]:
        return None
    return kept["answer"], inputs, stats


def _write(path: Path, settings: Settings, kept: object) -> None:
    """Write an answer to its file, if the home folder can be written."""
    document = {"sha256": _checksum(kept), "kept": kept}
    with suppress(OSError, ConfigError):
        settings.make_home()
        path.parent.mkdir(exist_ok=True)
        write_whole(path, json.dumps(document), mode=0o600)
        others = sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
        for file in others[:-_FILES]:
            file.unlink(missing_ok=True)


def _checksum(kept: object) -> str:
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()
