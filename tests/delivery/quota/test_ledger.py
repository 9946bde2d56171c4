"""The ledger before a receiver that counts: never too many in any window, and hardly fewer than there may be."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.delivery.quota.ledger import Kept, Ledger
from relay.delivery.quota.window import Window
from relay.settings import Limit, Pause

from .world import MakeLedger, World, kept

Step = tuple[Any, ...]

PARTS = st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 0.999, 1.0, 1.001, 1.01, 1.5]) | st.floats(0.0, 2.0)
"""Spans as parts of a window: most of what is interesting happens around a whole one."""
SHARES = st.sampled_from([0.0, 1.0]) | st.floats(0.0, 1.0)
WHICH = st.integers(0, 20)
COMMON = st.one_of(
    st.tuples(st.just("elapse"), PARTS),
    st.just(("flood",)),
    st.tuples(st.just("answer_all"), SHARES),
    st.tuples(st.just("record"), SHARES),
    st.tuples(st.just("crash"), PARTS, SHARES),
)
RARE = st.one_of(
    st.tuples(st.just("send"), st.integers(1, 4)),
    st.tuples(st.just("answer"), WHICH, SHARES),
    st.tuples(st.just("give_back"), WHICH),
    st.tuples(st.just("begin_write"), st.integers(0, 6)),
    st.just(("commit",)),
    st.just(("end_write",)),
    st.just(("fail_write",)),
    st.tuples(st.just("reboot"), PARTS, SHARES, st.floats(0.0, 1e6)),
    st.tuples(st.just("step_wall"), st.floats(-1e8, 1e8)),
)
STEPS = st.lists(COMMON | COMMON | RARE, min_size=4, max_size=40)
LIMITS = st.lists(
    st.builds(
        lambda count, window: Limit(count, window, f"{count}/{window}s"),
        st.integers(1, 8),
        st.sampled_from([1.0, 5.0, 60.0, 3600.0]),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda limit: limit.window,
)
RATES = st.floats(0.9995, 1.0005)
"""How fast the receiver's clock runs: NTP slews by no more."""


def act(world: World, step: Step) -> None:
    """One step; spans are parts of the first limit's window."""
    name, *arguments = step
    window = world.limits[0].window
    if name in {"elapse", "crash", "reboot"}:
        arguments[0] *= window
    if name == "flood":
        # The greediest relay there is: it takes and writes whatever it is let.
        while world.send(1) or (world.ledger.room(world.now) and not world.pending and world.ledger.allowance <= 0):
            world.begin_write(1)
            world.end_write()
    elif name in {"answer_all", "record"}:
        while world.flights:
            world.answer(0, arguments[0])
        if name == "record":
            world.begin_write(0)
            world.end_write()
    else:
        getattr(world, name)(*arguments)


def run(limits: Sequence[Limit], steps: Sequence[Step], rate: float, make: MakeLedger = Ledger) -> World:
    world = World(limits, make)
    for step in steps:
        act(world, step)
    world.crash(0.0, 1.0)
    world.check(rate)
    return world


@given(LIMITS, STEPS, RATES)
@settings(max_examples=300, deadline=None)
def test_no_window_of_the_receiver_ever_holds_more(limits: list[Limit], steps: list[Step], rate: float) -> None:
    run(limits, steps, rate)


