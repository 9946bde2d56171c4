"""Rows of ``message`` and ``recipient`` as the port's values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from relay.mail import Body, Envelope, Message, Recipient

MESSAGE_COLUMNS: Final = (
    "message.id, message.arrived, message.sender, message.size, message.body, message.smtputf8, message.ret,"
    " message.envid, message.message_id, message.client"
)
"""What :func:`message_of` wants, in its order."""

RECIPIENT_COLUMNS: Final = (
    "recipient.n, recipient.address, recipient.notify, recipient.orcpt, recipient.attempts, recipient.detail"
)
"""What :func:`recipient_of` wants, in its order."""

_BODIES: Final = {body.value: body for body in Body}


def message_of(row: Sequence[Any], recipients: Iterable[Recipient]) -> Message:
    """A message from its MESSAGE_COLUMNS (more may follow) and the recipients that belong into its envelope."""
    envelope = Envelope(row[2], tuple(recipients), _BODIES[row[4]], bool(row[5]), row[6], row[7])
    return Message(row[0], envelope, row[3], row[1] / 1000, row[8], row[9])


def recipient_of(row: Sequence[Any]) -> Recipient:
    """A recipient from its RECIPIENT_COLUMNS (more may follow)."""
    return Recipient(row[0], row[1], row[2], row[3], row[4], row[5] or "")
