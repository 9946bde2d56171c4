"""A whole session at the listener: any split of what a client sends gets the same replies and keeps the same mail."""

from __future__ import annotations

import asyncio
import re
from typing import cast

from relay.events import Accepted, Event
from relay.listener.intake import Intake
from relay.listener.protocol import SMTP
from relay.mail import Client
from relay.smtp.lineends import are_whole
from relay.spool import Arrival, Spool
from tests.fuzz.supply import Supply, pieces
from tests.listener.stand_ins import MemorySpool, NotingDelivery

_EHLO = b"EHLO app.test\r\n"
_ENVELOPE = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n"
SEEDS = (
    _EHLO + _ENVELOPE + b"DATA\r\nSubject: x\r\n\r\n..\r\n.\r\nQUIT\r\n",
    _EHLO + _ENVELOPE + b"BDAT 5\r\na: b\rBDAT 4 LAST\r\n\n\r\nxMAIL FROM:<>\r\nRSET\r\nNOOP\r\n\x00\x80\x01",
    b"HELO x\r\nMAIL FROM:<a@x.test> SIZE=1\nVRFY x\r\nRCPT TO:<b>\r\nDATA\r\n",
    _EHLO + b"AUTH PLAIN AGEAYg==\r\nSTARTTLS\r\nHELP\r\nBDAT x\r\nMAIL",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    # Found: another protocol that was none where a line feed came with it.
    b"\x16\x03\x01EHLO app.test\r[\nMAIL FROM:<a@x.test>\r\n\x00\x20\x01",
    b"NOOP\r\n\xc7\xaa\xab\xb7LS\rS\r\nNOOP\r\n\x00\x80\x00\x90\x02",
    _EHLO + _ENVELOPE + b"DATA\r\nIdempotency-Key: k\r\n\r\n\r\n.\r\n" + _ENVELOPE + b"DATA\r\n\n.\n.\r\n.\r\n",
)
_REPLY = re.compile(rb"[2345][0-9]{2}(?: [245]\.[0-9]{1,3}\.[0-9]{1,3})? .*|[2345][0-9]{2}-.*")
_AT = 1_700_000_000.0
_LOOP = asyncio.new_event_loop()


class StoppedClock:
    def now(self) -> float:
        return _AT

    def monotonic(self) -> float:
        return 0.0


class Wire(asyncio.Transport):
    """The session's end of a connection that takes all that is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 4711)})
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def check(octets: bytes) -> None:
    supply = Supply(octets)
    cuts = supply.cuts()
    stream = supply.rest()
    whole = _LOOP.run_until_complete(_talk([stream]))
    split = _LOOP.run_until_complete(_talk(pieces(stream, cuts)))
    assert split == whole


async def _talk(said: list[bytes]) -> tuple[list[bytes], list[Arrival]]:
    """What a client that says this, and closes its side then, is answered, and what is kept."""
    spool = MemorySpool()
    events: list[Event] = []
    intake = Intake(cast("Spool", spool), StoppedClock(), "relay.test", events.append, NotingDelivery())
    session = SMTP(
        intake,
        clock=StoppedClock(),
        emit=events.append,
        client=Client("localhost", "127.0.0.1"),
        hostname="relay.test",
        data_size_limit=2_000,
        enable_SMTPUTF8=True,
        max_recipients=5,
        loop=_LOOP,
    )
    wire = Wire()
    session.connection_made(wire)
    for piece in said:
        if piece and not wire.closed:
            session.data_received(piece)
            await _rest()
    session.eof_received()
    while not wire.closed:
        await _rest()
    session.connection_lost(None)
    await _rest()
    replies = wire.written.split(b"\r\n")
    assert replies.pop() == b""
    assert all(_REPLY.fullmatch(reply) for reply in replies), replies
    # A bug of ours, or content that a commit broke on: neither can be the client's doing.
    assert not any(reply.startswith((b"451 4.3.0", b"250 2.0.0 Ok: queued as None")) for reply in replies), replies
    assert len([event for event in events if isinstance(event, Accepted)]) == len(spool.accepted)
    queued = [reply.rpartition(b" ")[2].decode() for reply in replies if b"queued as" in reply]
    # What came again under an Idempotency-Key is told the first one's.
    assert list(dict.fromkeys(queued)) == [arrival.message.queue_id for arrival in spool.accepted]
    for arrival in spool.accepted:
        assert arrival.content is not None
        assert are_whole(arrival.content)
        assert len(arrival.content) == arrival.message.size
        assert arrival.message.envelope.recipients
    return replies, spool.accepted


async def _rest() -> None:
    for _ in range(4):
        await asyncio.sleep(0)