class LeavesTooEarly(Ledger):
    """Counts the window from the start of a transaction, as most limiters do."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        super().__init__(limits)
        self.starts: deque[float] = deque()

    def take(self, units: int, now: float, transactions: int = 1) -> None:
        self.starts.append(now)
        super().take(units, now, transactions)

    def answered(self, units: int, now: float, took: float | None = None) -> None:
        super().answered(units, min(now, self.starts.popleft()), took)


class ForgetsGranted(Ledger):
    """Believes after a crash that what was granted and not recorded was never sent."""

    def restore(self, kept: Kept, boot: str, now: float, wall: float) -> None:
        super().restore(Kept(0, kept.boot, kept.at, kept.wall, kept.windows), boot, now, wall)


class TakesWhatIsNotWritten(Ledger):
    """Takes permits before the disk knows of them."""

    def room(self, now: float, *, urgent: bool = False) -> int:
        self.allowance = 1000
        return super().room(now, urgent=urgent)


class TrustsTheWall(Ledger):
    """Asks the wall clock how long ago it was, also on the same boot."""

    def restore(self, kept: Kept, boot: str, now: float, wall: float) -> None:
        super().restore(Kept(kept.granted, "another", kept.at, kept.wall, kept.windows), boot, now, wall)


class GivesBackFlights(Ledger):
    """Counts nothing until the reply."""

    def take(self, units: int, now: float, transactions: int = 1) -> None:
        super().take(units, now, transactions)
        self.in_flight = 0

    def answered(self, units: int, now: float, took: float | None = None) -> None:
        self.in_flight += units
        super().answered(units, now, took)


CAUGHT_BY: list[tuple[MakeLedger, list[Step]]] = [
    (LeavesTooEarly, [("flood",), ("elapse", 0.9), ("answer_all", 1.0), ("elapse", 0.2), ("flood",)]),
    (ForgetsGranted, [("flood",), ("crash", 0.1, 0.5), ("flood",)]),
    (TakesWhatIsNotWritten, [("send", 1), ("crash", 0.1, 0.5), ("flood",)]),
    (TrustsTheWall, [("flood",), ("record", 0.5), ("step_wall", 1e8), ("crash", 0.1, 0.5), ("flood",)]),
    (GivesBackFlights, [("begin_write", 6), ("end_write",), ("send", 2), ("send", 2)]),
]


@pytest.mark.parametrize(("wrong", "steps"), CAUGHT_BY)
def test_the_same_property_catches_a_wrong_ledger(wrong: MakeLedger, steps: list[Step]) -> None:
    limits = [Limit(2, 5.0, "2/5s")]
    run(limits, steps, 1.0)
    with pytest.raises(AssertionError, match="in a window of 2/5s"):
        run(limits, steps, 1.0, wrong)


# -- and as many as there may be ------------------------------------------------------------------------------------
def drain(
    ledger: Ledger,
    delay: random.Random,
    mean: float,
    windows: int,
    seconds: float,
    *,
    steady: bool = False,
    late: float = 0.0,
) -> tuple[list[float], float]:
    """A greedy backlog on an ideal machine: when each transaction began, and their mean time from permit to reply.

    ``steady``: all replies take about as long; timers are up to ``late`` seconds late.
    """
    now, flights = 1000.0, list[tuple[float, float]]()
    begun: list[float] = []
    spent = 0.0
    end = now + windows * seconds
    while now < end:
        while flights and flights[0][0] <= now:
            ledger.answered(1, *heapq.heappop(flights))
        while ledger.room(now):
            if ledger.allowance <= 0:
                ledger.written(ledger.write(now, 1))
            took = delay.uniform(0.97, 1.03) * mean if steady or not mean else delay.expovariate(1 / mean)
            ledger.take(1, now)
            begun.append(now)
            spent += took
            heapq.heappush(flights, (now + took, took))
        free_at = ledger.free_at(now)
        assert free_at is not None or flights, "nothing will ever happen"
        wakes = [*(at for at, _ in flights[:1]), *([] if free_at is None else [free_at + late * delay.random()])]
        now = max(now, min(wakes))
    return begun, spent / max(1, len(begun))


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize(("count", "seconds"), [(1, 1.0), (14, 1.0), (5, 3600.0), (600, 3600.0), (100, 600.0)])
@pytest.mark.parametrize("delay", [0.0, 0.001, 0.05, 0.3])
def test_a_backlog_gets_98_percent(count: int, seconds: float, delay: float, even: bool) -> None:
    """The first of the k-th window's share starts no later than k windows, each with a delay, and 2 %."""
    ledger = Ledger([Limit(count, seconds, "limit")], even=even)
    begun, mean = drain(ledger, random.Random(7), delay * seconds, 40, seconds)
    k = (len(begun) - 1) // count
    assert k >= 25
    assert begun[k * count] - begun[0] <= k * (seconds + mean) / 0.98


