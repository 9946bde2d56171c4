"""Clients that are slow, silent, too many or talk nonsense: each loses its own connection and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from relay.http.connection import BoundedConnection
from relay.http.server import HttpServer
from tests.e2e.harness import free_port
from tests.http.client import ask, parse, say


class Hasty(BoundedConnection):
    head = 0.2
    body = 0.4
    reading = 0.3
    most = 3


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope, receive)
    match scope["path"]:
        case "/endless":

            async def pieces() -> AsyncIterator[bytes]:
                for _ in range(300):
                    yield b"x" * 100_000

            await StreamingResponse(pieces())(scope, receive, send)
        case "/late":
            await asyncio.sleep(0.8)
            await PlainTextResponse("late")(scope, receive, send)
        case _:
            size = sum([len(piece) async for piece in request.stream()])
            await PlainTextResponse(f"{size}")(scope, receive, send)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    number = free_port()
    server = HttpServer(application, "127.0.0.1", number, Hasty)
    await server.start()
    yield number
    await server.stop(1.0)


async def cut_off(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server ends the connection."""
    async with asyncio.timeout(5):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n"])
async def test_a_head_that_does_not_end_is_not_waited_for(port: int, first: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    assert await cut_off(reader) == b""
    writer.close()


async def test_a_head_that_trickles_is_not_waited_for(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    ended = asyncio.create_task(cut_off(reader))
    for _ in range(60):
        if ended.done():
            break
        writer.write(b"X")
        await asyncio.sleep(0.05)
    assert await ended == b""
    writer.close()


async def test_nor_the_second_one_on_a_connection(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n0")).startswith(b"HTTP/1.1 200")
    await asyncio.sleep(0.4)  # idle between requests is no slowness
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n")
    assert await cut_off(reader) == b""
    writer.close()


async def test_a_body_that_does_not_end_is_not_waited_for(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx")
    assert b"200" not in await cut_off(reader)
    writer.close()


async def test_an_answer_that_takes_its_time_is_waited_for(port: int) -> None:
    assert (await ask(port, "/late")).body == b"late"


async def test_who_does_not_read_is_cut_off(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    transport = writer.transport
    assert isinstance(transport, asyncio.Transport)
    transport.pause_reading()
    writer.write(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
    await asyncio.sleep(1.0)
    transport.resume_reading()
    assert len(await cut_off(reader)) < 30_000_000
    writer.close()
    assert len((await ask(port, "/endless")).body) == 30_000_000


async def test_more_than_so_many_hear_it_and_the_others_go_on(port: int) -> None:
    others = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert parse(await cut_off(reader)).status == 503
    writer.close()
    for _, other in others:
        other.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    for each, other in others:
        assert (await each.readline()).startswith(b"HTTP/1.1 200")
        other.close()
    async with asyncio.timeout(5):
        while (await ask(port, "/")).status != 200:  # noqa: ASYNC110 - nobody tells that they are gone
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO me\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_refused(port: int, octets: bytes) -> None:
    assert (await say(port, octets)).status in {400, 501}


async def test_a_head_without_end_is_not_kept(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 1_000_000)
    assert b"200" not in await cut_off(reader)
    writer.close()


async def test_two_ways_to_say_how_long_it_is_are_not_smuggled(port: int) -> None:
    octets = (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    answer = await say(port, octets + b"0\r\n\r\nGET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
    assert len(answer.body) < 100


async def test_a_stop_waits_for_who_is_answered_and_for_nobody_else() -> None:
    number = free_port()
    server = HttpServer(application, "127.0.0.1", number, Hasty)
    await server.start()
    idle = await asyncio.open_connection("127.0.0.1", number)
    late = asyncio.create_task(ask(number, "/late"))
    await asyncio.sleep(0.1)
    await server.stop(3.0)
    assert (await late).body == b"late"
    assert await cut_off(idle[0]) == b""
    idle[1].close()
    with pytest.raises(OSError, match=r"[Cc]onnect"):
        await ask(number, "/")
