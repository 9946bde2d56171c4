"""Sockets to listen on: TCP addresses and Unix paths (unix(7)), and who is at the other end of the latter."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import socket
import stat
import struct
from typing import Final

_UNIX: Final = "unix:"
# struct ucred of unix(7): pid, uid, gid.
_CREDENTIALS: Final = struct.Struct("3i")


def unix_path(address: str) -> str | None:
    """The path of "unix:PATH"; None for any other address."""
    return address.removeprefix(_UNIX) if address.startswith(_UNIX) else None


def bind(address: str, *, mode: int, group: str | None) -> socket.socket:
    """A socket bound to "host:port", "[v6]:port" or "unix:PATH", not listening yet.

    Numeric hosts only, so that nothing asks the DNS. ``mode`` and ``group`` are a Unix socket's. Raises OSError.
    """
    path = unix_path(address)
    return _bound_tcp(address) if path is None else _bound_unix(path, mode, group)


def restrict(path: str, *, mode: int, group: str | None) -> None:
    """Say who may connect to a Unix socket: whoever may write to it. Raises OSError."""
    if group is not None:
        try:
            gid = grp.getgrnam(group).gr_gid
        except KeyError:
            raise OSError(errno.EINVAL, f"no group {group}") from None
        os.chown(path, -1, gid)
    os.chmod(path, mode)  # noqa: PTH101 - beside chown, which pathlib has not


def remove(address: str) -> None:
    """Unlink the file of a Unix socket that was closed; one that somebody else listens on by now stays."""
    path = unix_path(address)
    with contextlib.suppress(OSError):
        if path is not None and _is_stale(path):
            os.unlink(path)  # noqa: PTH108 - a plain string


def bound_address(listening: socket.socket) -> str:
    """Where a socket is bound, spelled as the configuration does."""
    name = listening.getsockname()
    if isinstance(name, str):
        return f"{_UNIX}{name}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def peer_uid(connection: socket.socket) -> int | None:
    """The user at the other end of a Unix socket; None where the system doesn't tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
    return int(uid)


def _bound_tcp(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY on what is accepted.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, int(port)))
    except OSError:
        sock.close()
        raise
    return sock


def _bound_unix(path: str, mode: int, group: str | None) -> socket.socket:
    # What a killed relay left behind is in nobody's way; a live socket, or a file that is none, is.
    if _is_stale(path):
        os.unlink(path)  # noqa: PTH108 - a plain string
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        # Nobody can connect before listen(), so nobody gets in before the mode is right.
        restrict(path, mode=mode, group=group)
    except OSError:
        sock.close()
        raise
    return sock


def _is_stale(path: str) -> bool:
    """Whether ``path`` is a socket on which nobody listens."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False