@pytest.mark.parametrize(("count", "seconds"), [(2, 1.0), (5, 1.0), (14, 1.0), (100, 60.0), (600, 3600.0)])
@pytest.mark.parametrize("delay", [0.001, 0.05, 0.3])
def test_an_even_pace_is_even(count: int, seconds: float, delay: float) -> None:
    """From the start; with long replies once the first windows have told of them. Timers are late as they are."""
    ledger = Ledger([Limit(count, seconds, "limit")], even=True)
    begun, mean = drain(ledger, random.Random(7), delay, 12, seconds, steady=True, late=0.003)
    interval = (seconds + mean) / count
    gaps = [(later - at) / interval for at, later in pairwise(begun[2 * count if delay > 0.1 else 0 :])]
    assert gaps
    assert 0.5 <= min(gaps) <= max(gaps) <= 1.5
    k = (len(begun) - 1) // count
    assert begun[k * count] - begun[0] <= k * (seconds + mean) / 0.98


def test_an_even_pace_leaves_urgent_mail_what_is_reserved() -> None:
    """Others are spread over the window by what they may have of it, urgent mail may go at the whole limit's pace."""
    ledger = granted([Limit(10, 10.0, "10/10s")], even=True, reserve=0.2)
    spend(ledger, 1, 100.0)
    assert ledger.free_at(100.0) == pytest.approx(101.13, abs=0.01)
    assert ledger.free_at(100.0, urgent=True) == pytest.approx(100.88, abs=0.01)
    assert (ledger.room(100.9), ledger.room(100.9, urgent=True)) == (0, 9)
    spend(ledger, 1, 100.9)
    assert ledger.free_at(100.9) == pytest.approx(102.15, abs=0.01)


def test_several_limits_bind_by_the_narrowest() -> None:
    limits = [Limit(14, 1.0, "14/second"), Limit(100, 60.0, "100/minute")]
    begun, _ = drain(Ledger(limits), random.Random(7), 0.01, 5, 60.0)
    assert max(sum(1 for other in begun if at <= other <= at + 1.0) for at in begun) == 14
    assert 0.98 * 500 <= len(begun) <= 500


# -- one by one -----------------------------------------------------------------------------------------------------
HOUR = Limit(600, 3600.0, "600/hour")


def granted(limits: Sequence[Limit], **traits: Any) -> Ledger:
    ledger = Ledger(limits, **traits)
    ledger.allowance = 10_000
    return ledger


def spend(ledger: Ledger, count: int, now: float) -> None:
    for _ in range(count):
        ledger.take(1, now)
        ledger.answered(1, now)


def test_a_permit_is_free_a_window_after_the_reply() -> None:
    ledger = granted([Limit(2, 10.0, "2/10s")])
    ledger.take(2, 100.0)
    assert (ledger.room(103.0), ledger.free_at(103.0)) == (0, None)
    ledger.answered(1, 104.0)
    free_at = ledger.free_at(104.0)
    assert free_at == pytest.approx(114.0, abs=0.021)
    assert free_at is not None
    assert free_at > 114.0
    assert (ledger.room(free_at - 0.001), ledger.room(free_at)) == (0, 1)


def test_what_was_given_back_can_be_taken_at_once_without_another_write() -> None:
    ledger = Ledger([Limit(1, 10.0, "1/10s")])
    ledger.written(ledger.write(100.0, 1))
    ledger.take(1, 100.0)
    assert (ledger.room(100.0), ledger.allowance) == (0, 0)
    ledger.given_back(1)
    assert (ledger.room(100.0), ledger.allowance) == (1, 1)


def test_a_pause_follows_so_many_messages() -> None:
    ledger = granted([Limit(1000, 1.0, "1000/second")], pause=Pause(3, 5.0))
    spend(ledger, 3, 100.0)
    assert (ledger.room(104.9), ledger.free_at(101.0)) == (0, 105.0)
    assert ledger.room(105.0) == 1000
    spend(ledger, 2, 105.0)
    assert ledger.free_at(105.0) == 105.0


def test_a_pause_needs_no_limit() -> None:
    ledger = granted([], pause=Pause(1, 5.0))
    spend(ledger, 1, 100.0)
    assert (ledger.room(104.0), ledger.free_at(104.0)) == (0, 105.0)
    assert ledger.room(105.0) > 0


