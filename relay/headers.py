"""The header block of a submitted message: bytes in, bytes out (RFC 5322 §2.2, RFC 6409 §8).

What a submission server does to it and no more: a Received line on top (RFC 5321 §4.4), Message-ID and Date where they
are missing, Bcc lines away, an empty line where a line that is no field ends the header. The body and all other fields
stay byte for byte. Nothing is parsed deeper than lines and field names; the time is linear in the header's length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

MAX_HEADER: Final = 256 * 1024
"""Octets of a header block that is taken; a longer one is refused with 552 5.3.4."""

# RFC 5322 §2.2: printable ASCII but the colon; obsolete syntax allows white space before the colon (§4.5).
_FIELD_NAME: Final = rb"[!-9;-~]++[ \t]*+:"
_NO_FIELD: Final = re.compile(rb"^(?!" + _FIELD_NAME + rb"|[ \t])", re.MULTILINE)
_OF_INTEREST: Final = re.compile(rb"^(received|message-id|date|bcc|resent-bcc)[ \t]*+:", re.MULTILINE | re.IGNORECASE)
_FIELD_END: Final = re.compile(rb"\r\n(?![ \t])")
_MAILBOX_LINE: Final = re.compile(rb">*+From ")
_FOLD: Final = re.compile(rb"\r\n(?=[ \t])")
_UNPRINTABLE: Final = re.compile("[^!-~]")

_MAX_LINE: Final = 1000
"""Octets of a line (RFC 5321 §4.5.3.1.6)."""
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


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


@dataclass(frozen=True, slots=True)
class Stamped:
    """A message's first octets after the stamp, ready to be kept.

    ``message_id`` is as its field has it, angle brackets included; ``received`` counts the Received lines that the
    message came with; ``repairs`` names what had to be mended, for the log.
    """

    octets: bytes
    message_id: str
    received: int
    repairs: tuple[str, ...]


def header_end(octets: bytes) -> int:
    """Where the header block ends in a message that begins with ``octets`` (line ends are CRLF).

    That is behind the CRLF of its last field; ``len(octets)`` where nothing ended it yet. The empty line, or else the
    first line that is neither a field nor the continuation of one, belongs to the body.
    """
    empty = octets.find(b"\r\n\r\n")
    stop = empty + 2 if empty >= 0 else len(octets)
    if octets.startswith((b" ", b"\t", b"\r\n")):
        return 0
    start = _mailbox_line_end(octets)
    found = _NO_FIELD.search(octets, start, stop)
    if found is None:
        return stop
    # A line cut off by the end of what was read may still become a field, as long as it isn't too long for one.
    cut_off = octets.find(b"\r\n", found.start()) < 0 and len(octets) - found.start() <= _MAX_LINE
    return len(octets) if cut_off else found.start()


def stamp(octets: bytes, end: int, trace: Trace) -> Stamped:
    """Stamp a message that begins with ``octets`` and whose header block ends at ``end`` (see :func:`header_end`)."""
    header, body = octets[:end], octets[end:]
    repairs: list[str] = []
    mailbox_line = _mailbox_line_end(header)
    if mailbox_line:
        # An mbox separator, no field: Postfix keeps it in this one.
        header = b"X-Mailbox-Line: " + header
        repairs.append("mailbox-line")
    received = 0
    message_id = ""
    dated = copied_blindly = False
    removed: list[tuple[int, int]] = []
    for found in _OF_INTEREST.finditer(header):
        name = found[1].lower()
        if name == b"received":
            received += 1
        elif name in {b"bcc", b"resent-bcc"}:
            # RFC 5322 §3.6.3: nobody is to see it. Its recipients stand in the envelope.
            copied_blindly = True
            removed.append((found.start(), _field_end(header, found.end())))
        else:
            field_end = _field_end(header, found.end())
            value = _FOLD.sub(b"", header[found.end() : field_end]).strip()
            if not value:
                # An empty field would make two once ours is added (RFC 5322 §3.6: at most one).
                removed.append((found.start(), field_end))
            elif name == b"date":
                dated = True
            else:
                message_id = message_id or value[:_MAX_LINE].decode("utf-8", "replace")
    if copied_blindly:
        repairs.append("bcc")
    if removed:
        header = _without(header, removed)
    date = date_time(trace.at)
    added = [_received_line(trace, date)]
    if not message_id:
        message_id = f"<{trace.queue_id}.{int(trace.at)}@{trace.hostname}>"
        added.append(f"Message-ID: {message_id}\r\n")
        repairs.append("message-id")
    if not dated:
        added.append(f"Date: {date}\r\n")
        repairs.append("date")
    if not body.startswith(b"\r\n"):
        # RFC 5322 §2.1: the empty line between header and body, which a header alone may lack too.
        if body:
            repairs.append("separator")
        body = b"\r\n" + body
    return Stamped("".join(added).encode() + header + body, message_id, received, tuple(repairs))


def date_time(at: float) -> str:
    """``at`` (Unix seconds) as RFC 5322 §3.3 has it, in UTC, whatever the locale."""
    utc = datetime.fromtimestamp(at, UTC)
    return (
        f"{_DAYS[utc.weekday()]}, {utc.day} {_MONTHS[utc.month - 1]} {utc.year} "
        f"{utc.hour:02}:{utc.minute:02}:{utc.second:02} +0000"
    )


def _received_line(trace: Trace, date: str) -> str:
    """RFC 5321 §4.4: ``from helo (name [ip]) by host with protocol id queue-id for <recipient>; date``."""
    # §4.1.3: an IPv6 address carries its tag.
    tag = "IPv6:" if ":" in trace.client_address else ""
    recipient = f"\r\n\tfor <{_harmless(trace.recipient)}>" if trace.recipient is not None else ""
    return (
        f"Received: from {_harmless(trace.helo) or 'unknown'} ({trace.client_name} [{tag}{trace.client_address}])\r\n"
        f"\tby {trace.hostname} (relay) with {trace.protocol} id {trace.queue_id}{recipient};\r\n"
        f"\t{date}\r\n"
    )


def _harmless(text: str) -> str:
    """Foreign text without controls or anything that could end its place in a header field."""
    if text.isascii():
        return _UNPRINTABLE.sub("?", text) if not text.isprintable() or " " in text else text
    return "".join(character if character.isprintable() and character != " " else "?" for character in text)


def _mailbox_line_end(octets: bytes) -> int:
    if octets[:1] not in {b"F", b">"} or _MAILBOX_LINE.match(octets) is None:
        return 0
    end = octets.find(b"\r\n")
    return end + 2 if end >= 0 else len(octets)


def _field_end(header: bytes, start: int) -> int:
    found = _FIELD_END.search(header, start)
    return found.end() if found is not None else len(header)


def _without(header: bytes, spans: list[tuple[int, int]]) -> bytes:
    kept = []
    position = 0
    for start, end in spans:
        kept.append(header[position:start])
        position = end
    kept.append(header[position:])
    return b"".join(kept)
