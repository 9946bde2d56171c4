"""What an upstream bears is found out, used nearly whole, and seldom passed: on a clock of the test's own."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.delivery.learning import (
    IN_VAIN,
    LAST_PATIENCE,
    OVER,
    PATIENCE,
    SHARE,
    SLOWEST,
    Crowd,
    Pace,
    Refusal,
    Tempo,
    crowded,
)


@dataclass
class Bucket:
    """A server that takes ``rate`` a second, and ``burst`` at once after a rest."""

    rate: float
    burst: float
    at: float = 0.0
    tokens: float = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = self.burst

    def takes(self, now: float) -> bool:
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass
class Run:
    """An endless backlog over ``connections`` connections: seconds at which each message was taken and refused."""

    tempo: Tempo
    bucket: Bucket
    latency: float = 0.005
    connections: int = 10
    now: float = 0.0
    taken: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    paused: int = 0

    def on(self, seconds: float) -> Run:
        end = self.now + seconds
        flying: list[tuple[float, float]] = []
        contents: list[float] = []
        resumes = 0.0
        while True:
            while contents and contents[0] <= self.now:
                contents.pop(0)
                self.taken.append(self.now)
                self.tempo.took(1, self.now)
            while flying and flying[0][0] <= self.now:
                _, begun = heapq.heappop(flying)
                if self.bucket.takes(self.now):
                    contents.append(self.now + self.latency)
                else:
                    self.refused.append(self.now)
                    if self.tempo.refused(begun, self.now) is Refusal.IN_VAIN:
                        self.paused += 1
                        resumes = self.now + 5.0
            free_at = max(self.tempo.free_at, resumes)
            while len(flying) + len(contents) < self.connections and free_at <= self.now:
                self.tempo.take(1, self.now)
                heapq.heappush(flying, (self.now + self.latency, self.now))
                free_at = max(self.tempo.free_at, resumes)
            nexts = [*(at for at, _ in flying[:1]), *contents[:1]]
            if len(flying) + len(contents) < self.connections:
                nexts.append(free_at)
            self.now = min(nexts)
            if self.now >= end:
                self.now = end
                return self

    def share(self, since: float) -> float:
        """Of what the server would have taken since."""
        return sum(at > since for at in self.taken) / ((self.now - since) * self.bucket.rate)

    def refused_share(self, since: float = -1.0) -> float:
        refused = sum(at > since for at in self.refused)
        return refused / (refused + sum(at > since for at in self.taken))


@pytest.mark.parametrize("latency", [0.001, 0.02, 0.2])
@pytest.mark.parametrize("burst", [1.0, 14.0, 28.0])
def test_a_hidden_limit_of_14_a_second_is_used_nearly_whole_within_a_minute(burst: float, latency: float) -> None:
    run = Run(Tempo(), Bucket(14.0, burst), latency).on(300.0)
    assert run.share(since=60.0) > 0.9
    assert run.refused_share(since=60.0) < 0.01
    assert run.refused_share() < 0.01
    assert not run.paused or burst == 1.0, "one by one is all that such a server takes at first"


@settings(deadline=None, max_examples=20)
@given(st.floats(0.5, 60.0), st.floats(0.5, 4.0), st.sampled_from([0.001, 0.02, 0.15]), st.sampled_from([1, 4, 20]))
def test_whatever_the_limit_it_is_found(rate: float, burst: float, latency: float, connections: int) -> None:
    run = Run(Tempo(), Bucket(rate, max(1.0, rate * burst)), latency, connections).on(400.0)
    most = min(1.0, connections / latency / rate / 2)
    assert run.share(since=120.0) > 0.75 * most
    assert run.refused_share(since=120.0) < (0.02 if rate > 4 else 0.05) + 2.0 / (rate * 280)


def test_a_limit_that_was_raised_is_found_and_one_that_is_gone_is_forgotten() -> None:
    run = Run(Tempo(), Bucket(14.0, 14.0)).on(300.0)
    run.bucket.rate = run.bucket.burst = 50.0
    run.on(600.0)
    assert run.share(since=800.0) > 0.9
    run.bucket.rate = run.bucket.burst = 1e9
    run.on(900.0)
    assert run.tempo.pace is None


def test_a_limit_that_was_lowered_is_found_at_once() -> None:
    run = Run(Tempo(), Bucket(50.0, 50.0)).on(300.0)
    run.bucket.rate = run.bucket.burst = 5.0
    run.on(120.0)
    assert run.share(since=330.0) > 0.85
    assert run.refused_share(since=330.0) < 0.02


def test_nothing_is_learned_where_nothing_was_taken_before() -> None:
    tempo = Tempo()
    assert tempo.refused(0.0, 0.1) is Refusal.IN_VAIN
    assert tempo.pace is None


def test_what_was_on_its_way_lowers_nothing_twice() -> None:
    tempo = Tempo()
    for n in range(20):
        tempo.took(1, n / 100)
    assert tempo.refused(0.2, 0.3) is Refusal.LOWERED
    pace = tempo.pace
    assert pace is not None
    assert pace.rate == pytest.approx(20 * SHARE)
    assert [tempo.refused(0.29, 0.3 + n / 100) for n in range(30)] == [Refusal.OLD] * 30
    assert tempo.pace == pace
    assert tempo.free_at == pytest.approx(0.59 + 0.5)


def test_refusals_without_an_end_are_a_pause_and_one_that_is_taken_ends_it() -> None:
    tempo = Tempo(Pace(14.0))
    for n in range(IN_VAIN):
        assert tempo.refused(n * 100.0, n * 100.0 + 1) is Refusal.LOWERED
    assert tempo.refused(10_000.0, 10_001.0) is Refusal.IN_VAIN
    tempo.took(1, 10_010.0)
    assert tempo.refused(10_020.0, 10_021.0) is Refusal.LOWERED


def test_idle_time_proves_nothing() -> None:
    tempo = Tempo(Pace(10.0))
    for hour in range(100):
        tempo.take(1, hour * 3600.0)
    assert tempo.pace is not None
    assert tempo.pace.rate < 10.0


@given(st.floats(SLOWEST, 1e4), st.lists(st.tuples(st.floats(0, 300), st.floats(0, 1e5)), max_size=30))
def test_a_pace_is_at_most_halved_never_raised_by_a_refusal_and_never_nothing(
    bad: float, refusals: list[tuple[float, float]]
) -> None:
    pace = Pace(bad)
    for busy, measured in refusals:
        before = Pace(pace.bad, pace.span, busy)
        if before.is_over:
            return
        pace = before.lowered(measured)
        assert max(SLOWEST, before.rate / 2) <= pace.bad <= max(SLOWEST, before.rate)
        assert SLOWEST <= pace.rate <= max(SLOWEST, before.rate)


@given(st.floats(SLOWEST, 1e4), st.floats(8, 90))
def test_a_pace_only_rises_until_it_is_over(bad: float, span: float) -> None:
    rates = [Pace(bad, span, busy).rate for busy in range(1000)]
    assert rates == sorted(rates)
    assert rates[-1] > OVER * bad


def test_connections_settle_where_one_more_was_too_many() -> None:
    known = crowded(None, 4, 0.0)
    assert (known.most, known.allowed(0.0), known.allowed(PATIENCE)) == (4, 4, 5)
    assert crowded(known, 4, 1.0) == known, "one that was on its way"
    later = crowded(known, 4, PATIENCE)
    assert (later.most, later.until) == (4, PATIENCE * 3), "tried more seldom"
    for _ in range(20):
        later = crowded(later, 4, later.until)
    assert later.patience == LAST_PATIENCE
    assert crowded(later, 0, 1e6).most == 1


def test_a_connection_that_is_borne_raises_it() -> None:
    known = Crowd(4, 100.0, 960.0)
    assert known.joined(4, 200.0) == known
    assert known.joined(5, 200.0) == Crowd(5, 200.0 + PATIENCE)
