"""What waits in a spool, summed up."""

from __future__ import annotations

from relay.value import dataclass


@dataclass(frozen=True, slots=True)
class Dues:
    """Messages that wait or are leased, of one turn, due by ``due`` (Unix seconds); ``example`` is one's number."""

    turn: int
    due: float
    messages: int
    recipients: int
    example: int
