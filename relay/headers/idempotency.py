"""The header field by which a provider knows a message that it has had already. Pure.

RFC 5321 has no such thing: where the final reply is lost a message is sent again, and arrives twice (RFC 1047). Some
providers take a key for it; it must be there from the first attempt on and be the same in each.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from relay.mail import Message

_KEPT: Final = 40
"""Hexadecimal digits of the digest: no two of them meet, and providers take 256 characters."""


def idempotency_field(name: str, message: Message, content: bytes | None) -> bytes:
    """The field ``name`` for ``message`` and those of its recipients that its envelope holds.

    b"" where the name is "", or where ``content`` has such a field by its application's own will (None: not looked at).

    What the application gave as Idempotency-Key is the message's name, else what no other message has: its queue id
    with its Message-ID, as several relays may share an account. The recipients belong to it: each part of a message
    that goes out in parts is another one for the provider, and would be thrown away as a repetition.
    """
    if not name or (content is not None and _has_field(content, name)):
        return b""
    which = message.idempotency_key or f"{message.queue_id} {message.message_id}"
    whom = "\n".join(sorted(recipient.address for recipient in message.envelope.recipients))
    digest = sha256(f"{which}\n{message.envelope.sender}\n{whom}".encode()).hexdigest()
    return f"{name}: {digest[:_KEPT]}\r\n".encode()


def _has_field(content: bytes, name: str) -> bool:
    header = content.partition(b"\r\n\r\n")[0]
    return f"\n{name.lower()}:".encode() in b"\n" + header.lower()
