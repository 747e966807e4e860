"""The participants of a comparison: the plugin of a variant's pytest, and its protocol.

PERFDATA_COMPARE is a JSON object with ``fd``, the file descriptor of the Channel; ``tree``, the
folder from which code must be imported; ``other``, the tree from which it must not, or null; and
``project``, the module in the settings. The participant sends these events, and waits for the
order after each:

    hello   protocol, tests, errors, foreign     → run    tests: those to run, in this order
    start   test                                 → go
    ready   test, warm_s, data, foreign          → round, or enough
    round   test, seconds                        → round, or enough
    end     test, failed, skipped, timed, results

``errors`` are pytest's of the collection, ``foreign`` the modules imported from elsewhere, ``data``
is the digest of the snapshot. ``failed`` and ``skipped`` give the reason or are empty, ``results``
are ScenarioCounts, ``timed`` is the scenario that was timed. Every change of the events or orders
needs a new PROTOCOL.
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

from perfdata.perf.compare.build_output import MODULE_FOLDERS
from perfdata.perf.compare.differences import ScenarioCounts
from perfdata.perf.report.results import result_from_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PROTOCOL = 1
VARIABLE = "PERFDATA_COMPARE"
PARTICIPANT_PLUGIN = "perfdata-compare"
_BLOCK_BYTES = 1 << 16
_TAIL = 12  # lines of a failure's text


class Channel:
    """One end of the channel between a comparison and a pytest: lines of JSON over a socket."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._received = bytearray()

    def send(self, **message: Any) -> None:
        """Send a message; it is lost if the other end has closed, and ``receive`` returns None."""
        line = json.dumps(message, ensure_ascii=False) + "\n"
        self._end.settimeout(None)
        try:
            self._end.sendall(line.encode())
        except (BrokenPipeError, ConnectionResetError):
            return

    def receive(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        """Return the next message; None if the other end has closed.

        Raises TimeoutError if none arrives in time.
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
        """Close this end; the other end then receives None."""
        self._end.close()


def take_part() -> Participant:
    """Make the plugin of a pytest that takes part in a comparison, from the environment."""
    options = json.loads(os.environ.pop(VARIABLE))  # not for a pytest that a test starts
    os.set_inheritable(options["fd"], False)  # noqa: FBT003  positional-only
    channel = Channel(socket.socket(fileno=options["fd"]))
    other = options["other"] and Path(options["other"])
    return Participant(channel, Path(options["tree"]), other, options["project"])


class Participant:
    """The plugin that runs the ordered tests, in turn with the other variants."""

    def __init__(self, channel: Channel, tree: Path, other: Path | None, project: str) -> None:
        self._channel = channel
        self._tree = tree
        self._other = other
        self._project = project
        self._errors: list[str] = []
        self._end: dict[str, Any] = {}  # the fields of the running test's end event

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep the errors of the collection."""
        if report.failed:
            self._errors.append(f"{report.nodeid}: {_tail(report.longreprtext)}")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Send the collected perf tests, and keep the ordered ones."""
        found = {item.nodeid: item for item in items if "perf" in getattr(item, "fixturenames", ())}
        hello = {"protocol": PROTOCOL, "errors": self._errors, "foreign": self._foreign()}
        order = self.ask("hello", tests=list(found), **hello)
        items[:] = [found[name] for name in order["tests"]]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        """Wait for this test's turn: only one variant prepares a test at a time."""
        self.ask("start", test=item.nodeid)
        self._end = {"failed": "", "skipped": "", "timed": None, "results": []}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a test's results, and the reason of a failure."""
        if report.failed:
            self._end["failed"] = _tail(report.longreprtext)
        elif report.skipped:
            self._end["skipped"] = _reason(report.longrepr)
        attached = vars(report).get("perfdata") or {"results": []}
        if results := list(map(result_from_json, attached["results"])):
            self._end["results"] = [ScenarioCounts.of(result).to_json() for result in results]
            timed = max(results, key=lambda result: result.time.rounds if result.time else 0)
            self._end["timed"] = timed.scenario if timed.time else None

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Send the end of a test."""
        self._channel.send(event="end", test=nodeid, **self._end)

    def pytest_unconfigure(self) -> None:
        """Leave the comparison."""
        self._channel.close()

    def ask(self, event: str, **fields: Any) -> dict[str, Any]:
        """Send an event, and return the order; end the session if the comparison has ended."""
        self._channel.send(event=event, **fields)
        order = self._channel.receive()
        if order is None:
            pytest.exit("the comparison has ended", returncode=3)
        return order

    def timer(self, test: str, data: str) -> RoundTimer:
        """Return a test's replacement for pytest-benchmark's fixture."""

        def ask(event: str, **fields: Any) -> dict[str, Any]:
            if event == "ready":
                fields |= {"data": data, "foreign": self._foreign()}
            return self.ask(event, test=test, **fields)

        return RoundTimer(ask)

    def _foreign(self) -> list[str]:
        return sorted(foreign_modules(self._tree, self._other, self._project))


class RoundTimer:
    """Times rounds on order; replaces pytest-benchmark's fixture.

    ``ask`` sends an event and returns the order. Without any round, timing counts as disabled.
    """

    def __init__(self, ask: Callable[..., dict[str, Any]]) -> None:
        self._ask = ask
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
        """Run one round to know its duration, then the ordered ones."""

        def take() -> float:
            setup()
            began = time.perf_counter()
            target()
            seconds = time.perf_counter() - began
            teardown()
            return seconds

        taken: list[float] = []
        order = self._ask("ready", warm_s=take())
        while order["order"] == "round":
            taken.append(take())
            order = self._ask("round", seconds=taken[-1])
        self.disabled = not taken
        if taken:
            found = {"median": median(taken), "min": min(taken), "rounds": len(taken)}
            self.stats = SimpleNamespace(stats=SimpleNamespace(**found, data=taken))


def foreign_modules(tree: Path, other: Path | None, project: str) -> Iterator[str]:
    """Yield the application's imported modules that are not from ``tree``.

    Such modules come from ``other`` through an editable install or an absolute import path, or from
    site-packages if an installed copy of the project precedes the tree.
    """
    top = project.partition(".")[0]
    names = (f"{prefix}{top}{end}" for prefix in MODULE_FOLDERS for end in (".py", "/__init__.py"))
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
