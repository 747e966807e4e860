"""Rounds in turn: what a pytest does that takes part in a comparison (perfdata.perf.compare).

It is told by PERFDATA_COMPARE, an object as JSON: ``fd``, its end of a Channel; ``tree``, the
folder its code must come from; ``other``, the tree that it must not come from, or null;
``project``, the module that the settings name. The events it sends, each with the order that it
then waits for:

    hello   protocol, tests, errors, foreign     → run    tests: which, in this order
    start   test                                 → go
    ready   test, warm_s, data, foreign          → round, or enough
    round   test, seconds                        → round, or enough
    end     test, failed, skipped, timed, results

``errors`` are of the collection, ``foreign`` the modules that came from elsewhere, ``data`` the
digest of the snapshot that the scenario runs on, ``failed`` and ``skipped`` say why and are empty
where it was not, ``results`` are ScenarioCounts, ``timed`` is the scenario that the rounds were of.
Whoever changes any of this changes PROTOCOL.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from perfdata.perf.compare.differences import ScenarioCounts
from perfdata.perf.report.results import result_from_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PROTOCOL = 1
VARIABLE = "PERFDATA_COMPARE"
CHILD_PLUGIN = "perfdata-compare"
_BLOCK_BYTES = 1 << 16
_TAIL = 12  # lines of a failure's text: they stand among others' in one report
# Where a project's modules may lie in its tree: as it is, in src, or in a folder for one part.
_PLACES = ("", "src/", "*/", "*/src/")


class Channel:
    """One end of the channel between a comparison and a pytest: lines of JSON over a socket."""

    def __init__(self, end: socket.socket) -> None:
        """Take a connected socket, which is closed with the channel."""
        self._end = end
        self._received = bytearray()

    def send(self, **message: Any) -> None:
        """Send a message; to an end that has closed it is lost, which ``receive`` tells."""
        line = json.dumps(message, ensure_ascii=False) + "\n"
        self._end.settimeout(None)
        try:
            self._end.sendall(line.encode())
        except (BrokenPipeError, ConnectionResetError):
            return

    def receive(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        """Return the next message; None where the other end has closed.

        Raises TimeoutError where none comes in time.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (end := self._received.find(b"\n")) < 0:
            left = None if deadline is None else max(deadline - time.monotonic(), 1e-3)
            self._end.settimeout(left)
            try:
                block = self._end.recv(_BLOCK_BYTES)
            except ConnectionResetError:
                return None
            if not block:
                return None
            self._received += block
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        """Close this end: the other finds nothing more to receive."""
        self._end.close()


def take_part() -> Participant:
    """Make the plugin of a pytest that takes part in a comparison, as the environment says."""
    told = json.loads(os.environ.pop(VARIABLE))  # a pytest that a test starts takes no part
    os.set_inheritable(told["fd"], False)  # noqa: FBT003  it takes it by position
    other = told["other"] and Path(told["other"])
    return Participant(
        Channel(socket.socket(fileno=told["fd"])), Path(told["tree"]), other, told["project"]
    )


