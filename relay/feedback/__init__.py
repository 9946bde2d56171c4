"""What providers and recipients say about mail that was relayed: reports read, addresses suppressed. All of it pure.

:mod:`relay.feedback.arf` reads abuse reports (RFC 5965), :mod:`relay.feedback.ses` and
:mod:`relay.feedback.sparkpost` the two providers' notifications, each into :class:`Feedback` values.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from relay.value import dataclass

DETAIL_SHOWN: Final = 300
"""Characters of a report's own words that are kept."""

_HARD: Final = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"})
"""RFC 3463 §3.2, RFC 7505 §4.2: no such mailbox, no such system, bad syntax, moved and left no address, null MX."""


class Said(StrEnum):
    """What a feedback says."""

    COMPLAINT = "complaint"
    BOUNCE = "bounce"


class Unbelievable(Exception):
    """Feedback that can't be read, or whose origin can't be believed; the text says why."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """One recipient's mail was complained of, or bounced later.

    ``provider`` says it; ``queue_id`` is our own id of the message, where the report shows our Received field, and
    ``sender`` its reverse-path or author; "" where it does not tell. ``hard``: it will never arrive there. ``detail``
    are the report's words, on one line.
    """

    said: Said
    recipient: str
    provider: str
    sender: str = ""
    queue_id: str = ""
    hard: bool = False
    detail: str = ""


def is_hard(dsn: str) -> bool:
    """Whether a status says that mail to this address will never arrive, whoever sends what."""
    return dsn in _HARD


def line_of(text: object) -> str:
    """Foreign text as one line of printable characters, cut to what is kept."""
    words = " ".join(str(text).split())
    return "".join(c if c.isprintable() else "?" for c in words[:DETAIL_SHOWN])
