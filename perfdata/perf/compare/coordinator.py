"""Interleave: have the sides of a comparison run the same tests, and take their rounds in turn."""

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
from perfdata.perf.compare.differences import (
    SEED,
    VARIANTS,
    ScenarioComparison,
    ScenarioCounts,
    Times,
)
from perfdata.perf.compare.participant import PROTOCOL, Channel
from perfdata.progress import Event

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from perfdata.perf.compare.variants import Variant
    from perfdata.progress import Report

# In simulations of 30 rounds on a quiet machine 10 % are found in 99 of 100; over 100 rounds each
# further one tells little. Three sides take them: a scenario of 50 ms is measured for 15 s.
ROUND_TIME_S = 5.0
MIN_ROUNDS, MAX_ROUNDS = 30, 100
_END_S = 5.0
_SHOWN_LINES = 4


@dataclass(frozen=True)
class Limits:
    """How long a side may take: to collect, to prepare a test, and for a round.

    For a round it is ``round_s``, or so many times what the first one took.
    """

    collect_s: float = 300.0
    ready_s: float = 3600.0
    round_s: float = 60.0
    round_times: float = 30.0


@dataclass(frozen=True)
class Selection:
    """Which tests are compared: those that measure the scenario ``only``, or all without one.

    ``measured`` are the tests that did so in the last run; where none of them is there, those are
    taken whose names hold that of the scenario.
    """

    only: str = ""
    measured: frozenset[str] = frozenset()

    def of(self, tests: Sequence[str]) -> list[str]:
        """Return the selected tests, in their order."""
        measured = [test for test in tests if not self.only or test in self.measured]
        return measured or [test for test in tests if self.only in test.partition("::")[2]]


