"""The program of a scribe's process: signs what comes in by its standard input, a socket, until that is closed.

Each signature leaves as soon as it is made. Nothing is logged, read or written but that socket.
"""

from __future__ import annotations

import socket
import sys
from typing import Final

from relay.signing.orders import ORDER, introduced, ordered

_PIECE: Final = 64 * 1024


def serve(connection: socket.socket) -> None:
    """Sign until the other side has no more to say; raises OSError where it is gone, ValueError for nonsense."""

    def read(count: int) -> bytes:
        return connection.recv(count, socket.MSG_WAITALL)

    keys = introduced(read)
    rest = b""
    while data := connection.recv(_PIECE):
        data = rest + data
        whole = len(data) - len(data) % ORDER
        for start in range(0, whole, ORDER):
            place, digest = ordered(data[start : start + ORDER])
            connection.sendall(keys[place].sign(digest))
        rest = data[whole:]


def main() -> int:
    """Serve; exit status 1 where the other side went away amid something."""
    try:
        with socket.socket(fileno=sys.stdin.fileno()) as connection:
            serve(connection)
    except (OSError, ValueError, IndexError):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
