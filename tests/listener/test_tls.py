"""STARTTLS and TLS from the first octet on, over loopback sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from pathlib import Path

import pytest

from relay.events import Connected, Notice
from relay.listener import accepting, starttls
from tests.listener.certificates import Certificate, certificate
from tests.listener.stand_ins import Door, a_door

EHLO = b"EHLO app.test\r\n"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"))


def notices(door: Door) -> list[str]:
    return [event.text for event in door.events if isinstance(event, Notice)]


async def test_starttls_begins_a_new_session(pem: Certificate) -> None:
    async with a_door(tls="starttls", tls_cert=pem.path) as door:
        client = await door.connect()
        assert b"250-STARTTLS\r\n" in await client.ask(EHLO)
        await client.ask(b"MAIL FROM:<before@x.test>\r\n")
        assert await client.ask(b"STARTTLS\r\n") == b"220 2.0.0 Ready to start TLS"
        await client.start_tls(pem.trusted)
        assert (await client.ask(b"MAIL FROM:<a@x.test>\r\n")).startswith(b"503 5.5.1 ")
        assert b"STARTTLS" not in await client.ask(EHLO)
        assert (await client.ask(b"STARTTLS\r\n")).startswith(b"503 5.5.1 ")
        assert (await client.submit(b"Subject: x\r\n\r\nx\r\n")).startswith(b"250 2.0.0 ")
        assert await client.ask(b"QUIT\r\n") == b"221 2.0.0 Bye"
        assert await client.rest() == b""
        assert b"with ESMTPS id" in door.spool.content()
        (told,) = notices(door)
        assert told.startswith("Anonymous TLS connection established from localhost[127.0.0.1]: TLSv1.3 with cipher ")


async def test_implicit_tls(pem: Certificate) -> None:
    async with a_door(tls="implicit", tls_cert=pem.path) as door:
        client = await door.dial(pem.trusted)
        assert (await client.reply()).startswith(b"220 ")
        assert b"STARTTLS" not in await client.ask(EHLO)
        assert (await client.submit(b"Subject: x\r\n\r\nx\r\n")).startswith(b"250 2.0.0 ")
        assert b"with ESMTPS id" in door.spool.content()
        assert [type(event) for event in door.events[:2]] == [Connected, Notice]


async def test_a_large_message_over_tls_keeps_its_octets(pem: Certificate) -> None:
    body = b"".join(b"%07d %s\r\n" % (n, b"x" * 70) for n in range(40_000))
    async with a_door(tls="starttls", tls_cert=pem.path) as door:
        client = await door.connect()
        await client.ask(EHLO)
        await client.ask(b"STARTTLS\r\n")
        await client.start_tls(pem.trusted)
        await client.ask(EHLO)
        assert (await client.submit(b"Subject: x\r\n\r\n" + body)).startswith(b"250 2.0.0 ")
        assert door.spool.content().endswith(b"\r\n\r\n" + body)


async def test_what_was_sent_in_clear_behind_starttls_is_forgotten(pem: Certificate) -> None:
    async with a_door(tls="starttls", tls_cert=pem.path) as door:
        client = await door.connect()
        await client.ask(EHLO)
        injected = b"EHLO evil.test\r\nMAIL FROM:<evil@x.test>\r\nRCPT TO:<b@y.test>\r\n" * 40
        assert (await client.ask(b"STARTTLS\r\n" + injected)).startswith(b"220 ")
        await client.start_tls(pem.trusted)
        # Had anything of it been kept, its replies would come first.
        assert (await client.ask(b"DATA\r\n")).startswith(b"503 5.5.1 ")
        assert (await client.ask(EHLO)).startswith(b"250-relay.test\r\n")
        assert (await client.ask(b"RCPT TO:<b@y.test>\r\n")).startswith(b"503 5.5.1 ")


async def test_more_in_clear_than_the_reader_holds_is_forgotten_too(pem: Certificate) -> None:
    async with a_door(tls="starttls", tls_cert=pem.path) as door:
        client = await door.connect()
        await client.ask(EHLO)
        client.writer.write(b"STARTTLS\r\n" + b"NOOP\r\n" * 50_000)
        assert (await client.reply()).startswith(b"220 ")
        # What was not yet read when TLS began is no handshake: the session ends, and nothing was obeyed.
        with contextlib.suppress(ConnectionResetError):
            assert b"250" not in await client.rest()
        await door.until(lambda: door.listeners.sessions == 0)


@pytest.mark.parametrize("octets", [b"QUIT\r\n" * 20, b"", b"\x16\x03\x01"])
async def test_no_handshake_ends_the_session(pem: Certificate, octets: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starttls, "HANDSHAKE_TIMEOUT", 0.3)
    async with a_door(tls="starttls", tls_cert=pem.path) as door:
        client = await door.connect()
        await client.ask(EHLO)
        await client.ask(b"STARTTLS\r\n")
        client.writer.write(octets)
        rest = await client.rest()
        assert b"QUIT" not in rest
        assert b"221" not in rest
        await door.until(lambda: door.listeners.sessions == 0)
        (told,) = notices(door)
        assert told.startswith("SSL_accept error from localhost[127.0.0.1]: ")
        # The others go on.
        assert await (await door.connect()).ask(b"NOOP\r\n") == b"250 2.0.0 Ok"


async def test_a_client_that_leaves_in_the_handshake_leaves_nothing_behind(pem: Certificate) -> None:
    async with a_door(tls="starttls", tls_cert=pem.path) as door:
        client = await door.connect()
        await client.ask(EHLO)
        await client.ask(b"STARTTLS\r\n")
        client.writer.transport.abort()
        await door.until(lambda: door.listeners.sessions == 0)


async def test_an_implicit_handshake_has_a_deadline_and_tells_why(
    pem: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "HANDSHAKE_TIMEOUT", 0.3)
    async with a_door(tls="implicit", tls_cert=pem.path, max_sessions_per_client=2) as door:
        silent, second = await door.dial(), await door.dial()
        third = await door.dial()
        # Handshakes count: no more of one client at a time than it may have sessions.
        assert await third.rest() == b""
        assert await silent.rest() == b""
        assert await second.rest() == b""
        clear = await door.dial()
        clear.writer.write(EHLO)
        assert b"250" not in await clear.rest()
        await door.until(lambda: len(notices(door)) >= 3)
        assert "wrong version number" in notices(door)[-1] or "http request" in notices(door)[-1]
        assert (await (await door.dial(pem.trusted)).reply()).startswith(b"220 ")


async def test_nothing_below_tls_1_2(pem: Certificate) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with a_door(tls="implicit", tls_cert=pem.path) as door:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await door.dial(old)


async def test_stopping_ends_sessions_over_tls(pem: Certificate) -> None:
    async with a_door(tls="implicit", tls_cert=pem.path) as door:
        client = await door.dial(pem.trusted)
        await client.reply()
        stopping = asyncio.create_task(door.listeners.stop(5.0))
        assert (await client.rest()).startswith(b"421 4.3.2 ")
        client.writer.close()
        await asyncio.wait_for(stopping, 5)


async def test_a_reset_in_the_midst_is_the_sessions_end_alone(pem: Certificate) -> None:
    async with a_door(tls="implicit", tls_cert=pem.path) as door:
        client = await door.dial(pem.trusted)
        await client.reply()
        client.writer.write(EHLO + b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\nx")
        for _ in range(4):
            await client.reply()
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.writer.transport.abort()
        await door.until(lambda: door.listeners.sessions == 0)
        assert not door.spool.accepted


def test_a_certificate_that_is_none_is_named(tmp_path: Path) -> None:
    async def go() -> None:
        broken = tmp_path / "broken.pem"
        broken.write_text("no certificate")
        with pytest.raises(
            OSError, match=r"\[listener\.app\] tls_cert: no certificate with its unprotected key in PEM"
        ):
            async with a_door(tls="implicit", tls_cert=str(broken)):
                pass

    asyncio.run(go())


async def test_a_session_that_is_shaking_hands_as_the_relay_stops_ends_behind_it(pem: Certificate) -> None:
    async with a_door(tls="starttls", tls_cert=pem.path) as door:
        client = await door.connect()
        await client.ask(EHLO)
        await client.ask(b"STARTTLS\r\n")
        stopping = asyncio.create_task(door.listeners.stop(5.0))
        await asyncio.sleep(0.05)
        await client.start_tls(pem.trusted)
        assert await client.reply() == b"421 4.3.2 relay.test Service shutting down"
        assert await client.rest() == b""
        await asyncio.wait_for(stopping, 2)
