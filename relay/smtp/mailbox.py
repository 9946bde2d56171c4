"""What a mailbox simulator answers, by the recipient's local part: a pure table (contract: simulator).

The same names as the mailbox simulators of the large providers, so that an application's test against them runs here
unchanged. Labels after "+" are ignored (``bounce+order-7@`` is ``bounce@``), case too; every other address is taken.
Refusals come at RCPT. What concerns the end of the content (``slow@``, ``drop@``) holds for the whole transaction as
soon as one of its recipients is of that kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from relay.outcome import Reply

SLOW_SECONDS: Final = 5.0
"""How long ``slow@`` lets its sender wait for the reply to the final dot."""

_TAKEN: Final = Reply(250, "Ok", "2.1.5")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """How one simulated mailbox behaves: its reply to RCPT, then what it does to the end of the content.

    ``delay`` is in seconds; ``drops`` closes the connection after the final dot without a reply.
    """

    name: str
    reply: Reply
    delay: float = 0.0
    drops: bool = False

    @property
    def accepts(self) -> bool:
        """Whether RCPT is answered with 2yz."""
        return self.reply.code // 100 == 2


COMPLAINT: Final = "complaint"
"""The mailbox whose owner complains."""
_UNKNOWN_USER: Final = Reply(550, "Requested action not taken: mailbox unavailable", "5.1.1")

MAILBOXES: Final[Mapping[str, Mailbox]] = MappingProxyType(
    {
        box.name: box
        for box in (
            Mailbox("success", _TAKEN),
            Mailbox("bounce", _UNKNOWN_USER),
            # Taken; the out-of-office answer and the complaint come back later, by other ways.
            Mailbox("ooto", _TAKEN),
            Mailbox(COMPLAINT, _TAKEN),
            Mailbox("suppressionlist", Reply(550, "Address is on the suppression list", "5.1.1")),
            Mailbox("throttle", Reply(454, "Throttling failure: Maximum sending rate exceeded.", "4.7.0")),
            Mailbox("defer", Reply(451, "Destination can't be reached now", "4.4.1")),
            Mailbox("slow", _TAKEN, delay=SLOW_SECONDS),
            Mailbox("drop", _TAKEN, drops=True),
        )
    }
)
"""The named mailboxes."""

ANYBODY: Final = Mailbox("other", _TAKEN)
"""Every address without a rule of its own."""


def mailbox(address: str) -> Mailbox:
    """The mailbox that ``address`` means; never raises."""
    local_part = address.rpartition("@")[0] or address
    return MAILBOXES.get(local_part.strip('"').partition("+")[0].lower(), ANYBODY)


def end_of_content(accepted: Iterable[Mailbox]) -> tuple[float, bool]:
    """Seconds until the final dot is answered, and whether the connection drops instead, for one transaction."""
    boxes = list(accepted)
    return max((box.delay for box in boxes), default=0.0), any(box.drops for box in boxes)
