"""A client of HTTP that says exactly what it is told to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    status: int
    fields: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def ask(
    port: int, path: str, method: str = "GET", fields: Mapping[str, str] | None = None, body: bytes | None = None
) -> Answer:
    """One request on a connection of its own."""
    head = {"Host": f"127.0.0.1:{port}", "Connection": "close", **(fields or {})}
    if body is not None:
        head.setdefault("Content-Length", str(len(body)))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items() if value)]
    return await say(port, "\r\n".join([*lines, "", ""]).encode() + (body or b""))


class _Hearing(asyncio.Protocol):
    """Keeps what came. Who refuses before all is sent closes on unread octets, which resets the connection behind its
    answer: a stream would drop the answer with it.
    """

    def __init__(self) -> None:
        self.heard = bytearray()
        self.ended = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(None)


async def say(port: int, octets: bytes, within: float = 20.0) -> Answer:
    """Send ``octets`` and read the answer to the connection's end."""
    transport, hearing = await asyncio.get_running_loop().create_connection(_Hearing, "127.0.0.1", port)
    try:
        async with asyncio.timeout(within):
            transport.write(octets)
            await hearing.ended
            return parse(bytes(hearing.heard))
    finally:
        transport.close()


def parse(octets: bytes) -> Answer:
    head, _, rest = octets.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = rest
    if fields.get("transfer-encoding") == "chunked":
        pieces, at = [], 0
        while at < len(rest):
            end = rest.index(b"\r\n", at)
            size = int(rest[at:end], 16)
            pieces.append(rest[end + 2 : end + 2 + size])
            at = end + 2 + size + 2
        body = b"".join(pieces)
    return Answer(int(first.split(" ")[1]), fields, body)
