"""Rows of ``message`` and ``recipient`` as the port's values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from relay.mail import Body, Envelope, Message, Priority, Recipient

MESSAGE_COLUMNS: Final = (
    "message.id, message.arrived, message.sender, message.size, message.body, message.smtputf8, message.ret,"
    " message.envid, message.message_id, message.client, message.not_after, message.upstream_wanted,"
    " message.priority, message.tag, message.idempotency_key, message.marks"
)
"""What :func:`message_of` wants, in its order."""

RECIPIENT_COLUMNS: Final = (
    "recipient.n, recipient.address, recipient.notify, recipient.orcpt, recipient.attempts, recipient.detail"
)
"""What :func:`recipient_of` wants, in its order."""

_BODIES: Final = {body.value: body for body in Body}
_PRIORITIES: Final = {priority.value: priority for priority in Priority}


def message_of(row: Sequence[Any], recipients: Iterable[Recipient]) -> Message:
    """A message from its MESSAGE_COLUMNS (more may follow) and the recipients that belong into its envelope."""
    envelope = Envelope(row[2], tuple(recipients), _BODIES[row[4]], bool(row[5]), row[6], row[7])
    not_after = None if row[10] is None else row[10] / 1000
    priority = _PRIORITIES[row[12]]
    marks = () if row[15] is None else tuple(row[15].split("\n"))
    how = (not_after, row[11], priority, row[13], row[14], None, marks)
    return Message(row[0], envelope, row[3], row[1] / 1000, row[8], row[9], *how)


def recipient_of(row: Sequence[Any]) -> Recipient:
    """A recipient from its RECIPIENT_COLUMNS (more may follow)."""
    return Recipient(row[0], row[1], row[2], row[3], row[4], row[5] or "")
