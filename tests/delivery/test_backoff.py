"""When things are tried again."""

from __future__ import annotations

import pytest

from relay.delivery.backoff import Circuit, next_due

DELAYS = (60.0, 300.0, 900.0)


@pytest.mark.parametrize(("attempts", "delay"), [(1, 60), (2, 300), (3, 900), (4, 900), (50, 900)])
def test_the_list_then_its_last_one(attempts: int, delay: float) -> None:
    assert next_due(attempts, 1000.0, 1e9, DELAYS, 0.5) == 1000.0 + delay


def test_jitter_is_twenty_percent_either_way() -> None:
    assert next_due(1, 0.0, 1e9, DELAYS, 0.0) == pytest.approx(48.0)
    assert next_due(1, 0.0, 1e9, DELAYS, 0.999999) == pytest.approx(72.0, abs=0.001)


def test_never_later_than_the_end_of_the_lifetime() -> None:
    assert next_due(1, 1000.0, 1010.0, DELAYS, 0.5) == 1010.0
    assert next_due(1, 1000.0, 900.0, DELAYS, 0.5) == 1000.0, "and never in the past"


def test_a_down_upstream_is_probed_after_one_second_doubling_to_sixty() -> None:
    circuit, delays = Circuit(), []
    for _ in range(9):
        circuit = circuit.failed(100.0, 0.5)
        assert circuit.retry_at is not None
        delays.append(circuit.retry_at - 100.0)
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_probe_waits_for_its_time() -> None:
    circuit = Circuit().failed(100.0, 0.5)
    assert (circuit.closed, circuit.may_probe(100.5), circuit.may_probe(101.0)) == (False, False, True)
    assert Circuit().closed
