"""Stand-ins for the listener's neighbours: a spool in memory, a delivery that notes, a client that speaks octets."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

from relay.clock import SystemClock
from relay.events import Event
from relay.listener.connection import Connection
from relay.listener.intake import Intake
from relay.listener.server import Listeners
from relay.mail import next_queue_number
from relay.settings import ListenerSettings, UserSettings
from relay.spool import Arrival, Duplicate, Spool


class MemorySpool:
    """The verbs of the spool's port that a listener uses. ``before`` runs inside each, named, and may raise or wait."""

    def __init__(self, before: Callable[[str], Awaitable[None]] | None = None) -> None:
        self.accepted: list[Arrival] = []
        self.staged: dict[int, dict[int, bytes]] = {}
        self.imprints: dict[bytes, int] = {}
        self.no_room: Exception | None = None
        self.keep = True
        self._before = before
        self._last = 0

    def allocate(self, now: float) -> int:
        self._last = next_queue_number(self._last, now)
        return self._last

    def check_room(self, size: int) -> None:
        if self.no_room is not None:
            raise self.no_room

    async def stage(self, number: int, part: int, octets: bytes) -> None:
        await self._pass("stage")
        parts = self.staged.setdefault(number, {})
        assert part == len(parts)
        parts[part] = octets if self.keep else b""

    async def discard(self, number: int) -> None:
        await self._pass("discard")
        self.staged.pop(number, None)

    async def accept(self, arrival: Arrival) -> Duplicate | None:
        await self._pass("accept")
        for imprint in arrival.imprints:
            first = self.imprints.setdefault(imprint.digest, arrival.message.number)
            if first != arrival.message.number:
                return Duplicate(first, imprint.kind)
        if self.keep:
            self.accepted.append(arrival)
        return None

    async def _pass(self, verb: str) -> None:
        if self._before is not None:
            await self._before(verb)

    def content(self, n: int = -1) -> bytes:
        """An accepted message's content."""
        arrival = self.accepted[n]
        if arrival.content is not None:
            return arrival.content
        parts = self.staged[arrival.message.number]
        return b"".join(parts[part] for part in sorted(parts))


@dataclass
class NotingDelivery:
    """Grants ``room`` hand-overs."""

    room: int = 1_000_000
    reserved: int = 0
    handed: list[Arrival] = field(default_factory=list)
    waits: int = 0

    def reserve(self, size: int, turn: int) -> bool:
        if self.reserved >= self.room:
            return False
        self.reserved += 1
        return True

    def unreserve(self, size: int, turn: int) -> None:
        self.reserved -= 1

    def handed_over(self, arrival: Arrival) -> None:
        self.handed.append(arrival)

    def waiting(self, turn: int) -> None:
        self.waits += 1


@dataclass
class Door:
    """A running listener with its neighbours."""

    listeners: Listeners
    spool: MemorySpool
    delivery: NotingDelivery
    events: list[Event]
    clients: list[Dialogue] = field(default_factory=list)

    async def connect(self) -> Dialogue:
        """A new client, greeted."""
        dialogue = await self.dial()
        assert (await dialogue.reply()).startswith(b"220 ")
        return dialogue

    async def dial(self, trusted: ssl.SSLContext | None = None) -> Dialogue:
        """A new client; over TLS from the first octet on where it has somebody ``trusted``."""
        address = self.listeners.addresses[0]
        if address.startswith("unix:"):
            ends = await asyncio.open_unix_connection(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            name = "localhost" if trusted is not None else None
            ends = await asyncio.open_connection(host.strip("[]"), int(port), ssl=trusted, server_hostname=name)
        dialogue = Dialogue(*ends)
        self.clients.append(dialogue)
        return dialogue

    def session_list(self) -> list[Connection]:
        """The sessions of all listeners."""
        return [session for listener in self.listeners._all() for session in listener._sessions]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once ``condition`` holds."""
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.01)


@dataclass
class Dialogue:
    """The client's end."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def reply(self) -> bytes:
        """The next reply, all its lines, without the last line end; b"" at the end of the connection."""
        lines = []
        while True:
            line = await asyncio.wait_for(self.reader.readline(), 10)
            lines.append(line)
            if line[3:4] != b"-":
                return b"".join(lines).removesuffix(b"\r\n")

    async def ask(self, octets: bytes) -> bytes:
        """Send something that gets one reply."""
        self.writer.write(octets)
        return await self.reply()

    async def start_tls(self, trusted: ssl.SSLContext) -> None:
        """After a 220 to STARTTLS."""
        await self.writer.start_tls(trusted, server_hostname="localhost")

    async def submit(
        self, content: bytes, *, sender: bytes = b"a@x.test", to: tuple[bytes, ...] = (b"b@y.test",)
    ) -> bytes:
        """One transaction, step by step; the reply to the content, which goes as it is, dot-stuffed already."""
        assert (await self.ask(b"MAIL FROM:<" + sender + b">\r\n")).startswith(b"250 ")
        for recipient in to:
            assert (await self.ask(b"RCPT TO:<" + recipient + b">\r\n")).startswith(b"250 ")
        assert (await self.ask(b"DATA\r\n")).startswith(b"354 ")
        return await self.ask(content + b".\r\n")

    async def rest(self) -> bytes:
        """All until the server closes."""
        return await asyncio.wait_for(self.reader.read(), 10)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):  # also an ssl.SSLError that was told before
            await self.writer.wait_closed()


async def no_time(seconds: float) -> None:
    """A sleep that is none."""
    del seconds


@asynccontextmanager
async def a_door(
    settings: ListenerSettings | None = None,
    spool: MemorySpool | None = None,
    *,
    users: Sequence[UserSettings] = (),
    **changes: Any,
) -> AsyncIterator[Door]:
    """A listener on a free port of the loopback, stopped at the end. Wrong passwords cost no time."""
    settings = replace(settings or ListenerSettings(address="127.0.0.1:0"), **changes)
    spool = spool or MemorySpool()
    delivery = NotingDelivery()
    events: list[Event] = []
    clock = SystemClock()
    intake = Intake(cast("Spool", spool), clock, "relay.test", events.append, delivery)
    listeners = Listeners(
        [settings], hostname="relay.test", receiver=intake, clock=clock, emit=events.append, users=users
    )
    listeners._users._sleep = no_time
    await listeners.start()
    door = Door(listeners, spool, delivery, events)
    try:
        yield door
    finally:
        await listeners.stop(0.0)
        for client in door.clients:
            client.writer.transport.abort()
            await client.close()
