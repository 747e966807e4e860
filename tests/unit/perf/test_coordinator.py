"""The protocol between a comparison and its sides, over real sockets; sides are threads here."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from perfdata.errors import ComparisonError, ConfigError
from perfdata.perf.compare.coordinator import (
    MAX_ROUNDS,
    MIN_ROUNDS,
    Coordinator,
    Limits,
    ScenarioSelection,
    VariantProcess,
    rounds_of,
)
from perfdata.perf.compare.differences import (
    VARIANTS,
    CountDifference,
    ScenarioComparison,
    ScenarioCounts,
    SentStatement,
    Times,
)
from perfdata.perf.compare.participant import PROTOCOL, Channel, RoundTimer, foreign_modules
from perfdata.perf.compare.variants import Variant
from perfdata.perf.model import PlanSource, QueryPlan, ScenarioResult, StatementCount, Verdict
from perfdata.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from perfdata.perf.compare.coordinator import Outcome

TEST = "tests/perf/test_shop.py::test_orders"
ALL = ScenarioSelection()
SHORT = Limits(collect_s=2, ready_s=2, round_s=1, round_times=0)


def counted(queries: int = 2, *plans: tuple[str, ...]) -> ScenarioCounts:
    statement = SentStatement("SELECT 1", queries, queries, plans)
    return ScenarioCounts(
        "orders", "small", {"queries": queries, "rows": queries}, {"f1": statement}
    )


class Actor:
    """Plays a side: what it says can be changed, and where it leaves off."""

    def __init__(
        self,
        seconds: float = 1.0,
        *,
        tests: Sequence[str] = (TEST,),
        result: ScenarioCounts | None = None,
        failed: str = "",
        ready: bool = True,
        leaves_in_round: int = 0,
        hello: dict[str, Any] | None = None,
    ) -> None:
        self.seconds = seconds
        self.tests = list(tests)
        self.result = result or counted()
        self.failed = failed
        self.ready = ready
        self.leaves_in_round = leaves_in_round
        self.hello = {"protocol": PROTOCOL, "errors": [], "foreign": [], **(hello or {})}
        self.rounds = 0

    def play(self, channel: Channel) -> None:
        channel.send(event="hello", tests=self.tests, **self.hello)
        told = channel.receive(5)
        for test in told["tests"] if told else ():
            channel.send(event="start", test=test)
            assert channel.receive(5) == {"order": "go"}
            if self.ready:
                channel.send(event="ready", test=test, warm_s=0.5, data="d", foreign=[])
                self._take(channel, test)
            if self.leaves_in_round and self.rounds >= self.leaves_in_round:
                break
            results = [self.result.to_json()] if self.ready else []
            said = {"failed": self.failed, "skipped": "", "timed": "orders", "results": results}
            channel.send(event="end", test=test, **said)
        channel.close()

    def _take(self, channel: Channel, test: str) -> None:
        while (order := channel.receive(5)) and order["order"] == "round":
            self.rounds += 1
            if self.rounds == self.leaves_in_round:
                return
            channel.send(event="round", test=test, seconds=self.seconds + self.rounds / 1000)


@contextmanager
def peer(name: str, play: Callable[[Channel], None], folder: Path) -> Iterator[VariantProcess]:
    """Have a thread play a side; the process that stands beside it has ended with code 3."""
    ours, theirs = socket.socketpair()
    side = Variant(name, f"the side {name}", folder, folder, folder, "", "")
    side.log.write_text("first line\nthe last line\n")
    ended = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    thread = threading.Thread(target=play, args=(Channel(theirs),))
    thread.start()
    try:
        yield VariantProcess(side, Channel(ours), ended)
    finally:
        ours.close()
        thread.join()
        ended.wait()


def interleaved(tmp_path: Path, *actors: Actor, selection: ScenarioSelection = ALL) -> Outcome:
    with ExitStack() as stack:
        peers = {
            name: stack.enter_context(peer(name, actor.play, tmp_path))
            for name, actor in zip(VARIANTS, actors, strict=True)
        }
        return Coordinator(peers, 10, SHORT, silent).run(selection)


def test_every_side_has_one_turn_a_round_in_an_order_that_changes(tmp_path: Path) -> None:
    actors = Actor(3.0), Actor(1.0), Actor(3.0)
    [one] = interleaved(tmp_path, *actors).scenarios
    assert one.times is not None
    assert [actor.rounds for actor in actors] == [10, 10, 10]
    assert [sorted(order) for order in one.times.order] == [sorted(VARIANTS)] * 10
    assert len({tuple(order) for order in one.times.order}) > 2
    assert one.times.rounds_s["rev"] == [1.0 + number / 1000 for number in range(1, 11)]
    assert one.verdict is Verdict.REGRESSED
    assert one.differences == ()


def test_the_order_is_the_same_in_each_comparison(tmp_path: Path) -> None:
    [one], [other] = (interleaved(tmp_path, Actor(), Actor(), Actor()).scenarios for _ in range(2))
    assert one.times == other.times
    assert one.verdict is Verdict.OK


def test_what_only_one_tree_has_is_said_and_the_rest_is_compared(tmp_path: Path) -> None:
    here = Actor(tests=["new", TEST]), Actor(tests=[TEST, "gone"]), Actor(tests=["new", TEST])
    found = interleaved(tmp_path, *here)
    assert [one.test for one in found.scenarios] == [TEST]
    assert found.notes == ["new: not in the side rev", "gone: only in the side rev"]


def test_nothing_in_common_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"this tree has: {TEST}"):
        interleaved(tmp_path, Actor(), Actor(tests=["other"]), Actor())


def test_only_what_is_wanted_is_run(tmp_path: Path) -> None:
    actors = [Actor(tests=["a", "b", "c"]) for _ in VARIANTS]
    found = interleaved(
        tmp_path, *actors, selection=ScenarioSelection("scenario of b", frozenset({"b"}))
    )
    assert [one.test for one in found.scenarios] == ["b"]


def test_a_test_that_fails_before_its_rounds_is_an_error_and_holds_nobody_up(
    tmp_path: Path,
) -> None:
    found = interleaved(tmp_path, Actor(), Actor(ready=False, failed="no table"), Actor())
    assert found.errors == [f"{TEST}: failed in the side rev: no table"]
    assert found.scenarios == []


def test_a_budget_that_is_broken_after_the_rounds_is_a_note(tmp_path: Path) -> None:
    found = interleaved(tmp_path, Actor(failed="11 queries"), Actor(), Actor())
    assert found.notes == [f"{TEST}: failed after its rounds in the side this: 11 queries"]
    assert len(found.scenarios) == 1
    assert found.errors == []


def test_a_side_that_dies_in_a_round_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ComparisonError) as raised:
        interleaved(tmp_path, Actor(), Actor(leaves_in_round=4), Actor())
    said = str(raised.value)
    assert f"the pytest of the side rev ended with exit code 3 in round 4 of {TEST}" in said
    assert "the last line" in said


def test_a_side_that_says_nothing_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    began = time.monotonic()
    with ExitStack() as stack:
        silent_side = stack.enter_context(peer("rev", _wait, tmp_path))
        with pytest.raises(ComparisonError, match="did not answer for 0 s while collecting"):
            silent_side.expect("hello", limit_s=0.2)
    assert time.monotonic() - began < 5


def _wait(channel: Channel) -> None:
    channel.receive()
    channel.close()


@pytest.mark.parametrize(
    ("hello", "error", "said"),
    [
        ({"protocol": PROTOCOL + 1}, ConfigError, "uses another protocol"),
        (
            {"foreign": ["shop (/here/shop.py)"]},
            ComparisonError,
            "shop (/here/shop.py) was not imported from",
        ),
    ],
)
def test_what_can_not_be_compared_is_refused_by_name(
    hello: dict[str, Any], error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error) as raised:
        interleaved(tmp_path, Actor(), Actor(hello=hello), Actor())
    assert said in str(raised.value)
    assert "the side rev" in str(raised.value)


def test_what_was_counted_differently_is_told_and_is_not_what_the_times_say(
    tmp_path: Path,
) -> None:
    old, new = ("Seq Scan on orders",), ("Index Scan on orders",)
    results = counted(11, new), counted(1, old), counted(11, new)
    [one] = interleaved(tmp_path, *(Actor(result=result) for result in results)).scenarios
    assert one.differences == (
        CountDifference("queries", 11, 1),
        CountDifference("rows", 11, 1),
        CountDifference("calls", 11, 1, "SELECT 1"),
        CountDifference("rows", 11, 1, "SELECT 1"),
        CountDifference("plan", [new], [old], "SELECT 1"),
    )
    assert one.unsteady == ()
    assert one.verdict is Verdict.OK


def test_statements_that_one_side_has_are_told() -> None:
    empty = ScenarioCounts("orders", "small", {}, {})
    compared = ScenarioComparison.of(TEST, empty, counted(), counted(), None)
    assert CountDifference("calls", None, 2, "SELECT 1") in compared.differences
    assert CountDifference("queries", None, 2) in compared.unsteady
    assert compared.verdict is None


def test_counts_come_back_as_they_were_sent() -> None:
    plan = QueryPlan(("Sort", "  Seq Scan on orders"), 1, 5, 0, 0)
    statement = StatementCount("f1", "SELECT 1", 2, 3, plans=(plan,))
    result = ScenarioResult(
        scenario="orders",
        test=TEST,
        dataset="small",
        statements=(statement,),
        plan_source=PlanSource.EXPLAIN,
    )
    sent = ScenarioCounts.of(result)
    assert ScenarioCounts.from_json(sent.to_json()) == sent
    assert sent.counters["buffers"] == 5
    assert sent.statements["f1"].plans == (plan.signature,)


@pytest.mark.parametrize(
    ("duration_s", "rounds"), [(0.0, MAX_ROUNDS), (0.1, 50), (9.0, MIN_ROUNDS)]
)
def test_there_are_as_many_rounds_as_fit(duration_s: float, rounds: int) -> None:
    assert rounds_of(duration_s) == rounds


def test_rounds_are_taken_when_they_are_ordered_each_between_setup_and_teardown() -> None:
    done: list[str] = []
    orders = iter([{"order": "round"}, {"order": "round"}, {"order": "enough"}])
    asked: list[tuple[str, dict[str, Any]]] = []

    def ask(event: str, **said: Any) -> dict[str, Any]:
        asked.append((event, said))
        return next(orders)

    rounds = RoundTimer(ask)
    rounds.pedantic(
        lambda: done.append("run"),
        setup=lambda: done.append("begin"),
        teardown=lambda: done.append("undo"),
    )
    assert done == ["begin", "run", "undo"] * 3
    assert [event for event, _ in asked] == ["ready", "round", "round"]
    assert rounds.stats.stats.rounds == 2
    assert rounds.stats.stats.data == [said["seconds"] for _, said in asked[1:]]
    assert not rounds.disabled


def test_without_a_round_nothing_was_timed() -> None:
    rounds = RoundTimer(lambda *_, **__: {"order": "enough"})
    rounds.pedantic(lambda: None)
    assert rounds.disabled


def test_modules_of_another_tree_are_foreign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, other = tmp_path / "other" / "tree", tmp_path / "other"
    for folder in (tree / "src", other):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "shop_of_test.py").touch()
    module = type(sys)("shop_of_test")
    monkeypatch.setitem(sys.modules, "shop_of_test", module)

    module.__file__ = str(other / "shop_of_test.py")
    assert list(foreign_modules(tree, other, "else")) == [f"shop_of_test ({module.__file__})"]
    module.__file__ = str(tree / "src" / "shop_of_test.py")
    assert list(foreign_modules(tree, other, "else")) == []
    module.__file__ = str(other / "lib" / "site-packages" / "shop_of_test.py")
    assert list(foreign_modules(tree, other, "else")) == []
    # An installed copy of the project, which the tree has too.
    assert list(foreign_modules(tree, None, "shop_of_test")) == [
        f"shop_of_test ({module.__file__})"
    ]


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = map(Channel, socket.socketpair())
    yield ours, theirs
    ours.close()
    theirs.close()


def test_an_end_that_closed_is_told_by_receive_not_by_send(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    theirs.send(text="すずき\n", number=1.5)
    theirs.close()
    assert ours.receive(1) == {"text": "すずき\n", "number": 1.5}
    for _ in range(3):
        ours.send(order="round")
    assert ours.receive(1) is None


def test_messages_of_any_length_and_number_arrive_whole(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    texts = ["a", "b" * 300_000, "c"]

    def send() -> None:
        for text in texts:
            theirs.send(text=text)

    sender = threading.Thread(target=send)
    sender.start()
    assert [(ours.receive(5) or {})["text"] for _ in texts] == texts
    sender.join()
    with pytest.raises(TimeoutError):
        ours.receive(0.05)


def test_times_that_do_not_differ_leave_all_three_changes_at_nothing() -> None:
    times = Times({side: [1.0] * 10 for side in VARIANTS}, [list(VARIANTS)] * 10)
    assert times.change == times.again == times.same
    assert times.change.relative == 0
