"""A server's replies: any split of its octets gives the same replies, and each of them a verdict."""

from __future__ import annotations

import re

from relay.outcome import Command, Verdict, classify
from relay.smtp.replies import ReplyReader
from tests.fuzz.supply import Supply, pieces

SEEDS = (
    b"250 2.0.0 Ok: queued as 8889D160292\r\n",
    b"250-relay.test\r\n250-PIPELINING\r\n250 SIZE 100\r\n",
    b"250-2.1.5 one\r\n250 2.1.5 two\r\n550-5.1.1 a\r\n451 4.7.1 b\r\n",
    b"421\r\n354 \n454 4.7.0 Throttling failure: Maximum sending rate exceeded.\r\n\x01\x02\x03\x04\x03",
    b"25 0 x\r\n999 y\r\n",
)
_DSN = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")


def check(octets: bytes) -> None:
    supply = Supply(octets)
    cuts = supply.cuts()
    stream = supply.rest()
    whole = ReplyReader()
    replies = whole.feed(stream)
    split = ReplyReader()
    assert [reply for piece in pieces(stream, cuts) for reply in split.feed(piece)] == replies
    assert (split.broken is None) == (whole.broken is None)
    assert split.broken is not None or split.partial == whole.partial
    for reply in replies:
        assert 200 <= reply.code < 600
        assert str(reply).isprintable()
        for command in Command:
            outcome = classify(reply, command, host="up[192.0.2.1]")
            assert _DSN.fullmatch(outcome.dsn), outcome.dsn
            # Unknown trouble is temporary, and only a positive reply relays.
            expected = {"2": Verdict.RELAYED, "4": Verdict.DEFERRED, "5": Verdict.FAILED}
            assert outcome.verdict is Verdict.DEFERRED or outcome.verdict is expected[str(reply.code)[0]]
            assert (outcome.dsn[0] == "2") == (outcome.verdict is Verdict.RELAYED)
            assert not outcome.in_doubt
