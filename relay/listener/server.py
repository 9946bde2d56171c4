"""All of ``[listener.*]``: started, stopped and set anew together, with the users who may log in."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Iterable, Sequence
from typing import Final

from relay.clock import Clock
from relay.events import Emit
from relay.listener.inherited import Inherited
from relay.listener.listening import Listener
from relay.listener.transaction import Receiver
from relay.listener.users import Users
from relay.settings import ListenerSettings, UserSettings

_LAST_COMMITS: Final = 10.0
"""Seconds that commits under way are waited for after the grace is over and all sessions were cut off."""


class Listeners:
    """A relay's listeners. One is known by its address: the same address stays open whatever else of it changes."""

    def __init__(
        self,
        settings: Sequence[ListenerSettings],
        *,
        hostname: str,
        receiver: Receiver,
        clock: Clock,
        emit: Emit,
        users: Sequence[UserSettings] = (),
        inherited: Inherited | None = None,
    ) -> None:
        # aiosmtpd logs dialogues, contents and failed passwords included; the events say what a log needs.
        logging.getLogger("mail.log").setLevel(logging.CRITICAL + 1)
        self._hostname = hostname
        self._receiver = receiver
        self._clock = clock
        self._emit = emit
        self._users = Users(users, clock.monotonic)
        self._inherited = Inherited() if inherited is None else inherited
        self._listeners = {one.address: self._listener(one) for one in settings}
        self._leaving: set[Listener] = set()

    def _listener(self, settings: ListenerSettings) -> Listener:
        return Listener(settings, self._hostname, self._receiver, self._clock, self._emit, self._users, self._inherited)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where they listen."""
        return tuple(listener.address for listener in self._listeners.values())

    @property
    def sessions(self) -> int:
        """Sessions open now."""
        return sum(listener.sessions for listener in self._all())

    async def start(self) -> None:
        """Bind and listen, all or none; OSError names the address."""
        try:
            for listener in self._listeners.values():
                await listener.start()
        except OSError:
            for listener in self._listeners.values():
                listener.stop_listening()
            raise

    async def configure(self, settings: Sequence[ListenerSettings], users: Sequence[UserSettings]) -> list[str]:
        """Take other settings, for sessions that begin from now on; the rest goes on. Certificates are read again.

        An address that is no longer there is listened on no more; its sessions end behind their transaction. What
        can't be had is said in the problems that are returned, and changes nothing else: where a listener's new address
        can't be listened on it stays on its old one.
        """
        self._users.configure(users)
        wanted = {one.address: one for one in settings}
        gone = [self._listeners[address] for address in self._listeners.keys() - wanted.keys()]
        problems = []
        for address, one in wanted.items():
            if address in self._listeners:
                problems += self._listeners[address].configure(one)
                continue
            listener = self._listener(one)
            trouble = await _start_in_place_of(listener, [old for old in gone if old.open])
            if trouble is None:
                self._listeners[address] = listener
                continue
            kept = [old for old in gone if old.name == one.name and old.open]
            gone = [old for old in gone if old not in kept]
            where = " and ".join(sorted(old.address for old in kept))
            problems.append(f"{trouble}; [listener.{one.name}] stays on {where}" if kept else trouble)
        for leaving in gone:
            del self._listeners[leaving.configured_address]
            leaving.stop_listening()
            self._leaving.add(leaving)
        self._leaving = {listener for listener in self._leaving if listener.sessions}
        return [*problems, *self._inherited.problems(settings)]

    def _all(self) -> tuple[Listener, ...]:
        return (*self._listeners.values(), *self._leaving)

    async def stop(self, grace: float) -> None:
        """Stop taking mail: idle sessions get 421 4.3.2 now, open transactions ``grace`` seconds to end.

        Returns once all sessions are over; a commit that was under way has come to its end.
        """
        for listener in self._listeners.values():
            listener.stop_listening()
        if not await _within(grace, self._all()):
            for listener in self._all():
                listener.abort()
            await _within(_LAST_COMMITS, self._all())
        self._users.close()


def has_ipv6_loopback() -> bool:
    """Whether this machine has ::1 to listen on."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
        sock.bind(("::1", 0))
        return True
    return False


async def _start_in_place_of(listener: Listener, gone: Sequence[Listener]) -> str | None:
    """Start ``listener``; what is in the way where that can't be, and then those that are ``gone`` listen on.

    They may be what is in the way: 0.0.0.0 can't be had while 127.0.0.1 is listened on at the same port.
    """
    try:
        await listener.start()
    except OSError as error:
        trouble = str(error.strerror)
        if error.errno != errno.EADDRINUSE:
            return trouble
    else:
        return None
    beside = [old for old in gone if _port(old.configured_address) == _port(listener.configured_address)]
    for old in beside:
        old.close()
    try:
        await listener.start()
    except OSError as error:
        trouble = str(error.strerror)
    else:
        return None
    for old in beside:
        try:
            await old.start()
        except OSError as error:
            trouble = f"{trouble}; {error.strerror}"
    return trouble


def _port(address: str) -> str:
    return address.rpartition(":")[2]


async def _within(seconds: float, listeners: Iterable[Listener]) -> bool:
    try:
        async with asyncio.timeout(seconds):
            for listener in listeners:
                await listener.ended()
    except TimeoutError:
        return False
    return True
