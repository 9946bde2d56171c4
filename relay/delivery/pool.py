"""Which session takes the next request, and how many more to open. Pure.

An idle session is used before a busy one gets a second request chained behind its first, and whenever one had to be
chained another session is worth opening, up to the upstream's ``max_connections``.
"""

from __future__ import annotations

from enum import Enum, auto

from relay.value import dataclass


class Place(Enum):
    """Where the next request goes."""

    IDLE = auto()
    CHAINED = auto()
    NOWHERE = auto()


@dataclass(frozen=True, slots=True)
class PoolView:
    """Sessions of one upstream, counted; ``reserved`` of the maximum are not for the mail that it is about."""

    idle: int
    chainable: int
    open: int
    connecting: int
    maximum: int
    reserved: int = 0


def place(view: PoolView) -> Place:
    """Where the next request goes now."""
    if not view.reserved:
        if view.idle:
            return Place.IDLE
        return Place.CHAINED if view.chainable else Place.NOWHERE
    spare = view.maximum - view.reserved - (view.open - view.idle)
    if view.idle and spare > 0:
        return Place.IDLE
    return Place.CHAINED if view.chainable and spare >= 0 else Place.NOWHERE


def to_open(view: PoolView, demand: int) -> int:
    """How many sessions to open for ``demand`` requests that have no session of their own."""
    return max(0, min(view.maximum - view.reserved - view.open - view.connecting, demand - view.connecting))
