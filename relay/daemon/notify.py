"""What systemd is told (sd_notify(3)): a datagram to the socket that NOTIFY_SOCKET names, where there is one."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping


def notify(environ: Mapping[str, str], *states: str) -> None:
    """Send ``states`` ("READY=1", "STATUS=…"); without a service manager, or where it is deaf, nothing happens."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto("\n".join(states).encode(), address)


def notify_reloading(environ: Mapping[str, str]) -> None:
    """Say that a reload begins, and when, as Type=notify-reload wants; the next READY=1 ends it."""
    notify(environ, "RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
