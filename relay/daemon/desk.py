"""The running delivery as the operators' services see and steer it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from relay.control.views import LearnedView, LimitView, UpstreamView
from relay.delivery.dispatch import is_silent
from relay.delivery.engine import Engine
from relay.delivery.hearing import Hearing
from relay.delivery.lane import Lane
from relay.feedback import Feedback
from relay.lessons import BrakeRecord, Source
from relay.outcome import Outcome, Scope, Verdict
from relay.suppression import Suppression

_BY_OPERATOR: Final = Outcome(Verdict.FAILED, Scope.RECIPIENT, "5.7.0", "returned to sender by the operator")


class Desk:
    """Answers for one engine."""

    def __init__(self, engine: Engine, hearing: Hearing | None = None) -> None:
        self._engine = engine
        self._hearing = hearing

    def upstreams(self) -> Mapping[str, UpstreamView]:
        """Every upstream by its name, in the route's order."""
        now = asyncio.get_running_loop().time()
        return {lane.name: _view(lane, now) for lane in self._engine.lanes}

    def preferred(self) -> str | None:
        """The upstream that would take waiting mail now."""
        lane = self._engine.preferred
        return None if lane is None else lane.name

    def takers(self) -> Mapping[int, str]:
        """The upstream that would take the mail of each way."""
        return self._engine.takers()

    def waiting_for(self) -> Mapping[str, int]:
        """What waits in memory, by the upstream that would take it."""
        return self._engine.waiting_for()

    def in_flight(self) -> frozenset[int]:
        """Messages that a session is relaying now."""
        return self._engine.in_flight

    def unsettled(self) -> int:
        """Messages whose outcomes are not recorded yet."""
        return self._engine.unsettled

    def claimed(self) -> frozenset[int]:
        """Messages leased and in no session."""
        return self._engine.claimed

    async def withdraw(self, numbers: Collection[int]) -> None:
        """Give those that are in no session back to the spool."""
        await self._engine.withdraw(frozenset(numbers))

    def pause(self) -> None:
        """Lease nothing more until as many :meth:`resume`."""
        self._engine.pause()

    def resume(self) -> None:
        """Lease again what is due."""
        self._engine.resume()

    def waits_for(self, number: int) -> str | None:
        """What a message waits for."""
        if number in self._engine.in_flight:
            return "the upstream's reply"
        lanes, lane = self._engine.lanes_for(number)
        if lane is None:
            states = ", ".join(map(_standing, lanes))
            return f"an upstream ({states})"
        if lane.permits is not None and lane.forbids():
            return f"a permit of {lane.name} ({lane.permits.explanation})"
        return f"a connection to {lane.name}"

    def brakes(self) -> Sequence[BrakeRecord]:
        """What the brake has stopped."""
        return () if self._engine.braking is None else self._engine.braking.standing()

    async def release_brake(self, source: Source) -> int | None:
        """Let bulk mail of ``source`` go again; how many messages were held for it, None: it is not stopped."""
        if self._engine.braking is None:
            return None
        self._engine.pause()
        try:
            return await self._engine.braking.release(source)
        finally:
            self._engine.resume()

    async def suppress(self, found: Sequence[Suppression]) -> int:
        """These addresses get no mail from now on; how many of them got some."""
        assert self._engine.suppressing is not None
        return await self._engine.suppressing.suppress(found)

    async def unsuppress(self, digests: Sequence[int]) -> int:
        """These addresses get mail again; how many of them got none."""
        assert self._engine.suppressing is not None
        return await self._engine.suppressing.unsuppress(digests)

    async def heard(self, said: Sequence[Feedback], upstream: str) -> None:
        """Act on feedback that came by ``upstream``, "" where that is not known."""
        assert self._hearing is not None
        await self._hearing.take(said, upstream)

    async def bounce(self, numbers: Collection[int]) -> int:
        """Fail the open recipients of ``numbers`` and notify the senders."""
        return await self._engine.fail(tuple(numbers), _BY_OPERATOR)


def _standing(lane: Lane) -> str:
    return f"{lane.name} is {lane.condition}" + (f": {lane.last_error}" if lane.last_error else "")


def _view(lane: Lane, now: float) -> UpstreamView:
    limits = () if lane.permits is None else lane.permits.uses()
    learned = lane.regulator.learned
    return UpstreamView(
        "paused" if lane.state == "up" and lane.forbids() else lane.state,
        lane.connections,
        lane.in_flight,
        f"silent for {now - lane.moved_at:.0f} s" if is_silent(lane, now) else lane.explanation,
        tuple(LimitView(use.limit.text, use.used, use.left, free_at) for use, free_at in limits),
        None if learned is None else LearnedView(learned.rate, learned.connections, learned.since, learned.reason),
        lane.speed.sent.at(now),
    )
