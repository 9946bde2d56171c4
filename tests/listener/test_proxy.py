"""The PROXY protocol's header, alone and before a session."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.events import Connected, Notice
from relay.listener import accepting, proxy
from relay.settings import ListenerSettings
from tests.listener.certificates import certificate
from tests.listener.stand_ins import Door, a_door

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 25\r\n"
V6 = b"PROXY TCP6 2001:db8::7 ::1 40000 25\r\n"
UNKNOWN = b"PROXY UNKNOWN\r\n"
PROXIED = ListenerSettings(
    address="127.0.0.1:0", proxy_networks=("127.0.0.0/8",), networks=("192.0.2.0/24", "127.0.0.0/8")
)


def version2(source: str, *, command: int = 1, family: int = 0, more: bytes = b"") -> bytes:
    address = ip_address(source)
    block = address.packed * 2 + bytes(4) + more
    family = family or (0x11 if address.version == 4 else 0x21)
    return SIGNATURE + bytes((0x20 | command, family)) + len(block).to_bytes(2) + block


def read(octets: bytes) -> tuple[str | None, bytes]:
    """The source that a stream begins with, and what is left of it."""
    header = b""
    while wanted := proxy.wanted(header):
        assert octets, "wants more than there is"
        header, octets = header + octets[:wanted], octets[wanted:]
    return proxy.source(header), octets


@pytest.mark.parametrize(
    ("header", "source"),
    [
        (V4, "192.0.2.7"),
        (V6, "2001:db8::7"),
        (UNKNOWN, None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
        (version2("192.0.2.7"), "192.0.2.7"),
        (version2("2001:db8::7"), "2001:db8::7"),
        (version2("192.0.2.7", more=b"\x04\0\x03TLV"), "192.0.2.7"),
        (version2("192.0.2.7", command=0), None),
        (version2("192.0.2.7", family=0x31), None),
        (SIGNATURE + b"\x20\0\0\0", None),
    ],
)
def test_headers_are_read_and_not_an_octet_more(header: bytes, source: str | None) -> None:
    assert read(header + b"\x16\x03\x01EHLO") == (source, b"\x16\x03\x01EHLO")


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO app.test\r\nMAIL",
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
        b"PROXY TCP4 nobody 10.0.0.1 1 2\r\n",
        b"PROXY TCP5 192.0.2.7 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 25\nEHLO",
        b"PROXY " + b"x" * 200,
        b"\x16\x03\x01" + bytes(20),
        SIGNATURE + b"\x11\x11\0\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\xff\xff" + bytes(12),
        SIGNATURE + b"\x21\x11\0\x04" + bytes(12),
        version2("192.0.2.7", command=5),
    ],
)
def test_what_is_no_header_is_an_error(octets: bytes) -> None:
    with pytest.raises(ValueError):
        read(octets)


@given(st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11\0\x0c"]), st.binary(max_size=300))
def test_whatever_comes_is_a_header_or_an_error(start: bytes, rest: bytes) -> None:
    octets = start + rest
    with contextlib.suppress(ValueError):
        header = b""
        while (wanted := proxy.wanted(header)) and len(header) < len(octets):
            header = octets[: len(header) + wanted]
        if not wanted:
            proxy.source(header)


def clients(door: Door) -> Iterable[str]:
    return [event.client for event in door.events if isinstance(event, Connected)]


@pytest.mark.parametrize("header", [V4, version2("192.0.2.7")])
@pytest.mark.parametrize("piece", [1, 7, 1000])
async def test_a_proxys_client_is_who_it_says(header: bytes, piece: int) -> None:
    async with a_door(PROXIED) as door:
        client = await door.dial()
        octets = header + b"EHLO app.test\r\n"
        for start in range(0, len(octets), piece):
            client.writer.write(octets[start : start + piece])
            await asyncio.sleep(0)
        assert (await client.reply()).startswith(b"220 ")
        assert (await client.reply()).startswith(b"250-")
        assert (await client.submit(b"x\r\n")).startswith(b"250 ")
        assert clients(door) == ["unknown[192.0.2.7]"]
        assert b"(unknown [192.0.2.7])" in door.spool.content()


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:10.0.0.1 40000 25\r\n",
        b"PROXY TCP6 0:0:0:0:0:ffff:c000:207 ::1 40000 25\r\n",
        version2("::ffff:192.0.2.7"),
    ],
)
async def test_an_ipv4_client_told_of_as_an_ipv6_one_is_the_same(header: bytes) -> None:
    async with a_door(PROXIED) as door:
        client = await door.dial()
        client.writer.write(header)
        assert (await client.reply()).startswith(b"220 ")
        assert clients(door) == ["unknown[192.0.2.7]"]


async def test_an_ipv6_address_that_only_looks_like_one_of_ipv4_is_itself() -> None:
    async with a_door(PROXIED, networks=("::/0",)) as door:
        client = await door.dial()
        client.writer.write(b"PROXY TCP6 ::ffff:0:192.0.2.7 ::1 40000 25\r\n")
        assert (await client.reply()).startswith(b"220 ")
        assert clients(door) == ["unknown[::ffff:0:c000:207]"]


async def test_a_proxied_stranger_is_refused() -> None:
    async with a_door(PROXIED) as door:
        client = await door.dial()
        client.writer.write(b"PROXY TCP4 198.51.100.7 10.0.0.1 40000 25\r\n")
        assert (await client.rest()).startswith(b"521 5.3.2 ")


async def test_a_proxy_that_speaks_for_itself_is_itself() -> None:
    async with a_door(PROXIED) as door:
        client = await door.dial()
        client.writer.write(UNKNOWN)
        assert (await client.reply()).startswith(b"220 ")
        assert clients(door) == ["localhost[127.0.0.1]"]


async def test_without_a_header_a_proxy_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "_HEADER_TIMEOUT", 0.2)
    async with a_door(PROXIED) as door:
        hello, silent, gone = await door.dial(), await door.dial(), await door.dial()
        hello.writer.write(b"EHLO app.test\r\n")
        gone.writer.write_eof()
        for client in (hello, silent, gone):
            with contextlib.suppress(ConnectionResetError):
                assert await client.rest() == b""
        told = [event.text for event in door.events if isinstance(event, Notice)]
        assert told == ["no PROXY header from localhost[127.0.0.1]"] * 2
        assert door.listeners.sessions == 0


async def test_who_is_no_proxy_is_not_believed() -> None:
    async with a_door(proxy_networks=("192.0.2.0/24",)) as door:
        client = await door.connect()
        assert (await client.ask(V4)).startswith(b"500 ")
        assert clients(door) == ["localhost[127.0.0.1]"]


async def test_tls_follows_the_header_at_once(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    async with a_door(PROXIED, tls="implicit", tls_cert=pem.path) as door:
        client = await door.dial()
        client.writer.write(V4)
        await client.start_tls(pem.trusted)
        assert (await client.reply()).startswith(b"220 ")
        assert clients(door) == ["unknown[192.0.2.7]"]
