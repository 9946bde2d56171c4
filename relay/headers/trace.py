"""Our Received line: written, and known again when it comes back (RFC 5321 §4.4, §6.3)."""

from __future__ import annotations

import re
from typing import Final

from relay.value import dataclass

_UNPRINTABLE: Final = re.compile("[^!-~]")


@dataclass(frozen=True, slots=True)
class Trace:
    """What the Received line says: who gave the message to whom, when (Unix seconds) and under which id.

    ``helo`` and ``recipient`` are foreign text and are made harmless here. ``recipient`` is None unless there is
    exactly one (RFC 5321 §7.2: the others are not to see it); ``protocol`` is the WITH keyword (RFC 3848, RFC 6531).
    """

    helo: str
    client_name: str
    client_address: str
    hostname: str
    protocol: str
    queue_id: str
    recipient: str | None
    at: float


def received_line(trace: Trace, date: str) -> str:
    """RFC 5321 §4.4: ``from helo (name [ip]) by host with protocol id queue-id for <recipient>; date``."""
    # §4.1.3: an IPv6 address carries its tag.
    tag = "IPv6:" if ":" in trace.client_address else ""
    recipient = f"\r\n\tfor <{_harmless(trace.recipient)}>" if trace.recipient is not None else ""
    return (
        f"Received: from {_harmless(trace.helo) or 'unknown'} ({trace.client_name} [{tag}{trace.client_address}])\r\n"
        f"\tby {trace.hostname} (relay) with {trace.protocol} id {trace.queue_id}{recipient};\r\n"
        f"\t{date}\r\n"
    )


def is_ours(value: bytes, hostname: str) -> bool:
    """Whether a Received field with this value was written by a relay of that name, however it was folded since."""
    # Nothing foreign in a line of ours can feign it: HELO name and recipient have no spaces there.
    return b"(relay)" in value and f" by {hostname} (relay) with ".encode() in b" ".join(value.split())


def _harmless(text: str) -> str:
    """Foreign text without controls or anything that could end its place in a header field."""
    if text.isascii():
        return _UNPRINTABLE.sub("?", text) if not text.isprintable() or " " in text else text
    return "".join(character if character.isprintable() and character != " " else "?" for character in text)