class Participant:
    """The plugin that runs the tests that it is told to, in turn with the other sides."""

    def __init__(self, channel: Channel, tree: Path, other: Path | None, project: str) -> None:
        """Take the channel to the comparison, and what take_part read."""
        self._channel = channel
        self._foreign: Callable[[], list[str]] = lambda: sorted(
            foreign_modules(tree, other, project)
        )
        self._errors: list[str] = []
        self._told: dict[str, Any] = {}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep what could not be collected."""
        if report.failed:
            self._errors.append(f"{report.nodeid}: {_tail(report.longreprtext)}")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Say which tests are here, and keep those that are on both sides."""
        found = {item.nodeid: item for item in items if "perf" in getattr(item, "fixturenames", ())}
        said = {"protocol": PROTOCOL, "errors": self._errors, "foreign": self._foreign()}
        order = self.ask("hello", tests=list(found), **said)
        items[:] = [found[name] for name in order["tests"]]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        """Wait until it is this test's turn: no two sides prepare at the same time."""
        self.ask("start", test=item.nodeid)
        self._told = {"failed": "", "skipped": "", "timed": None, "results": []}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a test measured, and why it failed."""
        if report.failed:
            self._told["failed"] = _tail(report.longreprtext)
        elif report.skipped:
            self._told["skipped"] = _reason(report.longrepr)
        found = vars(report).get("perfdata") or {"results": []}
        if results := [result_from_json(one) for one in found["results"]]:
            self._told["results"] = [ScenarioCounts.of(one).to_json() for one in results]
            timed = max(results, key=lambda one: one.time.rounds if one.time else 0)
            self._told["timed"] = timed.scenario if timed.time else None

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Say how a test ended."""
        self._channel.send(event="end", test=nodeid, **self._told)

    def pytest_unconfigure(self) -> None:
        """Leave the comparison."""
        self._channel.close()

    def ask(self, event: str, **said: Any) -> dict[str, Any]:
        """Send an event and wait for the order; where there is nobody any more, end the session."""
        self._channel.send(event=event, **said)
        order = self._channel.receive()
        if order is None:
            pytest.exit("the comparison has ended", returncode=3)
        return order

    def rounds(self, test: str, data: str) -> RoundTimer:
        """Make what stands in pytest-benchmark's place for a test."""

        def ask(event: str, **said: Any) -> dict[str, Any]:
            return self.ask(event, test=test, **said)

        return RoundTimer(ask, lambda: {"data": data, "foreign": self._foreign()})


class RoundTimer:
    """Times rounds when it is told to, in the place of pytest-benchmark's fixture.

    Where no round was wanted it is as if timing were disabled.
    """

    def __init__(
        self, ask: Callable[..., dict[str, Any]], facts: Callable[[], dict[str, Any]]
    ) -> None:
        """Take a function that sends an event and returns the order, and one for ready's facts."""
        self._ask = ask
        self._facts = facts
        self.disabled = False
        self.skipped = False
        self.extra_info: dict[str, Any] = {}
        self.stats: Any = None

    def pedantic(
        self,
        target: Callable[..., Any],
        setup: Callable[[], Any] = lambda: None,
        teardown: Callable[[], Any] = lambda: None,
        **_options: Any,
    ) -> None:
        """Run one round to know how long it takes, then each that is ordered."""

        def take() -> float:
            setup()
            began = time.perf_counter()
            target()
            seconds = time.perf_counter() - began
            teardown()
            return seconds

        taken: list[float] = []
        order = self._ask("ready", warm_s=take(), **self._facts())
        while order["order"] == "round":
            taken.append(take())
            order = self._ask("round", seconds=taken[-1])
        self.disabled = not taken
        if taken:
            found = {"median": median(taken), "min": min(taken), "rounds": len(taken)}
            self.stats = SimpleNamespace(stats=SimpleNamespace(**found, data=taken))


def foreign_modules(tree: Path, other: Path | None, project: str) -> Iterator[str]:
    """Yield the imported modules that are the application's and came from another tree than this.

    An editable install, or an import path made absolute, brings them from ``other``; an installed
    copy of the project that stands before the tree's, from among the installed packages.
    """
    top = project.partition(".")[0]
    names = (f"{place}{top}{end}" for place in _PLACES for end in (".py", "/__init__.py"))
    here = any(True for name in names for _ in tree.glob(name))
    for name, path in _module_files(list(sys.modules.items())):
        if path.is_relative_to(tree):
            continue
        elsewhere = other is not None and path.is_relative_to(other) and not _installed(path)
        if elsewhere or (here and name.partition(".")[0] == top):
            yield f"{name} ({path})"


def _module_files(modules: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Path]]:
    for name, module in modules:
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and name != "__main__":
            yield name, Path(file).resolve()


def _installed(path: Path) -> bool:
    prefixes = {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
    return "site-packages" in path.parts or any(map(path.is_relative_to, prefixes))


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_TAIL:])


def _reason(longrepr: object) -> str:
    return str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)
