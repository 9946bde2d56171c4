"""``-bs``: SMTP on standard input and output is the listener's; octets pass both ways until the relay hangs up."""

from __future__ import annotations

import os
import select
import socket
from typing import Final

PATIENCE: Final = 330.0
"""Seconds without an octet either way: above the listener's own time-out, which ends a session in good form."""
_READ: Final = 65_536


def run(connection: socket.socket, source: int, sink: int) -> bool:
    """Pass octets between ``connection`` and two descriptors; whether the session came to its end.

    The end of the input is told to the relay, which answers what it had and hangs up.
    """
    connection.settimeout(PATIENCE)
    sources = [connection.fileno(), source]
    while True:
        ready, _, _ = select.select(sources, [], [], PATIENCE)
        if not ready:
            return False
        if source in ready:
            octets = os.read(source, _READ)
            if octets:
                try:
                    connection.sendall(octets)
                except (BrokenPipeError, ConnectionResetError):
                    # It hung up; what it said before is still to be read.
                    sources.remove(source)
            else:
                connection.shutdown(socket.SHUT_WR)
                sources.remove(source)
        if connection.fileno() in ready:
            try:
                octets = connection.recv(_READ)
            except ConnectionResetError:
                octets = b""
            if not octets:
                return True
            _write(sink, octets)


def _write(descriptor: int, octets: bytes) -> None:
    rest = memoryview(octets)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
