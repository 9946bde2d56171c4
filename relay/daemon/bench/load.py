"""The applications of a bench: clients that hand over one message after the other on a connection that they keep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Final, cast

_LINE: Final = b"Measured with relay bench: this line is content and stands for more of it\r\n"


def message(size: int) -> bytes:
    """A message of some ``size`` octets, with the end of its data."""
    head = (
        b"From: bench@sender.invalid\r\nTo: bench@recipient.invalid\r\nSubject: relay bench\r\n"
        b"Date: Sat, 21 Nov 2026 23:13:31 +0000\r\nMessage-ID: <bench@sender.invalid>\r\n\r\n"
    )
    lines = -(-max(1, size - len(head)) // len(_LINE))
    return head + _LINE * lines + b".\r\n"


class Work:
    """What all clients share: how many messages are still to be sent, until when, and what each one took."""

    def __init__(self, messages: int, deadline: float, content: bytes) -> None:
        self.left = messages
        self.deadline = deadline
        self.content = content
        self.seconds: list[float] = []

    def steps(self) -> Iterator[bytes]:
        """One message's commands; nothing more once there is nothing left, or no time."""
        while self.left > 0 and time.monotonic() < self.deadline:
            self.left -= 1
            began = time.perf_counter()
            yield b"MAIL FROM:<bench@sender.invalid>\r\n"
            yield b"RCPT TO:<bench@recipient.invalid>\r\n"
            yield b"DATA\r\n"
            yield self.content
            self.seconds.append(time.perf_counter() - began)
        yield b"QUIT\r\n"


class Client(asyncio.Protocol):
    """One application. ``done`` gets a result at its end, or the exception of what was refused."""

    def __init__(self, work: Work) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._commands = self._script(work)
        self._buffer = b""
        self._transport: asyncio.Transport

    @staticmethod
    def _script(work: Work) -> Iterator[bytes]:
        yield b"EHLO client.invalid\r\n"
        yield from work.steps()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the greeting."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """A reply that is whole: go on."""
        self._buffer += data
        if not self._buffer.endswith(b"\n"):
            return
        last = self._buffer[:-1].rpartition(b"\n")[2]
        if last[3:4] == b"-":
            return
        self._buffer = b""
        if last[:1] not in b"23":
            self._end(ConnectionError(f"the relay said {last.decode('ascii', 'replace').strip()}"))
            return
        command = next(self._commands, None)
        if command is None:
            self._end(None)
        else:
            self._transport.write(command)

    def connection_lost(self, exc: Exception | None) -> None:
        """Too early, where it isn't done."""
        self._end(exc or ConnectionError("the relay closed the connection"))

    def _end(self, error: Exception | None) -> None:
        if not self.done.done():
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)
        self._transport.close()


async def submit(port: int, clients: int, work: Work) -> None:
    """Have ``clients`` do ``work``; returns with the last reply. Raises OSError."""
    loop = asyncio.get_running_loop()
    connected = [await loop.create_connection(lambda: Client(work), "127.0.0.1", port) for _ in range(clients)]
    await asyncio.gather(*(client.done for _, client in connected))
