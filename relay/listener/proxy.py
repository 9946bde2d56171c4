"""The PROXY protocol's header, versions 1 and 2: who really connects, told by a proxy in front of the relay.

After HAProxy's ``proxy-protocol.txt`` (2020/03/05). The header is read octet-exact, as TLS or a client's first command
may follow in the same segment; :func:`wanted` says how much may be taken without taking any of that.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_LINE_START: Final = b"PROXY "
_LONGEST_LINE: Final = 107
"""Octets of a version 1 header (§2.1)."""
_LONGEST_BLOCK: Final = 4096
"""Octets behind a version 2 header that are read; TLVs may be many, and none is of use here."""
_FIXED: Final = 16
_AF_INET: Final = 1
_AF_INET6: Final = 2


def wanted(header: bytes) -> int:
    """How many octets to read behind ``header``, what was read so far; 0 once it is whole.

    Raises ValueError where this is, or becomes, no header.
    """
    if len(header) < len(_SIGNATURE):
        # The shortest header of either version is longer.
        return len(_SIGNATURE) - len(header)
    if header.startswith(_LINE_START):
        if header.endswith(b"\r\n"):
            return 0
        if len(header) >= _LONGEST_LINE or header.endswith(b"\n"):
            raise ValueError("no PROXY header")
        return 1
    if not header.startswith(_SIGNATURE):
        raise ValueError("no PROXY header")
    if len(header) < _FIXED:
        return _FIXED - len(header)
    size = int.from_bytes(header[14:16])
    if header[12] >> 4 != 2 or size > _LONGEST_BLOCK:
        raise ValueError("no PROXY header")
    return _FIXED + size - len(header)


def source(header: bytes) -> str | None:
    """The client's IP address out of a whole header; None where the proxy speaks for itself or doesn't know.

    Raises ValueError where the header is malformed.
    """
    if header.startswith(_LINE_START):
        return _source_of_line(header.decode("ascii", "replace").removesuffix("\r\n").split(" "))
    command, family, block = header[12] & 0xF, header[13] >> 4, header[_FIXED:]
    if command == 0:  # LOCAL: a health check
        return None
    if command != 1:
        raise ValueError("unknown PROXY command")
    if family == _AF_INET and len(block) >= 12:
        return str(IPv4Address(block[:4]))
    if family == _AF_INET6 and len(block) >= 36:
        return str(IPv6Address(block[:16]))
    if family in {_AF_INET, _AF_INET6}:
        raise ValueError("PROXY header cut short")
    return None


def _source_of_line(words: list[str]) -> str | None:
    if words[1:2] == ["UNKNOWN"]:
        return None
    version = {"TCP4": 4, "TCP6": 6}.get(words[1])
    if len(words) != 6 or version is None:
        raise ValueError("malformed PROXY header")
    address = ip_address(words[2])
    if address.version != version:
        raise ValueError("malformed PROXY header")
    return str(address)
