"""A scripted upstream: an SMTP server that does at each step what a table tells it.

Strict about pipelining as Postfix is, and exact about what it saw: every message with its octets and time, every
flight of bytes, every breach of RFC 2920. Runs in the event loop of the test. A step is a verb ("GREETING", "EHLO",
"MAIL", "RCPT", "RCPT b@y.test", "DATA", "CONTENT", "RSET", "QUIT"); its value is one :class:`Act` for every time or a
list that is used up, act by act, before the default reply comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

EXTENSIONS = ("PIPELINING", "SIZE 50000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
REPLIES = {
    "GREETING": b"220 peer.test ESMTP\r\n",
    "MAIL": b"250 2.1.0 Ok\r\n",
    "RCPT": b"250 2.1.5 Ok\r\n",
    "DATA": b"354 End data with <CR><LF>.<CR><LF>\r\n",
    "RSET": b"250 2.0.0 Ok\r\n",
    "NOOP": b"250 2.0.0 Ok\r\n",
    "QUIT": b"221 2.0.0 Bye\r\n",
}


@dataclass(frozen=True)
class Act:
    """``reply`` is written (bytewise where ``split``), then the connection goes on, or is closed, reset or left;
    ``deaf``: what came behind the command is thrown away, as by a server that lies about PIPELINING.
    """

    reply: bytes = b""
    close: bool = False
    reset: bool = False
    hang: bool = False
    split: bool = False
    deaf: bool = False


HANG, CLOSE, RESET = Act(hang=True), Act(close=True), Act(reset=True)
Script = Mapping[str, Act | Sequence[Act]]


def say(reply: str, *, close: bool = False) -> Act:
    return Act(reply.encode() + b"\r\n", close=close)


@dataclass(frozen=True)
class Received:
    """A message whose end arrived: ``wire`` as sent, without the final dot, ``content`` without doubled dots too;
    ``reply`` is what it was answered.
    """

    at: float
    session: int
    mail: bytes
    recipients: tuple[str, ...]
    wire: bytes
    content: bytes
    reply: bytes


@dataclass
class ScriptedUpstream:
    """``async with ScriptedUpstream(script) as peer``; ``delay`` holds each flight's replies back (round trip, s)."""

    script: Script = field(default_factory=dict)
    extensions: tuple[str, ...] = EXTENSIONS
    delay: float = 0.0
    tls: ssl.SSLContext | None = None
    port: int = 0
    messages: list[Received] = field(default_factory=list)
    commands: list[bytes] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    sessions: int = 0
    open_sessions: int = 0
    round_trips: int = 0
    hung: list[float] = field(default_factory=list)
    wire: bytearray = field(default_factory=bytearray)

    async def __aenter__(self) -> Self:
        self._used: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self.changed = asyncio.Condition()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def received(self, count: int, within: float = 20.0) -> list[Received]:
        """Wait for ``count`` messages, whatever they were answered."""
        async with asyncio.timeout(within), self.changed:
            await self.changed.wait_for(lambda: len(self.messages) >= count)
        return self.messages

    def accepted(self) -> list[Received]:
        """The messages that were answered with 2yz."""
        return [message for message in self.messages if message.reply.startswith(b"2")]

    def act(self, step: str, default: bytes) -> Act:
        """What to do now at ``step``."""
        planned = self.script.get(step)
        if planned is None and step.startswith("RCPT "):
            return self.act("RCPT", default)
        self._used[step] += 1
        if isinstance(planned, Act):
            return planned
        acts = planned or ()
        return acts[self._used[step] - 1] if self._used[step] <= len(acts) else Act(default)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.sessions += 1
        self.open_sessions += 1
        try:
            await _Conversation(self, reader, writer, self.sessions).run()
        except (ConnectionError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            self.open_sessions -= 1
            self._tasks.discard(task)
            writer.close()


class _Conversation:
    """One connection: groups of commands in, one flight of replies out."""

    def __init__(
        self, peer: ScriptedUpstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        self.peer, self.reader, self.writer, self.number = peer, reader, writer, number
        self.buffer, self.chunks, self.out = bytearray(), bytearray(), bytearray()
        self.replied = False
        self.mail = b""
        self.recipients: list[str] = []

    async def run(self) -> None:
        going_on = await self.play(self.peer.act("GREETING", REPLIES["GREETING"]))
        while going_on and await self.more():
            while going_on and (end := self.buffer.find(b"\r\n")) >= 0:
                line = bytes(self.buffer[:end])
                del self.buffer[: end + 2]
                going_on = await self.command(line)
        if self.out:
            await self.flush()

    async def more(self) -> bool:
        """Answer the flight that was read, then read the next one."""
        if self.out:
            await self.flush()
        data = await self.reader.read(1 << 18)
        if data and self.replied:
            self.peer.round_trips += 1
            self.replied = False
        self.peer.wire += data
        self.buffer += data
        return bool(data)

    async def flush(self) -> None:
        if self.peer.delay:
            await asyncio.sleep(self.peer.delay)
        self.writer.write(bytes(self.out))
        self.out.clear()
        self.replied = True
        await self.writer.drain()

    async def play(self, act: Act) -> bool:
        """Do what was chosen; whether the conversation goes on."""
        if act.split:
            for octet in act.reply:
                self.out.append(octet)
                await self.flush()
                await asyncio.sleep(0.001)
        else:
            self.out += act.reply
        if act.deaf:
            self.buffer.clear()
        if not (act.close or act.reset or act.hang):
            return True
        await self.flush()
        if act.hang:
            began = time.monotonic()
            with contextlib.suppress(ConnectionError):
                while await self.more():
                    pass
            self.peer.hung.append(time.monotonic() - began)
        elif act.reset:
            plain = self.writer.get_extra_info("socket")
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        return False

    async def command(self, line: bytes) -> bool:
        peer = self.peer
        peer.commands.append(line)
        verb = line.split(b" ", 1)[0].upper().decode("ascii", "replace")
        if self.buffer and (verb in {"EHLO", "HELO", "DATA", "QUIT"} or "PIPELINING" not in peer.extensions):
            # RFC 2920 section 3.1: these end a group; without the extension there are no groups.
            peer.violations.append(f"{verb} followed by {bytes(self.buffer[:40])!r}")
        if verb in {"EHLO", "HELO"}:
            lines = ["peer.test", *(peer.extensions if verb == "EHLO" else ())]
            text = "".join(f"250{' ' if n == len(lines) - 1 else '-'}{said}\r\n" for n, said in enumerate(lines))
            return await self.play(peer.act(verb if verb in peer.script else "EHLO", text.encode()))
        if verb == "RCPT":
            address = line.partition(b"<")[2].rpartition(b">")[0].decode("utf-8", "replace")
            default = REPLIES["RCPT"] if self.mail else b"503 5.5.1 need MAIL command\r\n"
            act = peer.act(f"RCPT {address}", default)
            if act.reply.startswith(b"2"):
                self.recipients.append(address)
            return await self.play(act)
        if verb == "DATA":
            default = REPLIES["DATA"] if self.recipients else b"554 5.5.1 No valid recipients\r\n"
            act = peer.act("DATA", default)
            going_on = await self.play(act)
            return await self.content() if going_on and act.reply.startswith(b"354") else going_on
        if verb == "BDAT" and "CHUNKING" in peer.extensions:
            return await self.chunk(line)
        act = peer.act(verb, REPLIES.get(verb, b"500 5.5.2 What?\r\n"))
        if verb in {"MAIL", "RSET"}:
            self.mail, self.recipients = (line if act.reply.startswith(b"2") else b""), []
        return await self.play(act) and verb != "QUIT"

    async def content(self) -> bool:
        """Read to CRLF.CRLF, and no other end (RFC 5321 section 4.1.1.4)."""
        self.buffer[:0] = b"\r\n"
        searched = 0
        while (end := self.buffer.find(b"\r\n.\r\n", searched)) < 0:
            searched = max(0, len(self.buffer) - 4)
            if not await self.more():
                return False
        wire = bytes(self.buffer[2 : end + 2])
        del self.buffer[: end + 5]
        return await self.take(wire, (b"\r\n" + wire).replace(b"\r\n..", b"\r\n.")[2:])

    async def chunk(self, line: bytes) -> bool:
        """BDAT (RFC 3030): so many octets, as they are."""
        size = int(line.split()[1])
        while len(self.buffer) < size:
            if not await self.more():
                return False
        self.chunks += self.buffer[:size]
        del self.buffer[:size]
        if not line.upper().endswith(b" LAST"):
            return await self.play(self.peer.act("BDAT", b"250 2.0.0 Ok\r\n"))
        content, self.chunks = bytes(self.chunks), bytearray()
        return await self.take(content, content)

    async def take(self, wire: bytes, content: bytes) -> bool:
        """Note a whole message, then answer it."""
        number = len(self.peer.messages) + 1
        default = b"250 2.0.0 Ok: peer took %d\r\n" % number if self.recipients else b"554 5.5.1 Nobody\r\n"
        act = self.peer.act("CONTENT", default)
        received = Received(time.time(), self.number, self.mail, tuple(self.recipients), wire, content, act.reply)
        self.mail, self.recipients = b"", []
        async with self.peer.changed:
            self.peer.messages.append(received)
            self.peer.changed.notify_all()
        return await self.play(act)
