"""The PROXY header: a client's address or no header, and never an octet of what follows it."""

from __future__ import annotations

from ipaddress import ip_address

from relay.listener.proxy import source, wanted
from tests.fuzz.supply import Supply

_V2 = b"\r\n\r\n\0\r\nQUIT\n"
SEEDS = (
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 25\r\nEHLO x\r\n",
    b"PROXY UNKNOWN\r\nEHLO x\r\n",
    b"PROXY TCP6 ::1 ::1 1 2\r\n",
    _V2 + b"\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x04\xd2\x00\x19EHLO x\r\n",
    _V2 + b"\x20\x00\x00\x00",
    _V2 + b"\x21\x21\x00\x24" + b"\0" * 36,
)


def check(octets: bytes) -> None:
    stream = Supply(octets).rest()
    header = b""
    try:
        while (more := wanted(header)) > 0:
            if len(header) + more > len(stream):
                return
            header += stream[len(header) : len(header) + more]
        address = source(header)
    except ValueError:
        return
    assert address is None or str(ip_address(address)) == address
    if header.startswith(b"PROXY "):
        assert header.index(b"\n") == len(header) - 1
