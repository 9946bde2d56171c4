"""What the ledger offers to a simulated clock: copies that count alike, and what is in the way."""

from __future__ import annotations

import math

import pytest

from relay.delivery.quota.ledger import Ledger
from relay.settings import Limit, Pause

SECOND = Limit(10, 1.0, "10/second")
HOUR = Limit(50, 3600.0, "50/hour")


@pytest.mark.parametrize("at", [0.0003, 17.0, 12_345.678, 2_000_000.1])
def test_a_copy_allows_what_the_ledger_allows_and_neither_moves_the_other(at: float) -> None:
    ledger = Ledger((SECOND, HOUR), pause=Pause(20, 5.0), reserve=0.1)
    for n in range(8):
        ledger.take(1, at + n * 0.1)
        if n < 6:
            ledger.answered(1, at + n * 0.1 + 0.05)
    copy = ledger.copy()
    for later in (0.8, 1.06, 1.2, 2.0, 3600.0, 3620.0):
        assert copy.room(at + later) == ledger.room(at + later)
        assert copy.free_at(at + later) == ledger.free_at(at + later)
    assert copy.until_pause == ledger.until_pause == 12
    copy.take(5, at + 4000, 5)
    assert (copy.in_flight, ledger.in_flight) == (7, 2)
    assert copy.until_pause == 7
    assert ledger.until_pause == 12


def test_an_unused_copy_has_the_terms_alone() -> None:
    ledger = Ledger((SECOND,), even=False, reserve=0.2)
    ledger.take(8, 5.0)
    copy = ledger.copy(unused=True)
    assert copy.terms == ledger.terms == ((SECOND,), False, None, 0.2)
    assert copy.in_flight == 0
    assert copy.room(5.0) == 8
    assert copy.until_pause == math.inf


def test_the_obstacle_is_what_forbids_longest() -> None:
    pause = Pause(10, 2.0)
    ledger = Ledger((SECOND, HOUR), pause=pause)
    assert ledger.obstacle(0.0) is None
    ledger.take(10, 0.0, 10)
    ledger.answered(10, 0.0)
    assert ledger.obstacle(0.5) is pause
    assert ledger.obstacle(3.0) is None
    for n in range(1, 5):
        ledger.take(10, n * 10.0, 10)
        ledger.answered(10, n * 10.0)
    assert ledger.obstacle(100.0) is HOUR
    assert Ledger((SECOND,)).obstacle(0.0) is None


def test_many_transactions_count_as_many_for_a_pause() -> None:
    ledger = Ledger((), pause=Pause(50, 5.0))
    ledger.take(49, 0.0, 49)
    assert ledger.room(0.0)
    ledger.take(1, 0.0)
    assert not ledger.room(4.9)
    assert ledger.room(5.1)