def test_an_even_pace_spreads_and_makes_up_for_late_timers() -> None:
    ledger = granted([Limit(10, 10.0, "10/10s")], even=True)
    spend(ledger, 1, 100.0)
    # A tenth of a second may be made up for, also after idle time; then one a second and what a bucket adds.
    assert ledger.free_at(100.0) == pytest.approx(100.9025, abs=0.001)
    spend(ledger, 1, 100.95)
    assert ledger.free_at(100.95) == pytest.approx(101.905, abs=0.001)
    spend(ledger, 1, 102.5)
    assert ledger.free_at(102.5) == pytest.approx(103.4025, abs=0.001)


def test_what_others_use_counts_until_it_is_no_longer_believed() -> None:
    ledger = granted([Limit(10, 100.0, "10/100s")])
    spend(ledger, 3, 0.0)
    assert ledger.used_here(100.0, 1.0) == 3
    ledger.used_elsewhere(100.0, 6, until=60.0)
    assert ledger.used_here(100.0, 1.0) == 3
    assert ledger.room(1.0) == 1
    spend(ledger, 1, 1.0)
    assert ledger.room(59.9) == 0
    assert ledger.free_at(2.0) == 60.0
    assert [(use.used, use.left) for use in ledger.uses(2.0)] == [(10, 0)]
    assert ledger.copy().room(61.0) == 0, "nobody hears more of it in a rehearsal"
    assert ledger.room(60.0) == 6
    spend(ledger, 6, 60.0)
    assert ledger.free_at(61.0) == pytest.approx(100.15, abs=0.1), "the first ones of our own"
    ledger.used_elsewhere(100.0, 2, until=1000.0)
    ledger.used_elsewhere(100.0, 1, until=1000.0)
    assert ledger.room(61.0) == 0
    assert ledger.room(101.0) == 2, "of ten, seven of ours and the other one are left in the window"


def test_all_used_by_others_is_free_again_with_the_next_news() -> None:
    ledger = granted([Limit(10, 100.0, "10/100s")])
    ledger.used_elsewhere(100.0, 10, until=50.0)
    assert ledger.free_at(1.0) == 50.0
    spend(ledger, 0, 1.0)
    ledger.used_elsewhere(100.0, 0, until=-1.0)
    assert ledger.room(1.0) == 10


def test_a_share_is_kept_for_urgent_mail() -> None:
    ledger = granted([Limit(10, 10.0, "10/10s")], reserve=0.25)
    assert (ledger.room(100.0), ledger.room(100.0, urgent=True)) == (8, 10)
    spend(ledger, 8, 100.0)
    assert (ledger.room(101.0), ledger.room(101.0, urgent=True)) == (0, 2)
    assert ledger.free_at(101.0) == pytest.approx(110.0, abs=0.03)
    assert ledger.free_at(101.0, urgent=True) == 101.0
    assert granted([Limit(1, 1.0, "1/second")], reserve=0.9).room(100.0) == 1


def test_other_limits_keep_what_was_used() -> None:
    ledger = granted([HOUR])
    spend(ledger, 500, 100.0)
    ledger.configure([Limit(550, 3600.0, "550/hour"), Limit(510, 60.0, "510/minute")], now=110.0)
    assert ledger.room(110.0) == 10
    assert ledger.room(170.0) == 50
    ledger.configure([Limit(5, 3600.0, "5/hour")], now=200.0)
    assert ledger.room(200.0) == 0
    assert [(use.used, use.left) for use in ledger.uses(200.0)] == [(500, 0)]


def test_a_limit_that_was_taken_away_and_comes_back_knows_what_was_used_meanwhile() -> None:
    second = Limit(14, 1.0, "14/second")
    ledger = granted([HOUR])
    spend(ledger, 500, 100.0)
    ledger.configure([second], now=200.0)
    assert [use.limit for use in ledger.uses(200.0)] == [second]
    assert ledger.room(200.0) == 14
    spend(ledger, 10, 200.0)
    ledger.configure([HOUR], now=300.0)
    assert ledger.room(300.0) == 90
    ledger.configure([], now=400.0)
    assert (ledger.remembers(3999.0), ledger.remembers(4000.0)) == (True, False)
    ledger.configure([HOUR], now=400.0)
    assert ledger.room(400.0) == 90
    # Over a restart too.
    ledger.configure([second], now=500.0)
    again = Ledger([second])
    again.restore(kept(None, ledger.write(500.0), "a", 500.0, 5000.0), "a", 600.0, 5100.0)
    again.configure([HOUR], now=700.0)
    assert again.room(700.0) <= 90


