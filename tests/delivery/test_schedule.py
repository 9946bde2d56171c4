"""Which upstream takes mail now, which session, how many more."""

from __future__ import annotations

import math

import pytest

from relay.delivery.backoff import Circuit
from relay.delivery.pool import Place, PoolView, place, to_open
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


def view(idle: int = 0, chainable: int = 0, opened: int = 0, connecting: int = 0) -> PoolView:
    return PoolView(idle, chainable, opened, connecting, 10)


def test_idle_before_chained_before_nowhere() -> None:
    assert place(view(idle=1, chainable=1)) is Place.IDLE
    assert place(view(chainable=1)) is Place.CHAINED
    assert place(view()) is Place.NOWHERE


@pytest.mark.parametrize(
    ("pool", "demand", "more"),
    [
        (view(), 1, 1),
        (view(), 100, 10),
        (view(connecting=1), 1, 0),
        (view(opened=8, connecting=1), 100, 1),
        (view(opened=10), 100, 0),
        (view(opened=12), 100, 0),
    ],
)
def test_sessions_are_opened_as_demand_asks(pool: PoolView, demand: int, more: int) -> None:
    assert to_open(pool, demand) == more


def test_an_upstream_at_its_limit_is_passed_over_and_waited_for() -> None:
    assert plan([UP, UP], 10.0, {0: 12.0}) == Plan(1, (), 12.0)
    assert plan([UP, UP], 10.0, {0: 12.0, 1: 11.0}) == Plan(None, (), 11.0)
    assert plan([UP], 10.0, {0: math.inf}) == Plan(None, (), None)
    assert plan([Circuit(1, 11.0), UP], 10.0, {0: 20.0, 1: 12.0}) == Plan(None, (), 11.0)
