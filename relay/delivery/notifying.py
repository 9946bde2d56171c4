"""Notifications to senders on their way into the spool: read what is returned, write it, address it."""

from __future__ import annotations

from collections.abc import Sequence

from relay.bounce import RecipientReport, write
from relay.events import Accepted, Bounced, Event, Notification
from relay.mail import Envelope, Message, Recipient, queue_id
from relay.settings import QueueSettings
from relay.spool import Arrival, Spool, SpoolBroken, SpoolError

OFF = "off"
"""``[queue] bounces``: nobody is told."""
DEFAULT = "default"
"""``[queue] bounces``: notifications go the way of other mail."""


class Notifier:
    """``reporter`` names us in what it writes."""

    def __init__(self, spool: Spool, reporter: str) -> None:
        self._spool = spool
        self._reporter = reporter

    async def arrival(
        self,
        kind: Notification,
        message: Message,
        content: bytes | None,
        reports: Sequence[RecipientReport],
        settings: QueueSettings,
        *,
        now: float,
        until: float | None = None,
    ) -> Arrival:
        """The notification of ``reports``, to be accepted with what it tells of. ``content`` is the original's, None
        where it is not in memory; ``until`` is when trying ends (Unix seconds). Raises SpoolBroken.
        """
        original = content if content is not None else await self._original(message)
        number = self._spool.allocate(now)
        written = write(
            kind,
            message,
            original,
            reports,
            reporter=self._reporter,
            queue_id=queue_id(number),
            now=now,
            until=until,
        )
        # RFC 3464 §2: from the null reverse-path, so that nobody is ever told of a notification's own fate.
        envelope = Envelope("", (Recipient(0, message.envelope.sender),), written.body, written.smtputf8)
        upstream = None if settings.bounces in {DEFAULT, OFF} else settings.bounces
        own = Message(number, envelope, len(written.octets), now, written.message_id, upstream=upstream)
        return Arrival(own, written.octets, bounce_of=message.queue_id)

    async def _original(self, message: Message) -> bytes:
        """The first part: all that is ever returned is in it (relay.bounce.RETURNED_AT_MOST)."""
        try:
            return await self._spool.content(message.number, 0)
        except SpoolBroken:
            raise
        except SpoolError:
            return b""


def told(kind: Notification, arrival: Arrival, now: float) -> tuple[Event, Event]:
    """What the log says of a notification that was accepted."""
    message = arrival.message
    assert arrival.bounce_of is not None
    accepted = Accepted(
        now,
        message.queue_id,
        None,
        message.message_id,
        message.envelope.sender,
        message.size,
        len(message.envelope.recipients),
        arrival.bounce_of,
    )
    return Bounced(now, arrival.bounce_of, message.queue_id, kind), accepted
