"""Other settings while sessions are open: SIGHUP."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from relay.settings import ListenerSettings, Secret
from tests.listener.certificates import certificate
from tests.listener.stand_ins import Dialogue, a_door
from tests.listener.test_authentication import EHLO, PLAIN
from tests.listener.test_users import BILLING, phc

HERE = ListenerSettings(address="127.0.0.1:0")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def dial(port: int) -> Dialogue:
    return Dialogue(*await asyncio.open_connection("127.0.0.1", port))


async def test_limits_and_networks_hold_for_new_sessions() -> None:
    async with a_door(HERE) as door:
        before = await door.connect()
        await before.ask(b"EHLO x\r\n")
        changed = replace(HERE, max_message_size=1000, networks=("192.0.2.0/24",), name="other")
        assert await door.listeners.configure([changed], []) == []
        assert (await (await door.dial()).rest()).startswith(b"521 ")
        assert (await before.submit(b"x" * 2000 + b"\r\n")).startswith(b"250 ")
        assert await door.listeners.configure([replace(changed, networks=HERE.networks)], []) == []
        after = await door.connect()
        assert b"SIZE 1000\r\n" in await after.ask(b"EHLO x\r\n")


async def test_session_limits_count_those_that_were_there() -> None:
    async with a_door(HERE) as door:
        first, _ = await door.connect(), await door.connect()
        await door.listeners.configure([replace(HERE, max_sessions=2)], [])
        assert (await (await door.dial()).rest()).startswith(b"421 4.7.0 ")
        await first.ask(b"QUIT\r\n")
        await door.until(lambda: door.listeners.sessions == 1)
        await door.connect()


async def test_an_address_that_is_gone_ends_behind_its_transactions_and_a_new_one_begins() -> None:
    async with a_door(HERE) as door:
        idle, busy = await door.connect(), await door.connect()
        busy.writer.write(b"EHLO x\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n")
        for _ in range(4):
            await busy.reply()
        old = int(door.listeners.addresses[0].rpartition(":")[2])
        port = free_port()
        assert await door.listeners.configure([replace(HERE, address=f"127.0.0.1:{port}")], []) == []
        assert door.listeners.addresses == (f"127.0.0.1:{port}",)
        assert (await idle.rest()).startswith(b"421 4.3.2 ")
        with pytest.raises(ConnectionRefusedError):
            await dial(old)
        assert door.listeners.sessions == 1
        assert (await (await door.dial()).reply()).startswith(b"220 ")
        busy.writer.write(b"x\r\n.\r\n")
        assert (await busy.rest()).startswith(b"250 2.0.0 ")
        assert len(door.spool.accepted) == 1


async def test_stopping_waits_for_sessions_of_an_address_that_is_gone() -> None:
    async with a_door(HERE) as door:
        busy = await door.connect()
        busy.writer.write(b"EHLO x\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n")
        for _ in range(4):
            await busy.reply()
        await door.listeners.configure([], [])
        stopping = asyncio.create_task(door.listeners.stop(5.0))
        await asyncio.sleep(0.05)
        assert not stopping.done()
        busy.writer.write(b"x\r\n.\r\n")
        assert (await busy.rest()).startswith(b"250 2.0.0 ")
        await asyncio.wait_for(stopping, 5)


async def test_an_address_in_use_is_reported_and_the_others_go_on() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with a_door(HERE) as door:
            before = await door.connect()
            new = replace(HERE, name="new", address=f"127.0.0.1:{port}")
            (problem,) = await door.listeners.configure([HERE, new], [])
            assert problem == f"can't listen on 127.0.0.1:{port}: Address already in use"
            assert await before.ask(b"NOOP\r\n") == b"250 2.0.0 Ok"
            await door.connect()
            taken.close()
            assert await door.listeners.configure([HERE, new], []) == []
            assert len(door.listeners.addresses) == 2


async def test_a_listener_that_can_not_move_stays_where_it_was() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with a_door(HERE) as door:
            here = door.listeners.addresses
            moved = replace(HERE, address=f"127.0.0.1:{port}")
            (problem,) = await door.listeners.configure([moved], [])
            assert problem == (
                f"can't listen on 127.0.0.1:{port}: Address already in use; [listener.app] stays on {here[0]}"
            )
            assert door.listeners.addresses == here
            await door.connect()
            taken.close()
            assert await door.listeners.configure([moved], []) == []
            assert door.listeners.addresses == (f"127.0.0.1:{port}",)
            with pytest.raises(ConnectionRefusedError):
                await dial(int(here[0].rpartition(":")[2]))


async def test_an_address_that_takes_in_the_old_one_replaces_it() -> None:
    port = free_port()
    here = replace(HERE, address=f"127.0.0.1:{port}")
    async with a_door(here) as door:
        before = await door.connect()
        assert await door.listeners.configure([replace(here, address=f"0.0.0.0:{port}")], []) == []
        assert door.listeners.addresses == (f"0.0.0.0:{port}",)
        assert (await before.rest()).startswith(b"421 4.3.2 ")
        door.clients.append(await dial(port))
        assert (await door.clients[-1].reply()).startswith(b"220 ")
        assert await door.listeners.configure([here], []) == []
        assert door.listeners.addresses == (f"127.0.0.1:{port}",)


async def test_where_even_that_is_of_no_use_the_old_one_listens_again() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.2", 0))
        taken.listen()
        port = taken.getsockname()[1]
        here = replace(HERE, address=f"127.0.0.1:{port}")
        async with a_door(here) as door:
            before = await door.connect()
            (problem,) = await door.listeners.configure([replace(here, address=f"0.0.0.0:{port}")], [])
            assert problem == (
                f"can't listen on 0.0.0.0:{port}: Address already in use; [listener.app] stays on 127.0.0.1:{port}"
            )
            assert await before.ask(b"NOOP\r\n") == b"250 2.0.0 Ok", "its sessions saw nothing of it"
            await door.connect()


async def test_users_and_their_hashes_change_at_once() -> None:
    settings = replace(HERE, auth="required")
    async with a_door(settings, users=[BILLING]) as door:
        client = await door.connect()
        await client.ask(EHLO)
        await door.listeners.configure([settings], [replace(BILLING, password_hash=Secret(phc("neu")))])
        assert (await client.ask(b"AUTH PLAIN " + PLAIN + b"\r\n")).startswith(b"535 ")
        await door.listeners.configure([settings], [BILLING])
        assert (await client.ask(b"AUTH PLAIN " + PLAIN + b"\r\n")).startswith(b"235 ")


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_a_renewed_certificate_is_served_and_a_broken_one_is_not(
    tmp_path: Path, tls: Literal["starttls", "implicit"]
) -> None:
    old = certificate(tmp_path)
    settings = replace(HERE, tls=tls, tls_cert=old.path)

    async def serves(trusted: ssl.SSLContext) -> None:
        client = await door.dial(trusted if tls == "implicit" else None)
        await client.reply()
        if tls == "starttls":
            await client.ask(EHLO)
            await client.ask(b"STARTTLS\r\n")
            await client.start_tls(trusted)
        assert b"250" in await client.ask(EHLO)

    async with a_door(settings) as door:
        await serves(old.trusted)
        new = certificate(tmp_path)
        await serves(old.trusted)
        assert await door.listeners.configure([settings], []) == []
        await serves(new.trusted)
        with pytest.raises(ssl.SSLCertVerificationError):
            await serves(old.trusted)
        await asyncio.to_thread(Path(old.path).write_text, "broken")
        (problem,) = await door.listeners.configure([replace(settings, max_recipients=1)], [])
        assert problem.startswith("[listener.app] tls_cert: no certificate with its unprotected key in PEM")
        await serves(new.trusted)


async def test_tls_can_begin_and_end(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    async with a_door(HERE) as door:
        assert await door.listeners.configure([replace(HERE, tls="implicit", tls_cert=pem.path)], []) == []
        assert (await (await door.dial(pem.trusted)).reply()).startswith(b"220 ")
        assert await door.listeners.configure([HERE], []) == []
        await door.connect()


async def test_a_paths_mode_changes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    settings = replace(HERE, address=f"unix:{path}")
    async with a_door(settings) as door:
        assert await door.listeners.configure([replace(settings, socket_mode=0o600)], []) == []
        assert path.stat().st_mode & 0o777 == 0o600
        (problem,) = await door.listeners.configure([replace(settings, socket_group="nobody-knows-it")], [])
        assert problem.endswith("no group nobody-knows-it")
        await door.connect()
