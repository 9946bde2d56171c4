"""Who may connect, how many, and how it ends."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from dataclasses import replace
from typing import Any, cast

import pytest

from relay.clock import SystemClock
from relay.events import Rejected
from relay.listener.intake import Intake
from relay.listener.server import Listeners, has_ipv6_loopback
from relay.settings import ListenerSettings
from relay.spool import Spool
from tests.listener.stand_ins import Dialogue, MemorySpool, NotingDelivery, a_door

TRANSACTION = b"EHLO x\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n"


def listeners(*addresses: str) -> Listeners:
    intake = Intake(cast("Spool", MemorySpool()), SystemClock(), "relay.test", lambda _: None, NotingDelivery())
    return Listeners(
        [ListenerSettings(name=f"l{n}", address=address) for n, address in enumerate(addresses)],
        hostname="relay.test",
        receiver=intake,
        clock=SystemClock(),
        emit=lambda _: None,
    )


async def test_a_client_from_elsewhere_gets_521() -> None:
    async with a_door(networks=("192.0.2.0/24", "::1/128")) as door:
        client = await door.dial()
        rest = await client.rest()
        assert rest.startswith(b"521 5.3.2 ")
        assert rest.count(b"\r\n") == 1
        assert [event.command for event in door.events if isinstance(event, Rejected)] == ["CONNECT"]


@pytest.mark.parametrize("limit", ["max_sessions", "max_sessions_per_client"])
async def test_too_many_sessions_get_421_until_one_ends(limit: str) -> None:
    settings = replace(ListenerSettings(address="127.0.0.1:0"), **cast("dict[str, Any]", {limit: 2}))
    async with a_door(settings) as door:
        first, second = await door.connect(), await door.connect()
        third = await door.dial()
        assert (await third.rest()).startswith(b"421 4.7.0 ")
        await first.ask(b"QUIT\r\n")
        await first.rest()
        await door.until(lambda: door.listeners.sessions == 1)
        assert (await door.connect()) is not None
        assert await second.ask(b"NOOP\r\n") == b"250 2.0.0 Ok"


@pytest.mark.skipif(not has_ipv6_loopback(), reason="this machine has no ::1")
async def test_several_listeners_and_ipv6() -> None:
    running = listeners("127.0.0.1:0", "[::1]:0")
    await running.start()
    try:
        for address in running.addresses:
            host, _, port = address.rpartition(":")
            client = Dialogue(*await asyncio.open_connection(host.strip("[]"), int(port)))
            assert (await client.reply()).startswith(b"220 relay.test ESMTP")
            await client.close()
    finally:
        await running.stop(0.0)


async def test_an_address_in_use_is_named_and_no_listener_stays() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        address = f"127.0.0.1:{port}"
        both = listeners("127.0.0.1:0", address)
        with pytest.raises(OSError, match=f"can't listen on {address}: "):
            await both.start()
    assert both.addresses[0] == "127.0.0.1:0"


async def test_stopping_ends_idle_sessions_and_lets_transactions_end() -> None:
    async with a_door() as door:
        idle, busy = await door.connect(), await door.connect()
        busy.writer.write(TRANSACTION)
        for _ in range(4):
            await busy.reply()
        address = door.listeners.addresses[0]
        stopping = asyncio.create_task(door.listeners.stop(10.0))
        assert (await idle.rest()).startswith(b"421 4.3.2 ")
        assert not stopping.done()
        busy.writer.write(b"x\r\n.\r\nMAIL FROM:<a@b>\r\n")
        rest = await busy.rest()
        assert rest.startswith(b"250 2.0.0 Ok: queued as ")
        assert rest.splitlines()[1].startswith(b"421 4.3.2 ")
        await stopping
        host, _, port = address.rpartition(":")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, int(port))
        assert len(door.spool.accepted) == 1


async def test_after_the_grace_sessions_are_cut_off_but_commits_end() -> None:
    async def before(verb: str) -> None:
        if verb == "accept":
            await asyncio.sleep(0.3)

    async with a_door(spool=MemorySpool(before)) as door:
        stuck, committing = await door.connect(), await door.connect()
        stuck.writer.write(TRANSACTION)
        committing.writer.write(TRANSACTION + b"x\r\n.\r\n")
        for _ in range(4):
            await stuck.reply()
        await door.listeners.stop(0.05)
        assert door.listeners.sessions == 0
        assert len(door.spool.accepted) == 1
        assert len(door.delivery.handed) == 1


async def test_no_delay_is_set_on_sessions() -> None:
    seen: list[int] = []

    class Looking(MemorySpool):
        def check_room(self, size: int) -> None:
            for session in door.session_list():
                assert session.transport is not None
                sock = session.transport.get_extra_info("socket")
                seen.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    async with a_door(spool=Looking()) as door:
        client = await door.connect()
        await client.ask(b"EHLO x\r\n")
        await client.ask(b"MAIL FROM:<a@b>\r\n")
        assert seen == [1]


async def test_those_turned_away_keep_nobody_out() -> None:
    settings = ListenerSettings(address="127.0.0.1:0", max_sessions=3, max_sessions_per_client=2)
    async with a_door(settings) as door:
        first, _ = await door.connect(), await door.connect()
        for _ in range(20):
            assert (await (await door.dial()).rest()).startswith(b"421 4.7.0 ")
        await first.ask(b"QUIT\r\n")
        await first.rest()
        await door.until(lambda: door.listeners.sessions == 1)
        await door.connect()


async def test_the_last_descriptors_are_not_for_clients() -> None:
    async with a_door() as door:
        before = await door.connect()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        others = [os.dup(0) for _ in range(100)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(others) + 40, hard))
        try:
            for _ in range(20):
                assert (await (await door.dial()).rest()).startswith(b"421 4.7.0 ")
            await before.ask(b"EHLO x\r\n")
            assert (await before.submit(b"x\r\n")).startswith(b"250 ")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in others:
                os.close(descriptor)
        await door.connect()


async def test_running_out_of_descriptors_costs_a_connection_at_most() -> None:
    async with a_door() as door:
        before = await door.connect()
        await before.ask(b"EHLO x\r\n")
        host, _, port = door.listeners.addresses[0].rpartition(":")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # asyncio reports it, and tries again after a second; libuv closes the connection.
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        with socket.socket() as waiting:
            lowest = os.dup(0)
            os.close(lowest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
            try:
                waiting.connect((host, int(port)))
                # Another session goes on meanwhile.
                assert (await before.submit(b"x\r\n")).startswith(b"250 ")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        after = await door.connect()
        await after.ask(b"EHLO x\r\n")
        assert (await after.submit(b"x\r\n")).startswith(b"250 ")
        assert len(door.spool.accepted) == 2