def test_a_window_of_no_limit_is_forgotten_once_it_is_over() -> None:
    ledger = granted([HOUR])
    spend(ledger, 500, 100.0)
    ledger.written(ledger.write(100.0))
    ledger.configure([Limit(14, 1.0, "14/second")], now=200.0)
    assert set(ledger.write(3799.0).windows) == {1.0, 3600.0}
    writing = ledger.write(3800.0)
    assert (set(writing.windows), writing.anew) == ({1.0}, True)


def test_over_a_restart_uses_keep_their_time_and_granted_ones_count_from_it() -> None:
    ledger = Ledger([HOUR])
    ledger.written(ledger.write(100.0, 50))
    for _ in range(40):
        ledger.take(1, 100.0)
        ledger.answered(1, 100.0)
    disk = kept(None, ledger.write(100.0), "a", 100.0, 5000.0)
    assert (disk.granted, sum(used for _, used in disk.windows[3600.0])) == (6, 40)
    again = Ledger([HOUR])
    again.restore(disk, "a", 1000.0, 99.0)
    assert again.room(1000.0) == 600 - 46
    assert again.room(3710.0) == 600 - 6
    assert again.room(4610.0) == 600


def test_over_a_reboot_the_wall_clock_counts_and_time_never_runs_backwards() -> None:
    disk = Kept(0, "a", 50_000.0, 1_000_000.0, {3600.0: ((13888, 600),)})  # at 49,996.8 to 50,000.4
    for wall, left in ((1_001_000.0, 0), (1_003_500.0, 0), (1_003_700.0, 600), (900_000.0, 0)):
        ledger = Ledger([HOUR])
        ledger.restore(disk, "b", 30.0, wall)
        assert ledger.room(30.0) == left, wall
    # A boot that has lasted longer than the wall clock believes.
    ledger = Ledger([HOUR])
    ledger.restore(disk, "b", 3700.0, 900_000.0)
    assert ledger.room(3700.0) == 600


def test_what_was_granted_counts_where_nothing_else_was_left() -> None:
    ledger = Ledger([HOUR])
    ledger.restore(Kept(6, "a", 100.0, 0.0, {}), "a", 200.0, 0.0)
    assert ledger.room(200.0) == 594


@pytest.mark.parametrize(
    ("limits", "block"),
    [
        ([Limit(5, 3600.0, "5/hour")], 1),
        ([Limit(1, 1.0, "1/second")], 1),
        ([Limit(14, 1.0, "14/second")], 14),
        ([Limit(14, 1.0, "14/second"), HOUR, Limit(50_000, 86400.0, "50000/day")], 6),
        ([Limit(1_000_000, 1.0, "1000000/second")], 500),
    ],
)
def test_a_block_is_small_beside_the_limit_or_gone_in_two_seconds(limits: list[Limit], block: int) -> None:
    ledger = Ledger(limits)
    assert ledger.is_short
    ledger.written(ledger.write(100.0, 1))
    assert ledger.allowance == block
    ledger.written(ledger.write(100.0, 100))
    assert ledger.allowance == max(block, 100)


def unwritten(ledger: Ledger) -> bool:
    return ledger.is_unwritten


def test_only_what_changed_is_written() -> None:
    ledger = Ledger([HOUR])
    assert unwritten(ledger)
    first = ledger.write(100.0, 1)
    assert first.anew
    ledger.written(first)
    assert not unwritten(ledger)
    spend(ledger, 2, 100.0)
    assert unwritten(ledger)
    number = int(100.0 // 3.6)
    writing = ledger.write(100.0)
    assert (writing.anew, dict(writing.windows)) == (False, {3600.0: ((number, 2),)})
    ledger.not_written()
    assert ledger.write(100.0).anew


def test_a_window_has_coarse_buckets() -> None:
    window = Window(10**9, 1.0)
    for n in range(100_000):
        window.add(1, 100.0 + n / 50_000)
        window.forget(100.0 + n / 50_000)
    assert len(tuple(window)) <= 1003
    assert window.used == pytest.approx(50_000, rel=0.01)
