"""The mail log: whatever others wrote, an event stays on its lines and feigns no other."""

from __future__ import annotations

import json
import re

from relay.events import (
    Accepted,
    Attempted,
    Bounced,
    Connected,
    Event,
    Expired,
    Notice,
    Rejected,
    Removed,
    Requeued,
    Status,
)
from relay.maillog.grammar import Grammar
from relay.maillog.objects import Objects
from tests.fuzz.supply import Supply

SEEDS = (
    b"localhost[127.0.0.1]\na@x.test\n<one@app.example>\n250 2.0.0 Ok\n",
    b"x[y]\n<>, size=1, nrcpt=2 (queue active)\n]: 1A2B3C4D: client=z\nrelay postfix/qmgr[1]: 1A2B3C4D: removed\n",
    # Found: what a quoted local part may hold.
    b'x\n"]: 1A2B3C4D: client=z"@x.test\ny\nz\n',
    b"a\n\x1b[31m\r\n\xe2\x80\xa8\xc2\x85\n\xff\n",
)
_AT = 1_795_000_000.0
_ID = "8889D160292"
_GRAMMAR = Grammar("relay.test", "postfix", 4711)
_OBJECTS = Objects("relay.test", 4711)
_LINE = re.compile(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d relay postfix/[a-z]+\[4711\]: .*")
_COUNTED = re.compile(r"\]: [0-9A-F]{6,}: client=|from=<[^>]*>, size=\d|\bstatus=(?:sent|deferred|bounced|expired) \(")


def check(octets: bytes) -> None:
    supply = Supply(octets)
    client, address, message_id, text = (supply.line().decode("utf-8", "replace") for _ in range(4))
    for event, lines, counted in _events(client, address, message_id, text):
        spelled = _GRAMMAR.lines(event)
        told = spelled.split("\n")
        assert told.pop() == ""
        assert len(told) == lines, told
        assert all(_LINE.fullmatch(line) and line.isprintable() for line in told), told
        found = _COUNTED.findall(spelled)
        assert len(found) == counted, (spelled, found)
        line = _OBJECTS.lines(event)
        assert line.isascii()
        assert line.count("\n") == 1
        assert isinstance(json.loads(line), dict)


def _events(client: str, address: str, message_id: str, text: str) -> list[tuple[Event, int, int]]:
    """Each with how many lines it takes, and how many of them a log reader counts."""
    return [
        (Connected(_AT, client), 1, 0),
        (Accepted(_AT, _ID, "localhost[127.0.0.1]", message_id, address, 3, 1), 3, 2),
        (Accepted(_AT, _ID, None, message_id, address, 3, 1, repairs=(text,)), 3, 1),
        (Rejected(_AT, client, "RCPT", text, address, address, text), 1, 0),
        (Attempted(_AT, _ID, "b@y.test", "ses", "ses[192.0.2.1]:25", Status.SENT, "2.0.0", "250 Ok"), 1, 1),
        (Expired(_AT, _ID, address), 1, 0),
        (Requeued(_AT, _ID, address, 3, 1), 1, 1),
        (Bounced(_AT, _ID, _ID), 1, 0),
        (Removed(_AT, _ID), 1, 0),
        (Notice(_AT, "smtp", text), 1, 0),
    ]
