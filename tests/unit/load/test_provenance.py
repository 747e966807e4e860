from __future__ import annotations

import pytest

from perfdata.load.provenance import Provenance, _with_epoch, latest

EPOCH = 1 << 32


@pytest.mark.parametrize(
    ("xmin", "upcoming", "number"),
    [
        (799, 800, 799),
        (800, 800, 800),
        (805, 800, 805),  # one that runs, while others with lower numbers run too
        (5, EPOCH + 9, EPOCH + 5),
        (EPOCH - 3, EPOCH + 9, EPOCH - 3),  # before the numbers began again
        (4, EPOCH - 2, EPOCH + 4),
        (5, 7 * EPOCH + 9, 7 * EPOCH + 5),
    ],
)
def test_a_rows_transaction_has_the_epoch_of_its_neighbours(
    xmin: int, upcoming: int, number: int
) -> None:
    assert _with_epoch(xmin, upcoming) == number


def test_transactions_that_can_be_taken_for_later_ones_are_left_out() -> None:
    spans = [(5, 5), (EPOCH - 2, EPOCH + 2), (EPOCH + 3, EPOCH + 4)]
    provenance = Provenance(spans, spans, ["item"])
    assert provenance.current(10).loads == [(5, 5), (EPOCH + 3, EPOCH + 4)]
    later = provenance.current(EPOCH + 10)
    assert later == Provenance([(EPOCH + 3, EPOCH + 4)], [(EPOCH + 3, EPOCH + 4)], ["item"])
    assert provenance.current(3 * EPOCH).loads == []


def test_a_mark_names_the_last_transactions_each_once() -> None:
    spans = [[n, n] for n in range(30)]
    assert latest([*spans, [28, 28]]) == [(n, n) for n in (*range(10, 28), 29, 28)]
    assert latest(spans, 25) == [(n, n) for n in range(5, 30)]
