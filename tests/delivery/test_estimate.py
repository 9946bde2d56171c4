from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.delivery.estimate import Batch, Estimate, Outlook, Rehearsal, Strategy, Way, speeds
from relay.delivery.quota.ledger import Ledger
from relay.delivery.rehearsal import Standing, warmed_up
from relay.settings import Limit, Pause, Warmup

START = 5000.0
WALL = datetime(2027, 1, 15, 9, 0).astimezone().timestamp()


def limit(count: int, window: float) -> Limit:
    return Limit(count, window, f"{count}/{window:g}s")


def upstream(name: str, *limits: Limit, connections: int = 10, busy: float = 0.05, **more: Any) -> Standing:
    terms = {key: more.pop(key) for key in ("even", "pause", "reserve") if key in more}
    ledger = Ledger(limits, **terms) if limits or terms else None
    return Standing(name, connections, busy, more.pop("latency", 0.05), measured=True, ledger=ledger, **more)


def outlook(*standings: Standing, strategy: Strategy = "failover") -> Outlook:
    return Outlook(standings, (Way("default", tuple(each.name for each in standings), strategy),), START, WALL)


def finish(steps: Generator[None, None, None]) -> None:
    for _ in steps:
        pass


def rehearsed(begin: Outlook, *batches: Batch, **more: Any) -> Estimate:
    rehearsal = Rehearsal(begin, batches, **more)
    finish(rehearsal.run())
    return rehearsal.estimate


def clears_in(begin: Outlook, *batches: Batch, **more: Any) -> float:
    seconds = rehearsed(begin, *batches, **more).clears_in
    assert seconds is not None
    return seconds


def found_speeds(begin: Outlook) -> dict[str, float]:
    found: dict[str, float] = {}
    finish(speeds(begin, found))
    return found


def one_by_one(standing: Standing, messages: int) -> float:
    """The last reply of so many messages, each handed over by itself as its ledger and a free connection let it go."""
    assert standing.ledger is not None
    ledger = standing.ledger.copy()
    interval = standing.busy / standing.connections
    now = free = last = START
    answers: list[float] = []
    for _ in range(messages):
        now = max(now, free)
        while True:
            while answers and answers[0] <= now:
                ledger.answered(1, answers.pop(0), standing.latency)
            if ledger.room(now):
                break
            when = ledger.free_at(now)
            now = when if when is not None and (not answers or when < answers[0]) else answers[0]
        ledger.take(1, now)
        free = now + interval
        last = now + interval + standing.latency
        answers.append(now + standing.latency)
    return last - START


@st.composite
def limited(draw: st.DrawFn) -> Standing:
    windows = draw(st.lists(st.sampled_from([1.0, 5.0, 60.0]), min_size=1, max_size=2, unique=True))
    limits = [limit(draw(st.integers(5, 60)) * math.ceil(window**0.7), window) for window in windows]
    pause = draw(st.none() | st.builds(Pause, st.integers(10, 80), st.sampled_from([0.5, 3.0, 20.0])))
    even = draw(st.booleans()) and pause is None
    latency = draw(st.sampled_from([0.01, 0.1, 0.4]))
    connections = draw(st.integers(1, 10))
    return upstream("a", *limits, connections=connections, latency=latency, pause=pause, even=even)


@given(limited(), st.integers(50, 1500))
@settings(max_examples=60, deadline=None)
def test_it_comes_to_what_handing_over_one_by_one_comes_to(standing: Standing, messages: int) -> None:
    exactly = one_by_one(standing, messages)
    assert clears_in(outlook(standing), Batch(messages)) == pytest.approx(exactly, rel=0.06, abs=0.1)


def test_use_that_is_left_counts_and_the_ledger_itself_is_not_touched() -> None:
    standing = upstream("a", limit(600, 3600.0))
    ledger = standing.ledger
    assert ledger is not None
    assert clears_in(outlook(standing), Batch(600)) < 10
    ledger.take(600, START - 3000)
    ledger.answered(600, START - 2990)
    assert clears_in(outlook(standing), Batch(600)) == pytest.approx(610, rel=0.02)
    assert ledger.room(START) == 0
    assert next(iter(ledger.uses(START))).used == 600


def test_what_is_in_flight_leaves_its_window_after_its_reply() -> None:
    standing = upstream("a", limit(10, 60.0), latency=5.0)
    assert standing.ledger is not None
    standing.ledger.take(10, START)
    seconds = clears_in(outlook(standing), Batch(10), in_flight=10)
    assert seconds == pytest.approx(5.0 + 60.0 + 5.0, rel=0.02)
    assert clears_in(outlook(standing), in_flight=10) == 5.0


