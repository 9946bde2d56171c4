"""Taking turns with applications: bounds of delivery's share, no starvation, full speed when the door is quiet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.yielding import (
    AT_ONCE,
    BURST,
    LISTENED,
    OCTETS,
    PACE,
    PATIENCE,
    PER_SLICE,
    PORTION,
    QUIET,
    RECENT,
    SLICE,
    SPELL,
    WHOLE,
    Yielding,
)

TICK = 0.001

loads = st.lists(st.integers(0, 5), min_size=1, max_size=300)
"""Messages taken in each millisecond of a door that is never quiet."""


def begun_in(load: list[int], held: int) -> list[int]:
    """How many begin in each millisecond, where there is always more to do."""
    yielding = Yielding()
    began = []
    for step, taken in enumerate(load):
        now = 1000 + step * TICK
        yielding.heard(now, held)
        for _ in range(taken):
            yielding.took(now, held)
        count = 0
        while not yielding.wait(now):
            yielding.began(2000)
            count += 1
        began.append(count)
    return began


@given(loads)
def test_delivery_gets_its_part_and_no_more(load: list[int]) -> None:
    began = sum(begun_in(load, AT_ONCE))
    patient = 1 + len(load) * TICK / PATIENCE
    assert began <= sum(load) / PER_SLICE + patient * SLICE
    assert sum(begun_in(load, 0)) <= began + AT_ONCE


def test_a_burst_begins_at_once_unless_much_is_waiting_already() -> None:
    assert begun_in([1], 0) == [AT_ONCE]
    assert begun_in([1], AT_ONCE - 7) == [7]
    assert begun_in([1], AT_ONCE) == [0]


def test_a_gap_in_a_burst_does_not_begin_another() -> None:
    yielding = Yielding()
    visit(yielding, 10.0)
    yielding.heard(10.1, 0)
    assert yielding.wait(10.1) > 0
    yielding.heard(10.1 + RECENT, 0)
    assert not yielding.wait(10.1 + RECENT)


@given(loads)
def test_delivery_never_starves(load: list[int]) -> None:
    began = begun_in(load, AT_ONCE)
    most = round(PATIENCE / TICK) + 1
    for start in range(len(began) - most):
        assert sum(began[start : start + most]) > 0


@given(loads)
def test_once_a_burst_stands_in_memory_delivery_keeps_pace(load: list[int]) -> None:
    assert sum(begun_in(load, BURST)) > sum(load) - SLICE


@given(loads, st.integers(1, 1000))
def test_a_quiet_door_holds_nothing_up(load: list[int], asks: int) -> None:
    yielding = Yielding()
    for step in range(len(load)):
        yielding.heard(1000 + step * TICK, AT_ONCE)
        yielding.wait(1000 + step * TICK)
    now = 1000 + len(load) * TICK
    waited = 0.0
    while wait := yielding.wait(now):
        assert wait > 0
        now += wait
        waited += wait
    assert waited <= QUIET + LISTENED + TICK
    for _ in range(asks):
        yielding.began(2000)
        assert not yielding.wait(now + RECENT)


def test_silence_must_be_heard_twice() -> None:
    yielding = Yielding()
    yielding.heard(10.0, AT_ONCE)
    yielding.wait(10.0)
    # The process had no processor for a while: what clients said may not have been read.
    assert yielding.wait(10.04) == pytest.approx(LISTENED)
    yielding.heard(10.0405, AT_ONCE)
    assert yielding.wait(10.041) > 0


def test_a_door_that_nobody_came_to_is_quiet() -> None:
    assert not Yielding().wait(5.0)


def test_a_large_message_takes_more_of_a_slice() -> None:
    yielding = Yielding()
    yielding.heard(10.0, AT_ONCE)
    for _ in range(SLICE * PER_SLICE):
        yielding.took(10.0, 0)
    assert not yielding.wait(10.0)
    yielding.began(SLICE * OCTETS)
    assert yielding.wait(10.0) > 0


def visit(yielding: Yielding, at: float) -> float:
    """A client comes and goes; when the door is quiet."""
    yielding.heard(at, AT_ONCE)
    now = at
    while not yielding.is_quiet(now):
        now += TICK
        yielding.wait(now)
    return now


def test_where_clients_come_and_go_work_comes_in_portions() -> None:
    yielding = Yielding()
    assert yielding.portion(9.0) == WHOLE
    visit(yielding, 10.0)
    assert yielding.portion(10.1) == WHOLE, "a burst that has ended"
    visit(yielding, 10.2)
    assert yielding.portion(10.3) == PORTION
    assert yielding.portion(10.2 + RECENT) == WHOLE


def test_where_clients_come_and_go_a_quiet_door_is_left_by_slices() -> None:
    yielding = Yielding()
    visit(yielding, 10.0)
    now = visit(yielding, 10.1)
    began = 0
    for step in range(100):
        while not yielding.wait(now + step * TICK):
            yielding.began(2000)
            began += 1
    assert began == pytest.approx(SLICE * 100 * TICK / PACE, abs=SLICE)


def test_a_burst_with_gaps_is_no_visitor() -> None:
    yielding = Yielding()
    now = 10.0
    for _ in range(20):
        for _ in range(20):
            yielding.took(now, 0)
        now = visit(yielding, now) + TICK
    assert yielding.portion(now) == WHOLE
    assert yielding.portion(visit(yielding, now + 3 * SPELL)) == PORTION


def test_a_commit_that_is_near_is_known() -> None:
    yielding = Yielding()
    assert not yielding.is_busy(9.0)
    yielding.heard(10.0, AT_ONCE)
    assert yielding.is_busy(10.0 + QUIET / 2)
    assert not yielding.is_busy(10.0 + QUIET * 2)
