"""Bodies arrive octet for octet, and what leaves never holds a bare CR or LF."""

from __future__ import annotations

import random
import re
from pathlib import Path

from tests.e2e.harness import Relay, smtp_upstream
from tests.peers.ledger import Submitter
from tests.peers.scripted import ScriptedUpstream

HEAD = (
    b"From: <a@x.test>\r\nTo: <b@y.test>\r\nSubject: =?utf-8?q?=C3=A9?=\r\n folded\r\n"
    b"Date: Sun, 22 Nov 2026 02:00:00 +0000\r\nMessage-ID: <kept@x.test>\r\nX-Odd:no space\r\n"
)
SEED = random.Random(5)
BODIES = {
    "empty": b"",
    "one empty line": b"\r\n",
    "dots": b".\r\n..\r\n...\r\n.a\r\n \r\n.\r\n",
    "a thousand dots": b".\r\n" * 1000,
    "nul and controls": bytes(set(range(256)) - {10, 13}) + b"\r\n",
    "8 bit": "Gr\u00fc\u00dfe, \u65e5\u672c\u8a9e\r\n".encode(),
    "trailing blanks": b"a  \t\r\nb\t\r\n\r\n\r\n",
    "998 octets a line": (b"y" * 998 + b"\r\n") * 20,
    "From line": b"From someone\r\n>From\r\nFrom: not a field\r\n",
    "line ends": b"\r\n" * 40_000,
    "256 KB and a dot at the edge": b"z" * 70 + b"\r\n" + (b"z" * 62 + b"\r\n") * 4095 + b".\r\n.edge\r\n",
    "1.5 MB": b"".join(SEED.randbytes(36).hex().encode() + b"\r\n" for _ in range(20_000)),
}


async def test_bodies(tmp_path: Path) -> None:
    async with ScriptedUpstream() as peer, Relay(tmp_path, {"peer": smtp_upstream(peer.port)}) as relay:
        client = await Submitter.connect(relay.port)
        for n, (name, body) in enumerate(BODIES.items(), 1):
            reply = await client.submit("a@x.test", ["b@y.test"], HEAD + b"\r\n" + body, " BODY=8BITMIME")
            assert reply.startswith("250 "), f"{name}: {reply}"
            received = (await peer.received(n))[-1]
            head, _, arrived = received.content.partition(b"\r\n\r\n")
            assert arrived == body, name
            assert head.endswith(HEAD.removesuffix(b"\r\n")), f"{name}: the fields stand as they were given"
            assert head.startswith(b"Received: "), name
            assert not re.search(rb"(?<!\r)\n|\r(?!\n)", received.wire), name
        client.close()
        assert peer.violations == []


async def test_bare_line_feeds_become_line_ends(tmp_path: Path) -> None:
    async with ScriptedUpstream() as peer, Relay(tmp_path, {"peer": smtp_upstream(peer.port)}) as relay:
        client = await Submitter.connect(relay.port)
        for line in ("MAIL FROM:<a@x.test>", "RCPT TO:<b@y.test>", "DATA"):
            assert (await client.command(line))[0] in "23"
        # As smtplib's sendmail(as_bytes()) sends it: stuffed after bare line feeds too.
        client.writer.write(b"Subject: x\n\nfirst\n..hidden\n...\nlast\n\r\n.\r\n")
        assert (await client.command("NOOP")).startswith("250")
        client.close()
        received = (await peer.received(1))[0]
        assert received.content.partition(b"\r\n\r\n")[2] == b"first\r\n.hidden\r\n..\r\nlast\r\n\r\n"
