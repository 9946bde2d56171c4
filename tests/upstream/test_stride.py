"""How far ahead a server is spoken to after it lost step, and when more is tried again. Pure."""

from __future__ import annotations

from relay.smtp.client import Pipelining
from relay.upstream.stride import LOST_FOR, REFUSED_FOR, Stride


def test_what_is_wanted_is_done_until_something_happens() -> None:
    assert Stride(Pipelining.WINDOWED).now(0.0) is Pipelining.WINDOWED


def test_a_lost_connection_costs_a_step_for_some_minutes() -> None:
    stride = Stride(Pipelining.WINDOWED)
    stride.lost_step(Pipelining.WINDOWED, 100.0, refused=False)
    assert stride.now(100.0 + LOST_FOR - 1) is Pipelining.CHAINED
    assert stride.now(100.0 + LOST_FOR) is Pipelining.WINDOWED


def test_connections_lost_together_cost_one_step() -> None:
    stride = Stride(Pipelining.WINDOWED)
    for n in range(10):
        stride.lost_step(Pipelining.WINDOWED, 100.0 + n, refused=False)
    assert stride.now(110.0) is Pipelining.CHAINED
    assert stride.now(100.0 + LOST_FOR) is Pipelining.WINDOWED, "counted from the first"


def test_connections_lost_again_and_again_lead_to_the_plain_way() -> None:
    stride = Stride(Pipelining.WINDOWED)
    for n in range(5):
        stride.lost_step(stride.now(float(n)), float(n), refused=False)
    assert stride.now(5.0) is Pipelining.OFF
    assert stride.now(LOST_FOR + 5.0) is Pipelining.WINDOWED


def test_a_refusal_is_remembered_for_a_day() -> None:
    stride = Stride(Pipelining.CHAINED)
    stride.lost_step(Pipelining.CHAINED, 0.0, refused=False)
    stride.lost_step(Pipelining.CHAINED, 1.0, refused=True)
    assert stride.now(LOST_FOR + 1) is Pipelining.WITHIN
    assert stride.now(REFUSED_FOR) is Pipelining.WITHIN
    assert stride.now(REFUSED_FOR + 1) is Pipelining.CHAINED


def test_the_plain_way_can_not_lose_step() -> None:
    stride = Stride(Pipelining.OFF)
    stride.lost_step(Pipelining.OFF, 0.0, refused=True)
    assert stride.now(1.0) is Pipelining.OFF
