"""Where mail goes now: the first upstream of the route that isn't down or at a limit, and which of the down
ones to probe. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from relay.delivery.backoff import Circuit
from relay.value import dataclass

NONE_SPENT: Final[Mapping[int, float]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Plan:
    """``use`` is the index of the upstream that takes mail now, None where all are down. ``probe`` are down ones whose
    time to be tried has come. ``wake_at`` is when, in monotonic seconds, to plan again if nothing else happens.
    """

    use: int | None
    probe: tuple[int, ...]
    wake_at: float | None


def plan(route: Sequence[Circuit], now: float, spent: Mapping[int, float] = NONE_SPENT) -> Plan:
    """Fail over in the route's order; earlier ones are probed while a later one takes the mail.

    ``spent`` are upstreams at a limit: by index, when each may have another message (infinity: that shows otherwise).
    """
    probe: list[int] = []
    wake_at: float | None = None
    for index, circuit in enumerate(route):
        free_at = spent.get(index)
        if circuit.closed and free_at is not None:
            if free_at != math.inf:
                wake_at = free_at if wake_at is None else min(wake_at, free_at)
        elif circuit.closed:
            return Plan(index, tuple(probe), wake_at)
        if circuit.may_probe(now):
            probe.append(index)
        elif circuit.retry_at is not None:
            wake_at = circuit.retry_at if wake_at is None else min(wake_at, circuit.retry_at)
    return Plan(None, tuple(probe), wake_at)
