"""Which upstream takes mail now, which session, how many more."""

from __future__ import annotations

import math

import pytest

from relay.delivery.backoff import Circuit
from relay.delivery.pool import Place, place, to_open
from relay.delivery.schedule import Plan, plan

UP, LATER, DUE = Circuit(), Circuit(1, 110.0), Circuit(1, 90.0)


@pytest.mark.parametrize(
    ("route", "planned"),
    [
        ([UP, UP], Plan(0, (), None)),
        ([LATER, UP], Plan(1, (), 110.0)),
        ([DUE, UP], Plan(1, (0,), None)),
        ([DUE, LATER], Plan(None, (0,), 110.0)),
        ([LATER, Circuit(1, 105.0)], Plan(None, (), 105.0)),
        ([], Plan(None, (), None)),
    ],
)
def test_the_first_that_is_not_down(route: list[Circuit], planned: Plan) -> None:
    assert plan(route, 100.0) == planned


def test_idle_before_chained_before_nowhere() -> None:
    assert place(1, 1) is Place.IDLE
    assert place(0, 1) is Place.CHAINED
    assert place(0, 0) is Place.NOWHERE


def test_what_is_reserved_is_left_to_others() -> None:
    assert place(1, 1, spare=1) is Place.IDLE
    assert place(1, 1, spare=0) is Place.CHAINED
    assert place(1, 0, spare=0) is Place.NOWHERE
    assert place(1, 1, spare=-1) is Place.NOWHERE


@pytest.mark.parametrize(
    ("room", "connecting", "demand", "more"),
    [
        (10, 0, 1, 1),
        (10, 0, 100, 10),
        (9, 1, 1, 0),
        (1, 1, 100, 1),
        (0, 0, 100, 0),
        (-2, 0, 100, 0),
    ],
)
def test_sessions_are_opened_as_demand_asks(room: int, connecting: int, demand: int, more: int) -> None:
    assert to_open(room, connecting, demand) == more


def test_an_upstream_at_its_limit_is_passed_over_and_waited_for() -> None:
    assert plan([UP, UP], 10.0, {0: 12.0}) == Plan(1, (), 12.0)
    assert plan([UP, UP], 10.0, {0: 12.0, 1: 11.0}) == Plan(None, (), 11.0)
    assert plan([UP], 10.0, {0: math.inf}) == Plan(None, (), None)
    assert plan([Circuit(1, 11.0), UP], 10.0, {0: 20.0, 1: 12.0}) == Plan(None, (), 11.0)
