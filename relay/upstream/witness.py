"""Looks on while STARTTLS is asked for: nothing in clear may follow its reply (RFC 3207 §4.2, CVE-2011-0411).

The SMTP library forgets such octets, which is safe, and then waits for a TLS handshake from a server that does not
mean to have one. Here the connection ends at once, and it can be said why.
"""

from __future__ import annotations

import asyncio


class Witness(asyncio.Protocol):
    """Stands before ``protocol`` on ``transport`` until TLS takes over. ``alarmed``: it cut the connection."""

    def __init__(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        self.alarmed = False
        self._transport = transport
        self._protocol = protocol
        self._heard = b""
        transport.set_protocol(self)

    def leave(self) -> None:
        """TLS was refused: what follows goes on in clear."""
        self._transport.set_protocol(self._protocol)

    def data_received(self, data: bytes) -> None:
        """Pass it on, unless it goes beyond the reply."""
        self._heard += data
        self.alarmed = self.alarmed or _goes_beyond_a_reply(self._heard)
        if self.alarmed:
            self._transport.abort()
        else:
            self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        """Pass it on."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self._protocol.connection_lost(exc)


def _goes_beyond_a_reply(octets: bytes) -> bool:
    """Whether anything stands behind the last line of a reply (RFC 5321 §4.2.1: no hyphen behind its code)."""
    *lines, rest = octets.split(b"\n")
    for n, line in enumerate(lines, 1):
        if line[3:4] != b"-":
            return n < len(lines) or bool(rest)
    return False
