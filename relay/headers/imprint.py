"""By what a message is known when it comes again: what must be the same, as digests. Pure.

An application that hears no 250, or hears it and dies, sends again (RFC 1047). By its Idempotency-Key, or where
``[queue] dedupe`` asks for it by its Message-ID, the second one is known and stored once.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from relay.mail import Envelope, Imprint

KEY_WINDOW: Final = 86_400.0
"""Seconds for which an Idempotency-Key stands for the same message, as with the providers that have one."""


def imprints(
    envelope: Envelope, *, user: str, key: str | None, message_id: str | None, window: float | None
) -> tuple[Imprint, ...]:
    """Of a message with that envelope, as it will be kept.

    ``key`` is its Idempotency-Key, ``message_id`` its own Message-ID, None where it came without; ``window`` (seconds)
    is for the latter, None: it means nothing. ``user`` is who logged in: keys are each user's own.

    Sender and recipients belong to both. A message to somebody else is another one, whatever it is called: what is left
    of a transaction of which some recipients were refused is sent again under the same key, and must not be lost.
    """
    found = []
    if key is not None:
        found.append(Imprint("Idempotency-Key", _digest("key", user, key, envelope), KEY_WINDOW))
    if window is not None and message_id is not None:
        found.append(Imprint("Message-ID", _digest("id", "", message_id, envelope), window))
    return tuple(found)


def _digest(kind: str, user: str, name: str, envelope: Envelope) -> bytes:
    # No part can hold a line feed: addresses, names and fields were checked, or unfolded, at the door.
    recipients = sorted({recipient.address for recipient in envelope.recipients})
    text = "\n".join((kind, user, name, envelope.sender, *recipients))
    return sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
