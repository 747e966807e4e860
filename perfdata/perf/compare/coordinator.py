"""The coordinator of a comparison: runs the variants' pytests, and interleaves their rounds."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import socket
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from perfdata.errors import ComparisonError, ConfigError
from perfdata.perf.compare.build_output import refuse_missing_output
from perfdata.perf.compare.differences import (
    SEED,
    VARIANTS,
    ScenarioComparison,
    ScenarioCounts,
    Times,
)
from perfdata.perf.compare.participant import PROTOCOL, VARIABLE, Channel
from perfdata.progress import Event

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from perfdata.perf.compare.variants import Variant
    from perfdata.progress import Report

# In simulations, 30 rounds on a quiet machine detect a change of 10 % in 99 of 100 cases; beyond
# 100, further rounds add little. With three variants a scenario of 50 ms takes 15 s.
ROUND_TIME_S = 5.0
MIN_ROUNDS, MAX_ROUNDS = 30, 100
_END_S = 5.0
_SHOWN_LINES = 4


@dataclass(frozen=True)
class Limits:
    """The time limits of a variant: for collection, for preparing a test, and for a round.

    A round may take ``round_s``, or ``round_times`` times as long as the first one.
    """

    collect_s: float = 300.0
    ready_s: float = 3600.0
    round_s: float = 60.0
    round_times: float = 30.0


@dataclass(frozen=True)
class ScenarioSelection:
    """The tests to compare: the tests of the scenario ``only``, or all tests.

    ``measured`` are the tests that measured the scenario in the last run. If none of them exists,
    the tests whose names contain the scenario's are selected.
    """

    only: str = ""
    measured: frozenset[str] = frozenset()

    def of(self, tests: Sequence[str]) -> list[str]:
        """Return the selected tests, in their order."""
        measured = [test for test in tests if not self.only or test in self.measured]
        return measured or [test for test in tests if self.only in test.partition("::")[2]]


@dataclass
class Outcome:
    """The outcome of a run, as in Comparison."""

    scenarios: list[ScenarioComparison] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Coordinator:
    """Runs the same tests in the processes of all variants: ``this``, ``rev`` and ``again``.

    ``rounds`` is None for as many as fit into ROUND_TIME_S.
    """

    def __init__(
        self,
        processes: Mapping[str, VariantProcess],
        rounds: int | None,
        limits: Limits,
        report: Report,
    ) -> None:
        self._processes = processes
        self._rounds = rounds
        self._limits = limits
        self._report = report
        self._draw = random.Random(SEED)  # noqa: S311  reproducible, not cryptographic
        self.outcome = Outcome()

    def run(self, selection: ScenarioSelection) -> Outcome:
        """Run the selected tests that all variants have."""
        tests = self._common_tests(selection)
        for process in self._processes.values():
            process.order("run", tests=tests)
        for number, test in enumerate(tests, 1):
            self._report(Event(f"comparing {test} ({number} of {len(tests)})"))
            self._compare(test)
        return self.outcome

    def _common_tests(self, selection: ScenarioSelection) -> list[str]:
        """Wait for each variant's tests, and return those to run."""
        hellos = {
            name: process.expect("hello", limit_s=self._limits.collect_s)
            for name, process in self._processes.items()
        }
        for name, hello in hellos.items():
            self._check(self._processes[name], hello)
        here, there = selection.of(hellos["this"]["tests"]), selection.of(hellos["rev"]["tests"])
        label = self._processes["rev"].variant.label
        common = [test for test in here if test in there and test in hellos["again"]["tests"]]
        self.outcome.notes += [f"{test}: not in {label}" for test in here if test not in there]
        self.outcome.notes += [f"{test}: only in {label}" for test in there if test not in here]
        if not common:
            all_tests = ", ".join(hellos["this"]["tests"]) or "none"
            errors = "".join(f"; {error}" for error in self.outcome.errors)
            raise ConfigError(
                f"no selected perf test is in both this tree and {label}; this tree has: "
                f"{all_tests}{errors}"
            )
        return common

    def _check(self, process: VariantProcess, hello: Mapping[str, Any]) -> None:
        label = process.variant.label
        if hello["protocol"] != PROTOCOL:
            raise ConfigError(
                f"the perfdata in {label} uses another protocol ({hello['protocol']}, this tree "
                f"{PROTOCOL}): compare with a more recent revision"
            )
        _check_foreign(process, hello)
        tree = self._processes["this"].variant.tree
        if process.variant.tree != tree:
            refuse_missing_output("\n".join(hello["errors"]), tree, label)
        self.outcome.errors += [f"{label}, not collected: {error}" for error in hello["errors"]]

    def _compare(self, test: str) -> None:
        ready, ended = self._prepare(test)
        times = None
        if not ended:
            times = self._take_rounds(test, ready, ended)
        for name in ready:
            if name not in ended:
                self._processes[name].order("enough")
                ended[name] = self._processes[name].expect("end", limit_s=self._limits.ready_s)
        self._conclude(test, ended, times)

    def _prepare(self, test: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Let one variant after the other run a test up to its rounds.

        Returns the events of the variants that are ready, and of those whose test has ended.
        """
        ready: dict[str, Any] = {}
        ended: dict[str, Any] = {}
        for name, process in self._processes.items():
            process.activity = f"in {test}"
            process.expect("start", limit_s=self._limits.ready_s)
            process.order("go")
            event = process.expect("ready", "end", limit_s=self._limits.ready_s)
            if event["event"] == "ready":
                ready[name] = event
                _check_foreign(process, event)
            else:
                ended[name] = event
        if len({event["data"] for event in ready.values()}) > 1:
            self.outcome.notes.append(
                f"{test}: the trees build the dataset differently, so that times and counts also "
                "reflect different rows"
            )
        return ready, ended

    def _take_rounds(
        self, test: str, ready: Mapping[str, Any], ended: dict[str, Any]
    ) -> Times | None:
        """Take the rounds; if a test ends in one, add its event to ``ended`` and return None."""
        warm_s = median(event["warm_s"] for event in ready.values())
        limit_s = max(self._limits.round_s, self._limits.round_times * warm_s)
        rounds_s: dict[str, list[float]] = {name: [] for name in self._processes}
        orders = []
        for number in range(self._rounds or rounds_of(warm_s)):
            orders.append(self._draw.sample(list(self._processes), len(self._processes)))
            for name in orders[-1]:
                process = self._processes[name]
                process.activity = f"in round {number + 1} of {test}"
                process.order("round")
                event = process.expect("round", "end", limit_s=limit_s)
                if event["event"] == "end":
                    ended[name] = event
                    return None
                rounds_s[name].append(event["seconds"])
        return Times(rounds_s, orders)

    def _conclude(self, test: str, ended: Mapping[str, Any], times: Times | None) -> None:
        """Compare the variants' counts, and keep their failures."""
        for name, end in ended.items():
            self._keep_failure(test, name, end, timed=times is not None)
        if times is None and any(end["failed"] for end in ended.values()):
            return
        this, rev, again = (_counts_by_scenario(ended[name]) for name in VARIANTS)
        for scenario, counts in this.items():
            if scenario not in rev or scenario not in again:
                self.outcome.notes.append(f"{test}: not all variants measured {scenario}")
                continue
            own_times = times if scenario == ended["this"]["timed"] else None
            self.outcome.scenarios.append(
                ScenarioComparison.of(test, counts, rev[scenario], again[scenario], own_times)
            )

    def _keep_failure(self, test: str, name: str, end: Mapping[str, Any], *, timed: bool) -> None:
        label = self._processes[name].variant.label
        if end["failed"] and timed:  # a budget, a baseline or an assertion: no obstacle here
            self.outcome.notes.append(
                f"{test}: failed after its rounds in {label}: {end['failed']}"
            )
        elif end["failed"]:
            self.outcome.errors.append(f"{test}: failed in {label}: {end['failed']}")
        elif end["skipped"]:
            self.outcome.notes.append(f"{test}: skipped in {label}: {end['skipped']}")


def _counts_by_scenario(end: Mapping[str, Any]) -> dict[str, ScenarioCounts]:
    counts = map(ScenarioCounts.from_json, end["results"])
    return {each.scenario: each for each in counts}


def rounds_of(duration_s: float) -> int:
    """Return the number of rounds for a scenario of a duration."""
    return max(MIN_ROUNDS, min(math.ceil(ROUND_TIME_S / max(duration_s, 1e-9)), MAX_ROUNDS))


def _check_foreign(process: VariantProcess, event: Mapping[str, Any]) -> None:
    if foreign := event["foreign"]:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""  # noqa: PLR2004  enough
        raise ComparisonError(
            f"{process.variant.label} did not run its own code: {', '.join(foreign[:3])}{more} was "
            f"not imported from {process.variant.tree}. The usual cause is an absolute import "
            "path, for example in a conftest.py: make it relative to that file"
        )


class VariantProcess:
    """The pytest process of a variant; ``activity`` describes its last order for errors."""

    def __init__(
        self, variant: Variant, channel: Channel, process: subprocess.Popen[bytes]
    ) -> None:
        self.variant = variant
        self.activity = "while collecting tests"
        self._channel = channel
        self._process = process

    def order(self, order: str, **fields: Any) -> None:
        """Send an order; if the process has ended, the next ``expect`` raises."""
        self._channel.send(order=order, **fields)

    def expect(self, *events: str, limit_s: float) -> dict[str, Any]:
        """Return the next event; raise ComparisonError if it is missing or unexpected."""
        try:
            message = self._channel.receive(limit_s)
        except TimeoutError:
            raise self._error(f"did not answer for {limit_s:.0f} s") from None
        if message is None:
            raise self._error(self._ending())
        if message["event"] not in events:
            raise self._error(f"sent {message['event']!r}, not {' or '.join(events)}")
        return message

    def _ending(self) -> str:
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return "closed its end of the channel"
        return f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"

    def _error(self, what: str) -> ComparisonError:
        output = self.variant.log.read_text(encoding="utf-8", errors="replace").strip()
        lines = output.splitlines()[-_SHOWN_LINES:]
        tail = " | ".join(line.strip() for line in lines if line.strip())
        return ComparisonError(
            f"the pytest of {self.variant.label} {what} {self.activity}; its last output: "
            f"{tail or 'none'} (full log: {kept_log(self.variant)})"
        )


def kept_log(variant: Variant) -> Path:
    """Return the path at which a variant's log is kept until the next comparison."""
    return variant.home.parent.parent / f"{variant.name}.log"


@contextmanager
def running(
    variant: Variant, origin: Path, *, project: str, dataset: str
) -> Iterator[VariantProcess]:
    """Run a variant's pytest during a block; afterwards end it and its child processes."""
    ours, theirs = socket.socketpair()
    other = None if variant.tree == origin else str(origin)
    options = {"fd": theirs.fileno(), "tree": str(variant.tree), "other": other, "project": project}
    channel = Channel(ours)
    with variant.log.open("wb") as log:
        process = subprocess.Popen(
            variant.command(dataset),
            cwd=variant.root,
            env={**variant.environment(origin), VARIABLE: json.dumps(options)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno()],
            process_group=0,  # interrupts go to this process only, which ends the others
        )
    theirs.close()
    try:
        yield VariantProcess(variant, channel, process)
    finally:
        channel.close()  # a pytest that waits for an order then ends
        _end(process)
        shutil.copyfile(variant.log, kept_log(variant))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a pytest, then terminate it, then kill it; finally kill its child processes."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(signal_number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