@dataclass
class Outcome:
    """What was found so far: see perfdata.perf.compare.differences.Comparison."""

    scenarios: list[ScenarioComparison] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Coordinator:
    """A run of the same tests on all sides; the sides are ``this``, ``rev`` and ``again``."""

    def __init__(
        self,
        peers: Mapping[str, VariantProcess],
        rounds: int | None,
        limits: Limits,
        report: Report,
    ) -> None:
        """Take the sides' pytests, and how many rounds there shall be if not as many as fit."""
        self._peers = peers
        self._rounds = rounds
        self._limits = limits
        self._report = report
        self._draw = random.Random(SEED)  # noqa: S311  the same order each time is what is wanted
        self.found = Outcome()

    def run(self, selection: Selection) -> Outcome:
        """Run the selected tests that are on all sides."""
        tests = self._agree(selection)
        for peer in self._peers.values():
            peer.order("run", tests=tests)
        for number, test in enumerate(tests, 1):
            self._report(Event(f"comparing {test} ({number} of {len(tests)})"))
            self._compare(test)
        return self.found

    def _agree(self, selection: Selection) -> list[str]:
        """Hear what each side has, and return the tests that are to be run."""
        limit_s = self._limits.collect_s
        said = {name: one.expect("hello", limit_s=limit_s) for name, one in self._peers.items()}
        for name, hello in said.items():
            self._check(self._peers[name], hello)
        here, there = selection.of(said["this"]["tests"]), selection.of(said["rev"]["tests"])
        label = self._peers["rev"].side.label
        both = [test for test in here if test in there and test in said["again"]["tests"]]
        self.found.notes += [f"{test}: not in {label}" for test in here if test not in there]
        self.found.notes += [f"{test}: only in {label}" for test in there if test not in here]
        if not both:
            all_tests = ", ".join(said["this"]["tests"]) or "none"
            raise ConfigError(
                f"no perf test that was asked for is in this tree and in {label}; here there are: "
                f"{all_tests}"
            )
        return both

    def _check(self, peer: VariantProcess, hello: Mapping[str, Any]) -> None:
        label = peer.side.label
        if hello["protocol"] != PROTOCOL:
            raise ConfigError(
                f"{label} speaks another form of this protocol ({hello['protocol']}, this tree "
                f"{PROTOCOL}): its perfdata is not of this time. Compare with a nearer revision"
            )
        _check_foreign(peer, hello)
        self.found.errors += [f"{label}, not collected: {error}" for error in hello["errors"]]

    def _compare(self, test: str) -> None:
        ready, ended = self._prepare(test)
        times = None
        if not ended:
            times = self._take_rounds(test, ready, ended)
        for name in ready:
            if name not in ended:
                self._peers[name].order("enough")
                ended[name] = self._peers[name].expect("end", limit_s=self._limits.ready_s)
        self._conclude(test, ended, times)

    def _prepare(self, test: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Have one side after the other run a test up to its rounds.

        Returns what those said that are there, and what those said whose test ended before.
        """
        ready: dict[str, Any] = {}
        ended: dict[str, Any] = {}
        for name, peer in self._peers.items():
            peer.doing = f"in {test}"
            peer.expect("start", limit_s=self._limits.ready_s)
            peer.order("go")
            said = peer.expect("ready", "end", limit_s=self._limits.ready_s)
            (ready if said["event"] == "ready" else ended)[name] = said
            if said["event"] == "ready":
                _check_foreign(peer, said)
        if len({said["data"] for said in ready.values()}) > 1:
            self.found.notes.append(
                f"{test}: the sides run on different rows, as they make the dataset differently; "
                "times and counts tell of both"
            )
        return ready, ended

    def _take_rounds(
        self, test: str, ready: Mapping[str, Any], ended: dict[str, Any]
    ) -> Times | None:
        """Take the rounds; None, and who ended in ``ended``, where a scenario failed in one."""
        warm_s = median(said["warm_s"] for said in ready.values())
        limit_s = max(self._limits.round_s, self._limits.round_times * warm_s)
        taken: dict[str, list[float]] = {name: [] for name in self._peers}
        orders = []
        for number in range(self._rounds or rounds_of(warm_s)):
            orders.append(self._draw.sample(list(self._peers), len(self._peers)))
            for name in orders[-1]:
                peer = self._peers[name]
                peer.doing = f"in round {number + 1} of {test}"
                peer.order("round")
                said = peer.expect("round", "end", limit_s=limit_s)
                if said["event"] == "end":
                    ended[name] = said
                    return None
                taken[name].append(said["seconds"])
        return Times(taken, orders)

    def _conclude(self, test: str, ended: Mapping[str, Any], times: Times | None) -> None:
        """Compare what the sides counted, and keep what they failed for."""
        for name, said in ended.items():
            self._keep_failure(test, name, said, whole=times is not None)
        if times is None and any(said["failed"] for said in ended.values()):
            return
        this, rev, again = (
            {one.scenario: one for one in map(ScenarioCounts.from_json, ended[name]["results"])}
            for name in VARIANTS
        )
        for scenario, counted in this.items():
            if scenario not in rev or scenario not in again:
                self.found.notes.append(f"{test}: {scenario} was not measured on all sides")
                continue
            own = times if scenario == ended["this"]["timed"] else None
            found = ScenarioComparison.of(test, counted, rev[scenario], again[scenario], own)
            self.found.scenarios.append(found)

    def _keep_failure(self, test: str, name: str, said: Mapping[str, Any], *, whole: bool) -> None:
        label = self._peers[name].side.label
        if said["skipped"] and not said["failed"]:
            self.found.notes.append(f"{test}: skipped in {label}: {said['skipped']}")
        if not said["failed"]:
            return
        if whole:  # a budget, a baseline, or what the test asserts: not what is asked here
            self.found.notes.append(f"{test}: red in {label}: {said['failed']}")
        else:
            self.found.errors.append(f"{test}: failed in {label}: {said['failed']}")


def rounds_of(duration_s: float) -> int:
    """Return how many rounds are taken of a scenario that takes so long."""
    return max(MIN_ROUNDS, min(math.ceil(ROUND_TIME_S / max(duration_s, 1e-9)), MAX_ROUNDS))


def _check_foreign(peer: VariantProcess, said: Mapping[str, Any]) -> None:
    if foreign := said["foreign"]:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""  # noqa: PLR2004  enough
        raise ComparisonError(
            f"{peer.side.label} did not run its own code: {', '.join(foreign[:3])}{more} came from "
            f"elsewhere than {peer.side.tree}. An import path that is absolute, or set by a "
            "conftest.py, is the usual reason: have it begin at the file that sets it"
        )


class VariantProcess:
    """A side's pytest. ``doing`` says, for errors, what it was last told to do."""

    def __init__(self, side: Variant, channel: Channel, process: subprocess.Popen[bytes]) -> None:
        """Take the side, and what was started for it."""
        self.side = side
        self.doing = "while it collected the tests"
        self._channel = channel
        self._process = process

    def order(self, order: str, **said: Any) -> None:
        """Send an order; to a pytest that has ended it is lost, which ``expect`` tells."""
        self._channel.send(order=order, **said)

    def expect(self, *events: str, limit_s: float) -> dict[str, Any]:
        """Return the next event; ComparisonError where none comes, or another than expected."""
        try:
            message = self._channel.receive(limit_s)
        except TimeoutError:
            raise self._error(f"has not answered for {limit_s:.0f} s") from None
        if message is None:
            raise self._error(self._ending())
        if message["event"] not in events:
            raise self._error(f"said {message['event']!r}, not {' or '.join(events)}")
        return message

    def _ending(self) -> str:
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return "has closed its end of the channel"
        return f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"

    def _error(self, what: str) -> ComparisonError:
        said = self.side.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        tail = " | ".join(line.strip() for line in said[-_SHOWN_LINES:] if line.strip())
        return ComparisonError(
            f"the pytest of {self.side.label} {what} {self.doing}; it said at last: "
            f"{tail or 'nothing'} (all of it: {kept_log(self.side)})"
        )


def kept_log(side: Variant) -> Path:
    """Return where a side's log is kept until the next comparison."""
    return side.home.parent.parent / f"{side.name}.log"


@contextmanager
def running(side: Variant, origin: Path, *, project: str, dataset: str) -> Iterator[VariantProcess]:
    """Run a side's pytest for a block, and end it and whatever it started."""
    ours, theirs = socket.socketpair()
    other = None if side.tree == origin else str(origin)
    told = {"fd": theirs.fileno(), "tree": str(side.tree), "other": other, "project": project}
    channel = Channel(ours)
    with side.log.open("wb") as log:
        process = subprocess.Popen(
            side.command(dataset),
            cwd=side.root,
            env={**side.environment(origin), "PERFDATA_COMPARE": json.dumps(told)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno()],
            process_group=0,  # an interrupt is for us: we end it
        )
    theirs.close()
    try:
        yield VariantProcess(side, channel, process)
    finally:
        channel.close()  # which a pytest that waits for an order takes for the end
        _end(process)
        shutil.copyfile(side.log, kept_log(side))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a pytest, ask it to end, and make it: each for so long; then its own processes."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(signal_number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
