"""Which session takes the next request, and how many more to open. Pure.

An idle session is used before a busy one gets a second request chained behind its first, and whenever one had to be
chained another session is worth opening, up to the upstream's ``max_connections``.
"""

from __future__ import annotations

from enum import Enum, auto


class Place(Enum):
    """Where the next request goes."""

    IDLE = auto()
    CHAINED = auto()
    NOWHERE = auto()


def place(idle: int, chainable: int, spare: int | None = None) -> Place:
    """Where the next request goes now. ``spare`` is how many more sessions may be busy with mail of its kind; None: as
    many as there are, as nothing is reserved for another kind.
    """
    if idle and (spare is None or spare > 0):
        return Place.IDLE
    return Place.CHAINED if chainable and (spare is None or spare >= 0) else Place.NOWHERE


def to_open(room: int, connecting: int, demand: int) -> int:
    """How many sessions to open for ``demand`` requests that have no session of their own; there is ``room`` for so
    many beside those that are open or ``connecting``.
    """
    return max(0, min(room, demand - connecting))
