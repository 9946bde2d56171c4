"""A message's header: where it ends, the stamp, the application's fields; Python's own parser reads what comes out."""

from __future__ import annotations

import re
from email.parser import BytesHeaderParser

from relay.headers import Trace, header_end, stamp
from relay.headers.controls import CONTROL_FIELDS
from relay.headers.trace import is_ours
from relay.outcome import Reply
from relay.smtp.lineends import are_whole, normalised
from tests.fuzz.supply import Supply

SEEDS = (
    b"From: a@x.test\r\nTo: b@y.test\r\nBcc: c@z.test,\r\n d@z.test\r\nSubject: x\r\n\r\nbody\r\n",
    b"From a@x Mon Jan  1 00:00:00 2024\nSubject: x\n\nbody",
    b"X-Relay-Priority: urgent\nX-Relay-Not-After: Thu, 1 Jan 2026 00:00:00 +0000 (UTC)\nIdempotency-Key: 42\n\n.",
    b"X-Relay-Upstream: ses\nX-Relay-Tag: a b\nMessage-ID:\n <x@y>\nDate: \n\t\n\n",
    b"Received: from x by relay.test (relay) with SMTP\n\tid 1; Mon, 1 Jan 2024 00:00:00 +0000\nno field\n",
    b"Bcc : a@b\nSubject\n:x\n",
    # Found: what ends in the midst of a line, by BDAT.
    b"Bcs : A@b\0\0\0",
    b"Subject: x\nno field\0\0\0",
)
_TRACE = Trace("app\r\n.test", "localhost", "127.0.0.1", "relay.test", "ESMTP", "1A2B3C", "b ob@example.org", 1.7e9)
_GONE = frozenset({b"bcc", b"resent-bcc", *CONTROL_FIELDS})
_SHORT = 900
_OBSOLETE = re.compile(rb"^[!-9;-~]+[ \t]+:", re.MULTILINE)
"""Blanks before the colon (RFC 5322 §4.5): Python's parser takes such a line for the body's first."""


def check(octets: bytes) -> None:
    supply = Supply(octets)
    cut = supply.number(65_536)
    sender = "a@x.test" if supply.choice() else ""
    message = normalised(supply.rest())
    end = header_end(message, whole=True)
    assert 0 <= end <= len(message)
    if len(message) < _SHORT:
        # Read up to anywhere, it isn't known yet or the same; but a CR that was cut off is no line end yet.
        begun = message[: cut * (len(message) + 1) >> 16].removesuffix(b"\r")
        assert header_end(begun) in {end, len(begun)}
    stamped = stamp(message, end, _TRACE, sender)
    out = stamped.octets
    assert are_whole(out)
    assert out.startswith(b"Received: from app??.test (localhost [127.0.0.1])\r\n\tby relay.test (relay) with ESMTP id")
    assert out.endswith(message[end:])
    assert is_ours(out.partition(b";")[0].partition(b":")[2], "relay.test")
    parsed = BytesHeaderParser().parsebytes(out)
    names = {name.lower().rstrip(" \t").encode("utf-8", "surrogateescape") for name in parsed}
    assert not names & _GONE, names & _GONE
    if _OBSOLETE.search(out) is None:
        assert {b"received", b"message-id", b"date"} <= names
        assert not sender or b"from" in names
    assert stamped.message_id
    if not isinstance(stamped.controls, Reply):
        for text in (stamped.controls.upstream, stamped.controls.tag, stamped.controls.idempotency_key):
            assert text is None or (text.isascii() and text.isprintable() and text)
    # What was stamped once needs no mending.
    again = stamp(out, header_end(out, whole=True), _TRACE, sender)
    assert (again.repairs, again.message_id, again.ours) == ((), stamped.message_id, stamped.ours + 1)
    assert again.octets.endswith(out)
