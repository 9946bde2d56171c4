"""Whether a submission that is complete may enter the spool: pure, after the stamp and before the commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from relay.outcome import Reply

MAX_RECEIVED: Final = 50
"""Received lines a message may come with (Postfix's hopcount_limit); RFC 5321 §6.3 asks for loops to be found so."""

_LOOP: Final = Reply(554, "Error: too many hops, mail is looping", "5.4.6")


@dataclass(frozen=True, slots=True)
class Admitted:
    """It may enter."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It may not; ``reply`` is what the application is told."""

    reply: Reply


ADMITTED: Final = Admitted()


def decide(*, received: int) -> Admitted | Refused:
    """Judge a submission by the number of Received lines that it came with."""
    return Refused(_LOOP) if received > MAX_RECEIVED else ADMITTED
