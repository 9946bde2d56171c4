"""Commands that are answered where they are received: by a session's own methods, without a socket."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from relay.clock import SystemClock
from relay.events import Event, Notice
from relay.listener.intake import Intake
from relay.listener.protocol import SMTP
from relay.mail import Client
from relay.spool import Spool
from tests.listener.stand_ins import MemorySpool, NotingDelivery


class Wire(asyncio.Transport):
    """Notes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return False


class Session:
    """A session after EHLO."""

    def __init__(self, protocol: SMTP, wire: Wire, events: list[Event]) -> None:
        self.protocol = protocol
        self.wire = wire
        self.events = events

    def say(self, octets: bytes) -> list[bytes]:
        """What is answered before anything else gets its turn."""
        self.wire.written.clear()
        self.protocol.data_received(octets)
        return list(self.wire.written)

    async def end(self) -> None:
        self.protocol.connection_lost(None)
        await asyncio.sleep(0.01)


async def opened() -> Session:
    events: list[Event] = []
    intake = Intake(cast("Spool", MemorySpool()), SystemClock(), "relay.test", events.append, NotingDelivery())
    client = Client("localhost", "127.0.0.1")
    protocol = SMTP(intake, hostname="relay.test", emit=events.append, client=client, loop=asyncio.get_running_loop())
    wire = Wire()
    protocol.connection_made(wire)
    await asyncio.sleep(0)
    protocol.data_received(b"EHLO app.test\r\n")
    await asyncio.sleep(0.01)
    return Session(protocol, wire, events)


async def test_a_lone_command_is_answered_where_it_is_received() -> None:
    session = await opened()
    assert session.say(b"MAIL FROM:<a@x.test>\r\n") == [b"250 2.1.0 Ok\r\n"]
    assert session.say(b"RCPT TO:<b@y.test>\r\n") == [b"250 2.1.5 Ok\r\n"]
    assert session.say(b"DATA\r\n") == [b"354 End data with <CR><LF>.<CR><LF>\r\n"]
    await session.end()


async def test_pipelined_commands_share_one_write() -> None:
    session = await opened()
    assert session.say(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n") == []
    await asyncio.sleep(0.01)
    assert session.wire.written == [b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n"]
    await session.end()


async def test_what_came_with_the_end_of_input_is_answered() -> None:
    session = await opened()
    assert session.say(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n") == []
    session.protocol.eof_received()
    await asyncio.sleep(0.01)
    assert session.wire.written == [b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n"]
    assert session.wire.closed
    await session.end()


async def test_nothing_is_answered_behind_the_end_of_a_session() -> None:
    session = await opened()
    while not (said := session.say(b"RCPT TO:<b@y.test>\r\n"))[0].count(b"\r\n421 "):
        assert said == [b"503 5.5.1 Error: need MAIL command\r\n"]
    assert session.say(b"MAIL FROM:<a@x.test>\r\n") == []
    await session.end()


async def test_a_command_that_waits_where_it_must_not_is_451_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def waiting(_session: SMTP, _argument: str | None) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(SMTP, "smtp_NOOP", waiting)
    session = await opened()
    (reply,) = session.say(b"NOOP\r\n")
    assert reply.startswith(b"451 4.3.0 Error: internal error ")
    told = [event.text for event in session.events if isinstance(event, Notice) and event.warning]
    assert len(told) == 1
    assert "UnforeseenWaitError" in told[0]
    assert reply.decode().split()[-1] in told[0], "the log has the same id"
    assert session.say(b"MAIL FROM:<a@x.test>\r\n") == [b"250 2.1.0 Ok\r\n"], "the session goes on"
    await session.end()
