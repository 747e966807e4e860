"""The randomisation test: what holds always, and how often it is wrong on simulated noise."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfdata.perf.compare.differences import (
    FEWEST_ROUNDS,
    MedianChange,
    compare_medians,
    judge_change,
)
from perfdata.perf.model import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    Noise = Callable[[random.Random], float]

ROUNDS = 30
EXPERIMENTS = 150
SAME = MedianChange(0.0, 0.01)
MIRRORED = {Verdict.REGRESSED: Verdict.IMPROVED, Verdict.IMPROVED: Verdict.REGRESSED}

_times = st.floats(min_value=1e-4, max_value=1e2)
paired_times = st.lists(st.tuples(_times, _times), min_size=FEWEST_ROUNDS, max_size=40)


def quiet(draw: random.Random) -> float:
    return draw.lognormvariate(0, 0.03)


def loud(draw: random.Random) -> float:
    return draw.lognormvariate(0, 0.15)


def heavy_tailed(draw: random.Random) -> float:
    """One round in ten meets something that may take many times as long: no finite variance."""
    return draw.lognormvariate(0, 0.05) + (draw.random() < 0.1) * 0.2 * draw.paretovariate(1.2)


def two_levels(draw: random.Random) -> float:
    """A machine that runs three rounds in ten at another clock rate."""
    return draw.lognormvariate(0, 0.03) * (1.3 if draw.random() < 0.3 else 1)


def verdicts(
    noise: Noise, *, slower: float = 1, other_noise: Noise | None = None, drift: float = 0
) -> Counter[Verdict]:
    """Judge EXPERIMENTS, in each of which the machine becomes slower by ``drift`` meanwhile."""
    draw = random.Random(6)  # noqa: S311  simulated noise
    found: Counter[Verdict] = Counter()
    for seed in range(EXPERIMENTS):
        weather = [1 + drift * number / ROUNDS for number in range(ROUNDS)]
        this, again = ([slower * one * noise(draw) for one in weather] for _ in range(2))
        rev = [one * (other_noise or noise)(draw) for one in weather]
        pairs = ((this, rev), (again, rev), (this, again))
        found[judge_change(*(compare_medians(*pair, draws=100, seed=seed) for pair in pairs))] += 1
    return found


def share(found: Counter[Verdict], *wanted: Verdict) -> float:
    return sum(found[one] for one in wanted) / found.total()


@pytest.mark.parametrize("drift", [0, 1])
@pytest.mark.parametrize("noise", [quiet, loud, heavy_tailed, two_levels])
def test_what_did_not_change_is_hardly_ever_said_to_have(noise: Noise, drift: float) -> None:
    """Nominally 5 in 100 lie above the null; 5 % of change and the A/A leave fewer of them."""
    assert share(verdicts(noise, drift=drift), Verdict.REGRESSED, Verdict.IMPROVED) <= 0.1


def test_sides_that_are_not_as_noisy_are_not_taken_for_changed() -> None:
    """Here a test that swaps the two sides' rounds is wrong in a third of the cases."""
    for one, other in ((quiet, loud), (loud, quiet)):
        found = verdicts(one, other_noise=other)
        assert share(found, Verdict.REGRESSED, Verdict.IMPROVED) <= 0.12


def test_a_quiet_machine_is_ok_and_a_loud_one_unstable() -> None:
    assert share(verdicts(quiet), Verdict.OK) >= 0.98
    assert share(verdicts(loud), Verdict.UNSTABLE) >= 0.8


@pytest.mark.parametrize(
    ("noise", "slower", "found_at_least"),
    [
        (quiet, 1.1, 0.95),
        (heavy_tailed, 1.1, 0.6),
        (quiet, 1.3, 1.0),
        (heavy_tailed, 1.3, 0.98),
        (two_levels, 1.3, 0.9),
        (loud, 5, 1.0),
    ],
)
def test_what_became_slower_is_found(noise: Noise, slower: float, found_at_least: float) -> None:
    found = verdicts(noise, slower=slower, drift=0.5)
    assert share(found, Verdict.REGRESSED) >= found_at_least
    assert not found[Verdict.IMPROVED]


