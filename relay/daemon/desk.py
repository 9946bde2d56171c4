"""The running delivery as the operators' services see and steer it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from relay.control.views import LimitView, UpstreamView
from relay.delivery.engine import Engine
from relay.delivery.lane import Lane
from relay.outcome import Outcome, Scope, Verdict

_BY_OPERATOR: Final = Outcome(Verdict.FAILED, Scope.RECIPIENT, "5.7.0", "returned to sender by the operator")


class Desk:
    """Answers for one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def upstreams(self) -> Mapping[str, UpstreamView]:
        """Every upstream by its name, in the route's order."""
        return {lane.name: _view(lane) for lane in self._engine.lanes}

    def preferred(self) -> str | None:
        """The upstream that would take waiting mail now."""
        lane = self._engine.preferred
        return None if lane is None else lane.name

    def in_flight(self) -> frozenset[int]:
        """Messages that a session is relaying now."""
        return self._engine.in_flight

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
        lane = self._engine.preferred
        if lane is None:
            states = ", ".join(f"{each.name} is {each.state}: {each.last_error}" for each in self._engine.lanes)
            return f"an upstream ({states})"
        if lane.permits is not None and lane.is_spent:
            return f"a permit of {lane.name} ({lane.permits.explanation})"
        return f"a connection to {lane.name}"

    async def bounce(self, numbers: Collection[int]) -> int:
        """Fail the open recipients of ``numbers`` and notify the senders."""
        return await self._engine.fail(tuple(numbers), _BY_OPERATOR)


def _view(lane: Lane) -> UpstreamView:
    limits = () if lane.permits is None else lane.permits.uses()
    return UpstreamView(
        "paused" if lane.state == "up" and lane.is_spent else lane.state,
        lane.connections,
        lane.in_flight,
        lane.explanation,
        tuple(LimitView(use.limit.text, use.used, use.left, free_at) for use, free_at in limits),
    )
