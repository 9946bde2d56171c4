"""Whether a sender is told of a recipient's fate (RFC 3461 §4.1, §5.2). Pure."""

from __future__ import annotations

from relay.events import Notification
from relay.mail import Envelope, Recipient


def wants(kind: Notification, envelope: Envelope, recipient: Recipient) -> bool:
    """Whether ``kind`` is told: never for a null reverse-path (RFC 5321 §4.5.5), else as NOTIFY says.

    Without NOTIFY of failure and delay: RFC 3461 §4.1 (d) lets an MTA read its absence as NOTIFY=FAILURE,DELAY.
    """
    if not envelope.sender:
        return False
    if recipient.notify is None:
        return kind is not Notification.SUCCESS
    return kind.name in recipient.notify.upper().split(",")