@pytest.mark.parametrize(
    ("standing", "kind", "what"),
    [
        (upstream("a", limit(20, 1.0)), "limit", "20/1s"),
        (upstream("a", limit(14, 1.0), limit(600, 3600.0)), "limit", "600/3600s"),
        (upstream("a", limit(20, 1.0), reserve=0.1), "limit", "20/1s less 10% reserve"),
        (upstream("a", limit(100, 10.0), even=True), "pacing", "100/10s evenly"),
        (upstream("a", pause=Pause(50, 5.0)), "pause", "pause after 50 for 5 s"),
        (upstream("a"), "connections", "10 connections"),
        (upstream("a", learned=14.0), "learned", "what the upstream bears"),
        (upstream("a", usable_in=9000.0, state="down"), "down", "down"),
        (upstream("a", warmup=Warmup(date(2027, 1, 15), 200, 1.5)), "warmup", "warm-up"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_tells_what_holds_mail_up(standing: Standing, kind: str, what: str) -> None:
    done = rehearsed(outlook(standing), Batch(990)).upstreams["a"]
    assert done.binding == (kind, what)
    assert done.sent == 990


def test_a_million_behind_day_limits_takes_a_moment() -> None:
    limits = (limit(14, 1.0), limit(600, 3600.0), limit(10_000, 86400.0))
    begin = outlook(*(upstream(name, *limits) for name in "abcde"), strategy="balance")
    began = time.process_time()
    seconds = clears_in(begin, Batch(1_000_000))
    assert time.process_time() - began < 1.0
    assert seconds == pytest.approx(19 * 86400 + 16.1 * 3600, rel=0.02)


def test_with_failover_the_next_one_has_what_the_first_may_not() -> None:
    begin = outlook(upstream("a", limit(10, 1.0)), upstream("b", limit(5, 1.0)), upstream("c"))
    done = rehearsed(begin, Batch(6000)).upstreams
    assert done["b"].sent / done["a"].sent == pytest.approx(0.5, rel=0.1)
    assert done["c"].sent > 5000
    # Where the first one's connections are what it waits for, the others have nothing.
    done = rehearsed(outlook(upstream("a"), upstream("b")), Batch(3000)).upstreams
    assert (done["a"].sent, done["b"].sent) == (3000, 0)
    assert done["b"].binding is None


def test_a_way_around_one_that_is_down_until_it_is_back() -> None:
    begin = outlook(upstream("a", usable_in=10.0, state="down"), upstream("b", connections=2))
    done = rehearsed(begin, Batch(1000)).upstreams
    assert done["b"].sent == pytest.approx(400, rel=0.05)
    assert done["a"].sent == pytest.approx(600, rel=0.05)


def test_balance_gives_five_accounts_their_sum_from_the_first_minute() -> None:
    begin = outlook(*(upstream(name, limit(600, 3600.0)) for name in "abcde"), strategy="balance")
    assert clears_in(begin, Batch(3000)) < 60
    assert found_speeds(begin)["hour"] == 3000


def test_rotation_gives_each_its_cycles() -> None:
    begin = outlook(upstream("a"), upstream("b", connections=5), strategy="rotate")
    done = rehearsed(begin, Batch(10_000))
    assert done.upstreams["a"].sent == pytest.approx(5000, rel=0.02)
    # One at a time: what both need together.
    assert done.clears_in == pytest.approx(5000 / 200 + 5000 / 100, rel=0.05)
    down = outlook(upstream("a", usable_in=1e5), upstream("b"), strategy="rotate")
    assert clears_in(down, Batch(1000)) == pytest.approx(5, rel=0.05)


def test_what_falls_due_later_goes_later() -> None:
    begin = outlook(upstream("a", limit(10, 1.0)))
    assert clears_in(begin, Batch(5), Batch(5, due_in=1800.0)) == pytest.approx(1800, rel=0.01)
    assert clears_in(begin, Batch(5, due_in=3600.0), Batch(72_000)) == pytest.approx(7600, rel=0.02)


def test_each_way_has_its_own_backlog() -> None:
    both = upstream("a", limit(10, 1.0)), upstream("b", limit(1, 1.0))
    begin = Outlook(both, (Way("default", ("a",)), Way("bulk", ("b",))), START, WALL)
    done = rehearsed(begin, Batch(100), Batch(100, way=1)).upstreams
    assert (done["a"].sent, done["b"].sent) == (100, 100)
    assert clears_in(begin, Batch(100), Batch(100, way=1)) == pytest.approx(104, rel=0.05)


def test_recipients_count_where_limits_are_of_recipients_and_large_mail_goes_in_parts() -> None:
    by_recipient = upstream("a", limit(100, 1.0), by_recipient=True)
    assert clears_in(outlook(by_recipient), Batch(1000), recipients=5.0) == pytest.approx(51, rel=0.04)
    small = upstream("a", limit(3, 1.0), by_recipient=True)
    assert clears_in(outlook(small), Batch(10), recipients=5.0) < 20
    in_parts = upstream("a", max_recipients=10)
    whole = clears_in(outlook(in_parts), Batch(1000))
    assert clears_in(outlook(in_parts), Batch(1000), recipients=40.0) == pytest.approx(4 * whole, rel=0.05)


def test_what_never_ends_has_no_end() -> None:
    assert rehearsed(outlook(upstream("a", limit(1, 86400.0))), Batch(1000)).clears_in is None
    assert rehearsed(outlook(upstream("a", usable_in=math.inf)), Batch(1)).clears_in is None
    assert clears_in(outlook(upstream("a"))) == 0.0


def test_a_warm_up_grows_at_midnight_and_ends_where_the_limit_is_lower() -> None:
    warmup = Warmup(date(2027, 1, 15), 200, 2.0)
    standing = upstream("a", limit(1000, 86400.0), warmup=warmup)
    # 200 at once, at 0:00 some more to 400, at 9:00 the first 200 leave the window; and so on, 800, then 1000 a day.
    assert clears_in(outlook(standing), Batch(400)) == pytest.approx(15 * 3600, rel=0.02)
    assert clears_in(outlook(standing), Batch(3000)) == pytest.approx(3 * 86400, rel=0.02)
    assert rehearsed(outlook(standing), Batch(3000)).upstreams["a"].binding == ("warmup", "warm-up")
    assert [warmed_up(warmup, day) for day in (-3, 0, 1, 5, 10**6)] == [200, 200, 400, 6400, 10**12]


@pytest.mark.parametrize(
    ("standing", "expected"),
    [
        (upstream("a", limit(100, 10.0)), (10, 600, 36_000, 864_000)),
        (upstream("a", limit(14, 1.0), limit(50_000, 86400.0)), (14, 840, 50_000, 50_000)),
        (upstream("a", limit(600, 3600.0)), (1 / 6, 10, 600, 14_400)),
        (upstream("a"), (200, 12_000, 720_000, 17_280_000)),
        (upstream("a", pause=Pause(50, 4.8)), (10, 600, 36_000, 864_000)),
    ],
    ids=["burst", "two limits", "hour", "none", "pause"],
)
def test_speeds_are_those_that_people_know(standing: Standing, expected: Sequence[float]) -> None:
    found = found_speeds(outlook(standing))
    assert list(found) == ["second", "minute", "hour", "day"]
    assert list(found.values()) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("now", [0.1, 333.3333, 1_234_567.891, 98_765_432.1])
def test_the_digits_of_the_clock_do_not_matter(now: float) -> None:
    paused = upstream("a", limit(100, 10.0), pause=Pause(50, 5.0)), upstream("b", limit(100, 10.0))
    begin = replace(outlook(*paused), now=now)
    for busy in (0.02, 0.0213, 0.02171, 0.0219):
        slower = tuple(replace(standing, busy=busy, latency=0.0214) for standing in paused)
        assert found_speeds(replace(begin, standings=slower))["minute"] == pytest.approx(1200, rel=0.06)
    assert found_speeds(begin)["day"] == pytest.approx(2 * 864_000, rel=0.05)
    assert clears_in(begin, Batch(3000)) == pytest.approx(clears_in(outlook(*paused), Batch(3000)), rel=0.02)


def test_speeds_are_of_unused_limits_and_of_all_together() -> None:
    standing = upstream("a", limit(600, 3600.0))
    assert standing.ledger is not None
    standing.ledger.take(600, START)
    paused = replace(standing, usable_in=500.0, state="paused")
    assert found_speeds(outlook(paused))["hour"] == 600
    both = outlook(standing, upstream("b", limit(300, 3600.0)))
    assert found_speeds(both)["hour"] == 900


def test_an_even_pace_is_slower_by_the_time_of_a_reply_as_delivery_is() -> None:
    standing = upstream("a", limit(20, 1.0), even=True, latency=0.25)
    found = found_speeds(outlook(standing))
    assert found["second"] == pytest.approx(20 / 1.25, rel=0.03)
    assert found["hour"] == pytest.approx(3600 * 20 / 1.25, rel=0.03)


def test_nothing_is_faster_than_the_relay_itself() -> None:
    quick = [upstream(name, busy=0.0001, latency=0.0001) for name in "ab"]
    for standings, rate in ((quick[:1], 3000), (quick, 3000), ([*quick[:1], upstream("c", limit(10, 1.0))], 3000)):
        begin = replace(outlook(*standings, strategy="balance"), fastest=3000.0)
        assert found_speeds(begin)["second"] == pytest.approx(rate, rel=0.01)
        estimate = rehearsed(begin, Batch(60_000))
        assert estimate.clears_in == pytest.approx(20.0, rel=0.02)
    found = rehearsed(replace(outlook(quick[0]), fastest=3000.0), Batch(60_000))
    assert found.upstreams["a"].binding == ("relay", "the relay itself")
