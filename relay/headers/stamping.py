"""The stamp: what is added to a header block, what is taken out of it, what is mended (RFC 6409 §8)."""

from __future__ import annotations

from typing import Final

from relay.headers.controls import CONTROL_FIELDS, NO_CONTROLS, Controls, read_controls
from relay.headers.dates import date_time
from relay.headers.scanning import MAX_LINE, finder, mailbox_line_end, unfolded, without
from relay.headers.trace import Trace, is_ours, received_line
from relay.outcome import Reply
from relay.value import dataclass

MAX_HEADER: Final = 256 * 1024
"""Octets of a header block that is taken; a longer one is refused with 552 5.3.4."""

_OF_INTEREST: Final = finder((b"received", b"message-id", b"date", b"from", b"bcc", b"resent-bcc", *CONTROL_FIELDS))


@dataclass(frozen=True, slots=True)
class Stamped:
    """A message's first octets after the stamp, ready to be kept.

    ``message_id`` is as its field has it, angle brackets included; ``received`` counts the Received lines that the
    message came with, ``ours`` those of them that a relay with our name wrote; ``controls`` is what the application
    asks for, or the refusal of it; ``repairs`` names what had to be mended, for the log.
    """

    octets: bytes
    message_id: str
    received: int = 0
    ours: int = 0
    controls: Controls | Reply = NO_CONTROLS
    repairs: tuple[str, ...] = ()


def stamp(octets: bytes, end: int, trace: Trace, sender: str = "") -> Stamped:
    """Stamp a message that begins with ``octets`` and whose header block ends at ``end`` (see ``header_end``).

    ``sender``, the reverse-path without control characters, becomes From where that is missing; the null one doesn't.
    """
    header = octets[:end]
    repairs: list[str] = []
    if mailbox_line_end(header):
        # An mbox separator, no field: Postfix keeps it in this one.
        header = b"X-Mailbox-Line: " + header
        repairs.append("mailbox-line")
    received = ours = 0
    message_id = ""
    dated = authored = copied_blindly = False
    controls: list[tuple[bytes, bytes]] = []
    removed: list[tuple[int, int]] = []
    for found in _OF_INTEREST.finditer(b"\n" + header):
        name = found[1].lower()
        if name == b"received":
            received += 1
            ours += is_ours(found[2], trace.hostname)
            continue
        if name in {b"bcc", b"resent-bcc"}:
            # RFC 5322 §3.6.3: nobody is to see it. Its recipients stand in the envelope.
            copied_blindly = True
            removed.append(found.span())
            continue
        value = found[2].strip()
        if name in CONTROL_FIELDS:
            controls.append((name, unfolded(value)))
            removed.append(found.span())
        elif not value:
            # An empty field would make two once ours is added (RFC 5322 §3.6: at most one).
            if name != b"from" or sender:
                removed.append(found.span())
        elif name == b"date":
            dated = True
        elif name == b"from":
            authored = True
        else:
            message_id = message_id or unfolded(value)[:MAX_LINE].decode("utf-8", "replace")
    if copied_blindly:
        repairs.append("bcc")
    if removed:
        header = without(header, removed)
    date = date_time(trace.at)
    added = [received_line(trace, date)]
    if not message_id:
        message_id = f"<{trace.queue_id}.{int(trace.at)}@{trace.hostname}>"
        added.append(f"Message-ID: {message_id}\r\n")
        repairs.append("message-id")
    if not dated:
        added.append(f"Date: {date}\r\n")
        repairs.append("date")
    if not authored and sender:
        # RFC 5322 §3.6 wants an author; who sends it is the nearest to one that is known here.
        added.append(f"From: {sender}\r\n")
        repairs.append("from")
    if not octets.startswith(b"\r\n", end):
        # RFC 5322 §2.1: the empty line between header and body, which a header alone may lack too.
        if end < len(octets):
            repairs.append("separator")
        elif header and not header.endswith(b"\r\n"):
            # By BDAT a message may end anywhere, also in the midst of a field.
            header += b"\r\n"
        header += b"\r\n"
    return Stamped(
        b"".join(("".join(added).encode(), header, memoryview(octets)[end:])),
        message_id,
        received,
        ours,
        read_controls(controls) if controls else NO_CONTROLS,
        tuple(repairs),
    )
