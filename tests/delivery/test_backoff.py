"""When things are tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.backoff import LOGIN_WINDOW, LOGINS, Circuit, next_due
from relay.outcome import Trouble

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


def pauses(trouble: Trouble, count: int) -> list[float]:
    """How long each of ``count`` failures running leaves the upstream alone."""
    circuit, now, found = Circuit(), 0.0, []
    for _ in range(count):
        circuit = circuit.failed(now, 0.5, trouble)
        assert circuit.retry_at is not None
        found.append(circuit.retry_at - now)
        now = circuit.retry_at
    return found


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        (Trouble.RATE, [5, 10, 30, 60, 120, 300, 300]),
        (Trouble.CONNECTIONS, [5, 10, 30, 60, 60]),
        (Trouble.QUOTA, [300, 900, 1800, 3600, 3600]),
        (Trouble.ACCOUNT, [300, 900, 1800, 3600, 3600]),
        (Trouble.AUTH, [60, 240, 300, 300, 300]),
    ],
)
def test_each_trouble_has_its_pauses(trouble: Trouble, expected: list[float]) -> None:
    assert pauses(trouble, len(expected)) == expected


def test_health_and_refusals_are_counted_apart() -> None:
    circuit = Circuit()
    for _ in range(4):
        circuit = circuit.failed(0.0, 0.5)
    assert circuit.failed(0.0, 0.5, Trouble.RATE).retry_at == 5.0
    assert circuit.failed(0.0, 0.5, Trouble.RATE).failed(0.0, 0.5).retry_at == 1.0


def test_the_time_that_the_server_names_is_kept_never_before_it() -> None:
    assert Circuit().failed(0.0, 0.0, Trouble.QUOTA, wait=92.0).retry_at == 92.0
    assert Circuit().failed(0.0, 0.99, Trouble.QUOTA, wait=92.0).retry_at == 92.99
    assert Circuit().failed(0.0, 0.0, Trouble.QUOTA, wait=-5.0).retry_at == 1.0, "long ago: soon"
    assert Circuit().failed(0.0, 0.0, Trouble.QUOTA, wait=1e9).retry_at == 86400.0, "a day at the most"


@given(
    st.lists(
        st.tuples(st.floats(0, 900), st.sampled_from([Trouble.AUTH, None, Trouble.RATE, "reload", "answered"])),
        max_size=60,
    ),
    st.floats(0, 0.999),
)
def test_never_more_than_three_refused_logins_in_ten_minutes(
    story: list[tuple[float, Trouble | str | None]], chance: float
) -> None:
    """Whatever happens between them: outages, throttling, reloads, other messages' replies."""
    circuit, now, logins = Circuit(), 0.0, []
    for passed, event in story:
        now += passed
        if event == "reload":
            circuit = circuit.inherited(now)
        elif event == "answered" and circuit.closed:
            circuit = circuit.answered()
        elif isinstance(event, Trouble | None) and (circuit.closed or circuit.may_probe(now)):
            if event is Trouble.AUTH:
                logins.append(now)
            circuit = circuit.failed(now, chance, event)
    assert all(later - first >= LOGIN_WINDOW for first, later in zip(logins, logins[LOGINS:], strict=False))


def test_logins_that_fail_together_count_each() -> None:
    circuit = Circuit().failed(0.0, 0.5, Trouble.AUTH)
    assert (circuit.retry_at, circuit.logins_left(0.0)) == (60.0, 2)
    circuit = circuit.login_refused(1.0).login_refused(2.0)
    assert (circuit.retry_at, circuit.logins_left(2.0)) == (600.0, 0)
    assert circuit.logins_left(600.0) == 1
    assert circuit.connected() == Circuit(), "the right password ends it"


def test_a_reload_is_tried_at_once_where_a_login_is_left() -> None:
    once = Circuit().failed(0.0, 0.5, Trouble.AUTH)
    assert once.inherited(5.0).closed
    thrice = once.login_refused(1.0).login_refused(2.0)
    assert thrice.inherited(5.0).retry_at == 600.0
    assert Circuit().failed(0.0, 0.5, Trouble.QUOTA).inherited(1.0) == Circuit()


def test_a_refusal_is_over_when_a_message_is_taken_not_when_a_connection_is() -> None:
    paused = Circuit().failed(0.0, 0.5, Trouble.QUOTA)
    assert not paused.on_trial
    assert paused.connected().on_trial
    assert not Circuit().failed(0.0, 0.5).connected().on_trial
    assert paused.connected().answered() == Circuit()
