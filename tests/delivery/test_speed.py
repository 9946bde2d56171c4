from __future__ import annotations

import pytest

from relay.delivery.speed import ASSUMED, Mean, Rate, Speed


def test_nothing_measured_is_assumed() -> None:
    fresh = Speed(0.0)
    assert not fresh.measured
    assert fresh.busy == fresh.delay == ASSUMED
    speed = Speed(0.0)
    speed.answered("session", 1.0, 0.02)
    assert speed.measured
    assert speed.busy == speed.delay == 0.02


def test_a_lone_message_takes_its_own_time_however_long_the_session_idled() -> None:
    speed = Speed(0.0)
    for n in range(30):
        speed.answered("session", n * 10.0, 0.2)
    assert speed.busy == pytest.approx(0.2)


def test_chained_messages_take_the_time_between_replies() -> None:
    speed = Speed(0.0)
    for n in range(100):
        speed.answered("session", n * 0.05, 0.1)  # each begun before the last one's reply
    assert speed.delay == pytest.approx(0.1)
    assert speed.busy == pytest.approx(0.05, rel=0.02)


def test_a_window_of_messages_shares_its_round_trip() -> None:
    speed = Speed(0.0)
    for trip in range(1, 60):
        for session in "ab":
            for _ in range(8):  # all replies of a window arrive together; the next window begins then
                speed.answered(session, trip * 0.05, 0.05)
    assert speed.busy == pytest.approx(0.05 / 8, rel=0.02)


def test_a_backlog_leaves_pipelined_so_lone_messages_do_not_count_against_it() -> None:
    speed = Speed(0.0)
    for n in range(20):
        speed.answered("session", 1.0 + n * 0.05, 0.1)
    for n in range(50):
        speed.answered("session", 10.0 + n * 10, 0.1)
    assert speed.busy < 0.06
    speed.ended("session")
    speed.answered("session", 510.01, 0.1)  # another one at the same place: nothing was in flight there
    assert speed.busy < 0.06


def test_a_mean_forgets_what_is_old() -> None:
    mean = Mean()
    for n in range(200):
        mean.add(1.0, n * 0.1)
    for n in range(200):
        mean.add(3.0, 20 + n * 0.1)
    assert mean.value == 3.0
    assert mean.count < 200


def test_the_rate_is_of_the_last_ten_seconds() -> None:
    rate = Rate(0.0)
    assert rate.at(0.5) == 0.0
    for n in range(200):
        rate.add(n * 0.1)
    assert rate.at(20.0) == pytest.approx(10, rel=0.05)
    assert rate.at(25.0) == pytest.approx(5, rel=0.1)
    assert rate.at(31.5) == 0.0
    assert rate.at(1e9) == 0.0
    rate.add(1e9)
    assert rate.at(1e9 + 0.5) == pytest.approx(0.1)


def test_the_rate_of_a_young_relay_is_of_the_time_there_was() -> None:
    rate = Rate(100.0)
    for n in range(40):
        rate.add(100.0 + n * 0.1)
    assert rate.at(104.0) == pytest.approx(10, rel=0.05)
