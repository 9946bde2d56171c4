"""Sockets that were opened by a service manager, and the listeners that they are for.

A socket belongs to the listener whose ``address`` it is bound to. One that bears a listener's name
(FileDescriptorName=) but is bound elsewhere is a mistake, as what is safe on one address is an open relay on another;
so is one that nobody serves, as its clients would wait for ever.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from relay.listener import sockets
from relay.settings import ListenerSettings


class Inherited:
    """``passed`` are listening sockets with their names. They stay open as long as this: a listener gets a copy."""

    def __init__(self, passed: Sequence[tuple[str, socket.socket]] = ()) -> None:
        self._passed = {_place(sockets.bound_address(one)): (name, one) for name, one in passed}

    def take(self, settings: ListenerSettings) -> socket.socket | None:
        """A copy of the socket that is bound to the listener's address; None where there is none."""
        _, found = self._passed.get(_place(settings.address), ("", None))
        return None if found is None else found.dup()

    def problems(self, listeners: Sequence[ListenerSettings]) -> Iterator[str]:
        """A sentence for each socket that no listener serves."""
        places = {_place(listener.address) for listener in listeners}
        for place, (name, _) in self._passed.items():
            if place in places:
                continue
            meant = [listener.address for listener in listeners if listener.name == name]
            says = f"; [listener.{name}] says {' and '.join(meant)}" if meant else ""
            yield f"the service manager passed a socket on {place} that no listener is for{says}"


def _place(address: str) -> str:
    path = sockets.unix_path(address)
    if path is not None:
        return f"unix:{os.path.realpath(path)}"
    host, _, port = address.rpartition(":")
    ip = ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
