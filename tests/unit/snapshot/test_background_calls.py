from __future__ import annotations

import threading

import pytest

from perfdata.snapshot.format.writer import BackgroundCalls


def test_calls_are_made_in_turn_in_another_thread_and_are_done_at_the_end() -> None:
    made: list[tuple[int, int]] = []
    with BackgroundCalls() as turns:
        for number in range(100):
            turns.add(lambda number: made.append((number, threading.get_ident())), number)
    assert [number for number, _ in made] == list(range(100))
    assert {ident for _, ident in made}.isdisjoint({threading.get_ident()})


def test_only_so_many_calls_wait() -> None:
    """Memory stays flat where the caller is quicker."""
    waiting = threading.Event()
    held: list[int] = []

    def fill() -> None:
        with BackgroundCalls() as turns:
            for number in range(1000):
                held.append(number)
                turns.add(waiting.wait)

    thread = threading.Thread(target=fill)
    thread.start()
    thread.join(0.3)
    assert len(held) < 20
    waiting.set()
    thread.join()
    assert len(held) == 1000


def test_what_a_call_raises_ends_it() -> None:
    made: list[int] = []

    def call(number: int) -> None:
        if number == 3:
            raise ValueError("three")
        made.append(number)

    def run() -> None:
        with BackgroundCalls() as turns:
            for number in range(5):
                turns.add(call, number)

    with pytest.raises(ValueError, match="three"):
        run()


def test_what_the_caller_raises_goes_before() -> None:
    def run() -> None:
        with BackgroundCalls() as turns:
            turns.add(int, "no number")
            raise KeyError("the caller's")

    with pytest.raises(KeyError):
        run()
