"""Signs in a process of its own: nobody waits there for the interpreter's lock, which two threads hand to and fro.

A signature of RSA-2048 takes 0.25 ms of a processor. The process is of this very program (``python -m relay.signing``)
and ends with the socket that it serves, so with this process too, however that ends. Where it has ended or does not
answer, what it was given is signed here, in the event loop, and it is started anew: no order is ever lost.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from relay.signing.keys import PrivateKey
from relay.signing.orders import MOST_KEYS, introduction, order

PATIENCE: Final = 3.0
"""Seconds without a single signature, while some are due, after which the process is ended. Twice as long is the most
that anybody waits for it: less than the ten seconds after which many an application gives up.
"""
PAUSE: Final = 10.0
"""Seconds between the starts of two processes."""
_PIECE: Final = 64 * 1024
_INHERITED: Final = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME")
"""Of the environment: what Python itself may need, and no password."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Sent to all processes of a service or terminal: this one ends with its socket instead, after its last order."""

T = TypeVar("T")
Work = Sequence[tuple[PrivateKey, bytes]]
"""Keys, each with the SHA-256 digest that it is to sign."""


class _Order:
    """Work, and who waits for it: ``build`` makes of its signatures what they wait for."""

    __slots__ = ("build", "future", "octets", "work")

    def __init__(self, work: Work, build: Callable[[Sequence[bytes]], Any], future: asyncio.Future[Any]) -> None:
        self.work = work
        self.build = build
        self.future = future
        self.octets = sum([key.octets for key, _ in work])

    def take(self, octets: bytes) -> None:
        """The signatures, one behind the other."""
        signatures, start = [], 0
        for key, _ in self.work:
            signatures.append(octets[start : start + key.octets])
            start += key.octets
        self._end(signatures)

    def sign(self) -> None:
        """Sign here and now."""
        self._end([key.sign(digest) for key, digest in self.work])

    def _end(self, signatures: Sequence[bytes]) -> None:
        if not self.future.done():
            self.future.set_result(self.build(signatures))


class Scribe:
    """Signs by ``keys``; belongs to the event loop that it is made in. ``tell`` gets a sentence about trouble."""

    def __init__(self, keys: Sequence[PrivateKey], tell: Callable[[str], None]) -> None:
        self._keys = tuple(keys)[:MOST_KEYS]
        self._places = {key: place for place, key in enumerate(self._keys)}
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._given: deque[_Order] = deque()
        self._unsent = bytearray()
        self._unread = b""
        self._flushing = False
        self._full = False
        self._signed = 0
        self._watching = False
        self._closing = False
        self._socket: socket.socket | None = None
        self.pid = 0
        """Of the process; 0: there is none."""
        self._next_start = 0.0
        self._start()

    @property
    def due(self) -> int:
        """Orders that are not signed yet."""
        return len(self._given)

    def sign(self, work: Work, build: Callable[[Sequence[bytes]], T]) -> asyncio.Future[T]:
        """Have ``work`` signed: what ``build`` makes of its signatures, in their order."""
        future: asyncio.Future[T] = self._loop.create_future()
        given = _Order(work, build, future)
        if self._socket is None and not self._closing and self._loop.time() >= self._next_start:
            self._start()
        orders = None if self._socket is None or self._closing else self._orders(work)
        if orders is None:
            given.sign()
            return future
        self._given.append(given)
        self._unsent += orders
        if not self._flushing:
            # All orders of a turn of the event loop go by one system call.
            self._flushing = True
            self._loop.call_soon(self._flush)
        if not self._watching:
            self._watching = True
            self._loop.call_later(PATIENCE, self._watch, self._signed)
        return future

    def _orders(self, work: Work) -> bytes | None:
        """None for a key that the process has not: a reload has other keys than a message that was opened before it,
        and MOST_KEYS are all it takes.
        """
        try:
            return b"".join([order(self._places[key], digest) for key, digest in work])
        except KeyError:
            return None

    def close(self) -> None:
        """End the process once it has signed what it was given; what comes now is signed here."""
        self._closing = True
        self._end_if_done()

    # -- the process ------------------------------------------------------------------------------------------------
    def _start(self) -> None:
        self._next_start = self._loop.time() + PAUSE
        try:
            self._socket, self.pid = _spawned()
        except OSError as error:
            self._tell(f"the process that signs can't be started ({error.strerror}): signing goes on without it")
            return
        self._unsent[:] = introduction(self._keys)
        self._loop.add_reader(self._socket.fileno(), self._read)
        self._flush()

    def _flush(self) -> None:
        self._flushing = False
        if self._socket is None:
            return
        try:
            del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()  # it has ended, as is read in a moment
        if self._unsent and not self._full:
            self._full = True
            self._loop.add_writer(self._socket.fileno(), self._flush)
        elif self._full and not self._unsent:
            self._full = False
            self._loop.remove_writer(self._socket.fileno())

    def _read(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._ended()
            return
        data = self._unread + data
        start = 0
        while self._given and len(data) - start >= self._given[0].octets:
            given = self._given.popleft()
            given.take(data[start : start + given.octets])
            start += given.octets
            self._signed += 1
        self._unread = data[start:]
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._closing and self._socket is not None and not self._given:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
            self._loop.call_later(PATIENCE, self._kill)  # where it hears nothing: it has the keys of before

    def _ended(self) -> None:
        assert self._socket is not None
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._socket = None
        self._kill()
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        self.pid = 0
        self._unsent.clear()
        self._full = False
        self._unread = b""
        given, self._given = self._given, deque()
        if not self._closing:
            self._tell("the process that signs has ended: signing goes on without it until it is started anew")
        for each in given:
            each.sign()

    def _watch(self, signed: int) -> None:
        self._watching = bool(self._given)
        if not self._given:
            return
        if signed == self._signed:
            self._kill()
        self._loop.call_later(PATIENCE, self._watch, self._signed)

    def _kill(self) -> None:
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def _spawned() -> tuple[socket.socket, int]:
    """Our end of a new process's socket, and its id. Raises OSError, also where there is no descriptor left."""
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
    nothing = ((os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_WRONLY, 0) for descriptor in (1, 2))
    ours, its = socket.socketpair()
    with its:
        try:
            pid = os.posix_spawn(
                sys.executable,
                (sys.executable, "-P", "-m", "relay.signing"),
                environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, its.fileno(), 0), *nothing],
                setsigmask=_SIGNALS,
            )
        except OSError:
            ours.close()
            raise
    ours.setblocking(False)
    return ours, pid
