"""Whether a submission that is complete may enter the spool: pure, after the stamp and before the commit."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from relay.outcome import Reply

MAX_RECEIVED: Final = 50
"""Received lines a message may come with (Postfix's hopcount_limit); RFC 5321 §6.3 asks for loops to be found so."""
MAX_OURS: Final = 1
"""Received lines of our own that it may come with. One is no loop: a provider may forward back to its sender's host."""

_LOOP: Final = Reply(554, "Error: too many hops, mail is looping", "5.4.6")
_NO_UPSTREAM: Final = Reply(550, "Error: X-Relay-Upstream names no upstream", "5.6.0")


@dataclass(frozen=True, slots=True)
class Admitted:
    """It may enter."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It may not; ``reply`` is what the application is told."""

    reply: Reply


ADMITTED: Final = Admitted()


def decide(
    *, hostname: str, received: int, ours: int = 0, upstream: str | None = None, upstreams: Collection[str] = ()
) -> Admitted | Refused:
    """Judge a submission by its trace and by what it asks for.

    ``received`` counts the Received lines that it came with, ``ours`` those that a relay called ``hostname`` wrote.
    ``upstream`` is the one that it wants, None for any; ``upstreams`` names those that there are.
    """
    if received > MAX_RECEIVED or (ours > MAX_OURS and is_distinctive(hostname)):
        return Refused(_LOOP)
    if upstream is not None and upstream not in upstreams:
        return Refused(_NO_UPSTREAM)
    return ADMITTED


def is_distinctive(hostname: str) -> bool:
    """Whether no two machines should have this name: a full domain name, but the one that every machine gives itself.

    "localhost" and names without a dot are defaults; a chain of such machines is no loop.
    """
    return "." in hostname and not hostname.lower().startswith("localhost.")
