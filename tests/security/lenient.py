"""The vulnerable other side of SMTP smuggling: a server that takes each look-alike for the end of the content.

Also for bare line ends as ends of commands, as the servers of the 2023 disclosure did together.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Self

# Not where a NUL precedes the dot: NUL is content (contract), and a server that drops it before it looks is on its own.
_END = re.compile(rb"(?:\r\n|\n|\r)\r?\.\0?(?:\r\r\n|\r\n|\n|\r)")
_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass
class LenientUpstream:
    """``async with LenientUpstream() as peer``; ``senders`` has an entry for each message that it thinks it got."""

    port: int = 0
    senders: list[bytes] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 lenient.test ESMTP\r\n")
        buffer, sender, content = b"", b"", False
        while data := await reader.read(1 << 16):
            buffer += data
            while True:
                found = (_END if content else _LINE_END).search(buffer)
                if found is None:
                    break
                line, buffer = buffer[: found.start()], buffer[found.end() :]
                if content:
                    content = False
                    self.senders.append(sender)
                    writer.write(b"250 2.0.0 Ok\r\n")
                    continue
                verb = line[:4].upper()
                if verb == b"MAIL":
                    sender = line
                content = verb == b"DATA"
                writer.write(
                    {
                        b"DATA": b"354 go on\r\n",
                        b"EHLO": b"250-lenient.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
                        b"QUIT": b"221 2.0.0 Bye\r\n",
                    }.get(verb, b"250 2.0.0 Ok\r\n")
                )
                if verb == b"QUIT":
                    return
                if content:
                    buffer = b"\r\n" + buffer