@settings(deadline=None)
@given(paired_times, st.integers(0, 9))
def test_sides_that_change_places_have_the_mirrored_verdict(
    pairs: list[tuple[float, float]], seed: int
) -> None:
    one, other = ([pair[place] for pair in pairs] for place in (0, 1))
    change = compare_medians(one, other, draws=40, seed=seed)
    mirrored = compare_medians(other, one, draws=40, seed=seed)
    assert mirrored.null_95 == pytest.approx(change.null_95, rel=1e-6, abs=1e-9)
    assert mirrored.factor == pytest.approx(change.factor, rel=1e-6, abs=1e-9)
    if abs(change.factor / max(0.05, change.null_95) - 1) > 1e-6:
        verdict = judge_change(change, change, SAME)
        assert judge_change(mirrored, mirrored, SAME) is MIRRORED.get(verdict, verdict)


@settings(deadline=None)
@given(paired_times, st.floats(min_value=0.1, max_value=100))
def test_a_change_of_one_side_moves_the_change_and_leaves_the_null(
    pairs: list[tuple[float, float]], slower: float
) -> None:
    one, other = ([pair[place] for pair in pairs] for place in (0, 1))
    before = compare_medians(one, other, draws=40)
    after = compare_medians([slower * time for time in one], other, draws=40)
    assert after.null_95 == pytest.approx(before.null_95, rel=1e-6, abs=1e-9)
    assert 1 + after.relative == pytest.approx(slower * (1 + before.relative), rel=1e-6)


def test_twice_and_half_are_as_far() -> None:
    assert (
        MedianChange(1.0, 0.0).factor
        == pytest.approx(MedianChange(-0.5, 0.0).factor)
        == pytest.approx(1.0)
    )


def test_times_without_noise_have_no_null() -> None:
    change = compare_medians([2.0] * 10, [1.0] * 10)
    assert change.relative == pytest.approx(1.0)
    assert change.null_95 == 0


def test_a_few_bad_rounds_move_nothing() -> None:
    calm = [1 + number / 1000 for number in range(ROUNDS)]
    struck = [time * (100 if number % 10 == 0 else 1) for number, time in enumerate(calm)]
    change = compare_medians(struck, calm)
    assert change.factor < 0.01
    assert change.null_95 < 0.02


@pytest.mark.parametrize(
    ("relative", "null", "same", "verdict"),
    [
        (0.06, 0.02, 0.01, Verdict.REGRESSED),
        (-0.06, 0.02, 0.01, Verdict.IMPROVED),
        (0.049, 0.02, 0.01, Verdict.OK),
        (0.06, 0.06, 0.01, Verdict.UNSTABLE),  # above 5 %, not above the noise
        (0.30, 0.06, 0.01, Verdict.REGRESSED),  # far above the noise, however loud that is
        (0.06, 0.02, 0.07, Verdict.UNSTABLE),  # the same tree differs from itself by more
        (0.20, 0.02, -0.07, Verdict.REGRESSED),
        (0.00, 0.08, 0.00, Verdict.UNSTABLE),
        (0.00, 0.02, -0.06, Verdict.UNSTABLE),
    ],
)
def test_verdicts(relative: float, null: float, same: float, verdict: Verdict) -> None:
    change = MedianChange(relative, null)
    assert judge_change(change, change, MedianChange(same, 0.01)) is verdict


def test_what_only_one_process_of_this_tree_shows_is_unstable() -> None:
    """Such a process is slower than the other of the same code too, but hardly less so."""
    slow, usual = MedianChange(0.09, 0.02), MedianChange(0.01, 0.02)
    assert judge_change(slow, usual, MedianChange(0.08, 0.02)) is Verdict.UNSTABLE
    assert judge_change(usual, slow, MedianChange(-0.08, 0.02)) is Verdict.UNSTABLE


def test_the_same_times_give_the_same_answer() -> None:
    draw = random.Random(3)  # noqa: S311  simulated noise
    one, other = ([loud(draw) for _ in range(ROUNDS)] for _ in range(2))
    first = compare_medians(one, other)
    assert first == compare_medians(one, other)
    assert first.null_95 != compare_medians(one, other, seed=2).null_95
    assert math.isfinite(first.null_95)


@pytest.mark.parametrize(("one", "other"), [(9, 9), (12, 11), (0, 0)])
def test_too_few_rounds_and_rounds_without_a_pair_are_refused(one: int, other: int) -> None:
    with pytest.raises(ValueError, match=f"at least 10; got {one} and {other}"):
        compare_medians([1.0] * one, [1.0] * other)
