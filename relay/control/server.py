"""The control socket of a running relay: newline-delimited JSON over a Unix socket that only its owner can open.

A request is one line ``{"verb": …, "arguments": {…}}``. The answer is lines ``{"part": […]}`` (of a long listing), then
``{"result": …}`` or ``{"error": …, "exit": code}``. A connection may carry several requests. A request is bounded in
size, a client in time: one that is slow, silent or talks nonsense costs nobody else anything.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from relay.control.address import short_name
from relay.control.errors import Exit, Refused
from relay.control.services import Services
from relay.control.verbs import LISTS, exit_of, perform
from relay.spool import SpoolError

REQUEST_LIMIT: Final = 1024 * 1024
"""Octets of one request."""

PATIENCE: Final = 60.0
"""Seconds a client has for its next request, and for reading each part of an answer."""

CLIENTS_LIMIT: Final = 64

_log: Final = logging.getLogger(__name__)


class ControlServer:
    """Serves ``services`` at ``path``."""

    def __init__(self, services: Services, path: str, *, patience: float = PATIENCE) -> None:
        self._services = services
        self._path = path
        self._patience = patience
        self._server: asyncio.Server | None = None
        self._inode: tuple[int, int] | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. OSError where the socket can't be made, EADDRINUSE where another relay answers at it."""
        bound = _bind(self._path)
        self._inode = _inode(self._path)
        self._server = await asyncio.start_unix_server(self._serve, sock=bound, limit=REQUEST_LIMIT)

    async def stop(self) -> None:
        """Stop listening, cut off who is connected, take the socket away (where it is still ours)."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        _unlink(self._path, self._inode)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:
            # Accepted as stop() came: nobody would cut this one off.
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            if len(self._clients) > CLIENTS_LIMIT:
                await self._send(writer, _error("too many clients", Exit.TEMPORARY))
                return
            while line := await self._request(reader, writer):
                await self._answer(line, writer)
        except OSError:
            # The client went away, or does not read: its connection is all that it loses.
            writer.transport.abort()
        except asyncio.CancelledError:
            # Only stop() cancels; ending normally keeps asyncio's stream callback from reporting it.
            writer.transport.abort()
        finally:
            self._clients.discard(task)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """The next line; empty where there is none, or one too long (which is answered)."""
        try:
            return await asyncio.wait_for(reader.readline(), self._patience)
        except ValueError:  # what StreamReader.readline makes of a line above its limit
            await self._send(writer, _error("the request is too large", Exit.USAGE))
            return b""

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            verb, arguments = _parse(line)
            result: Any = None
            async for part in perform(self._services, verb, arguments):
                if verb in LISTS:
                    await self._send(writer, {"part": part})
                else:
                    result = part
            await self._send(writer, {"result": result})
        except Refused as refusal:
            await self._send(writer, _error(str(refusal), refusal.exit))
        except SpoolError as error:
            await self._send(writer, _error(f"the spool: {error}", exit_of(error)))
        except OSError:
            raise
        except Exception:  # noqa: BLE001 -- a bug of ours ends this request, not the socket
            _log.exception("a control request failed")
            await self._send(writer, _error("internal error; see the relay's log", Exit.UNAVAILABLE))

    async def _send(self, writer: asyncio.StreamWriter, answer: Mapping[str, Any]) -> None:
        writer.write(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
        await asyncio.wait_for(writer.drain(), self._patience)


def _parse(line: bytes) -> tuple[str, Mapping[str, Any]]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise Refused("the request is not JSON") from None
    if not isinstance(request, dict):
        raise Refused("the request is no object")
    verb = request.get("verb")
    arguments = request.get("arguments", {})
    if not isinstance(verb, str) or not isinstance(arguments, dict):
        raise Refused("a request has a verb and arguments")
    return verb, arguments


def _error(message: str, exit_code: Exit) -> dict[str, Any]:
    return {"error": message, "exit": int(exit_code)}


def _bind(path: str) -> socket.socket:
    """A listening socket of mode 0600 from its first instant; a stale one gives way where nobody listens."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_name(path) as name:
            _clear(path, name)
            # The mode is made from the umask when the name appears: a chmod would come too late.
            before = os.umask(0o177)
            try:
                bound.bind(name)
            finally:
                os.umask(before)
        bound.listen(16)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def _clear(path: str, name: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "in the way of the control socket, and no socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(name)
        except (ConnectionRefusedError, FileNotFoundError):
            Path(path).unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, "another relay answers at the control socket", path)


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _unlink(path: str, inode: tuple[int, int] | None) -> None:
    """Take the socket away, unless another relay has put its own in its place."""
    if inode is not None and _inode(path) == inode:
        Path(path).unlink(missing_ok=True)
