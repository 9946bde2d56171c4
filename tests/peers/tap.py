"""A byte tap: a TCP proxy that remembers what passed and can cut or stall a connection at a chosen octet."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Self


@dataclass
class ByteTap:
    """``async with ByteTap(port) as tap``: connect to ``tap.port``. ``sent`` and ``answered`` hold the octets of every
    connection in its order; with ``cut_at`` the connection is closed once so many octets went to the server.
    """

    target: int
    cut_at: int | None = None
    port: int = 0
    sent: list[bytearray] = field(default_factory=list)
    answered: list[bytearray] = field(default_factory=list)

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
        up, down = bytearray(), bytearray()
        self.sent.append(up)
        self.answered.append(down)
        far: asyncio.StreamWriter | None = None
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self.target)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._copy(reader, far, up, self.cut_at))
                both.create_task(self._copy(far_reader, writer, down, None))
        except* (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()
            if far is not None:
                far.transport.abort()

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytearray, cut_at: int | None
    ) -> None:
        while data := await reader.read(1 << 16):
            data = data if cut_at is None else data[: max(0, cut_at - len(seen))]
            seen += data
            writer.write(data)
            await writer.drain()
            if cut_at is not None and len(seen) >= cut_at:
                break
        raise ConnectionResetError("over")
