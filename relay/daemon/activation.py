"""Socket activation (sd_listen_fds(3)): sockets that the service manager opened and keeps while the relay restarts."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from itertools import zip_longest
from typing import Final

FIRST: Final = 3
"""SD_LISTEN_FDS_START: the first descriptor that is passed."""


def passed_sockets(environ: MutableMapping[str, str], pid: int, first: int = FIRST) -> list[tuple[str, socket.socket]]:
    """The sockets that were passed to this process, each with its FileDescriptorName=; not passed on to children.

    OSError for what is no listening stream socket.
    """
    mine = environ.pop("LISTEN_PID", "") == str(pid)
    count = environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if not mine or not count.isdecimal():
        return []
    descriptors = range(first, first + int(count))
    # Fewer names than descriptors: the rest has none.
    named = zip_longest(descriptors, names[: len(descriptors)], fillvalue="")
    return [(str(name), _listening(int(descriptor))) for descriptor, name in named]


def _listening(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    passed = socket.socket(fileno=descriptor)
    if passed.type != socket.SOCK_STREAM or not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        passed.close()
        raise OSError(f"descriptor {descriptor} of the service manager is no listening stream socket (Accept=no)")
    return passed
