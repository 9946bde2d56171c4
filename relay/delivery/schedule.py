"""Where mail goes now: the first upstream of the route that isn't down, and which of the down ones to probe. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relay.delivery.backoff import Circuit


@dataclass(frozen=True, slots=True)
class Plan:
    """``use`` is the index of the upstream that takes mail now, None where all are down. ``probe`` are down ones whose
    time to be tried has come. ``wake_at`` is when, in monotonic seconds, to plan again if nothing else happens.
    """

    use: int | None
    probe: tuple[int, ...]
    wake_at: float | None


def plan(route: Sequence[Circuit], now: float) -> Plan:
    """Fail over in the route's order; earlier ones are probed while a later one takes the mail."""
    probe: list[int] = []
    wake_at: float | None = None
    for index, circuit in enumerate(route):
        if circuit.closed:
            return Plan(index, tuple(probe), wake_at)
        if circuit.may_probe(now):
            probe.append(index)
        elif circuit.retry_at is not None:
            wake_at = circuit.retry_at if wake_at is None else min(wake_at, circuit.retry_at)
    return Plan(None, tuple(probe), wake_at)
