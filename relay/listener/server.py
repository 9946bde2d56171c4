"""All of ``[listener.*]``: started, stopped and set anew together, with the users who may log in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterable, Sequence
from typing import Final

from relay.clock import Clock
from relay.events import Emit
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
    ) -> None:
        # aiosmtpd logs dialogues, contents and failed passwords included; the events say what a log needs.
        logging.getLogger("mail.log").setLevel(logging.CRITICAL + 1)
        self._hostname = hostname
        self._receiver = receiver
        self._clock = clock
        self._emit = emit
        self._users = Users(users, clock.monotonic)
        self._listeners = {one.address: self._listener(one) for one in settings}
        self._leaving: set[Listener] = set()

    def _listener(self, settings: ListenerSettings) -> Listener:
        return Listener(settings, self._hostname, self._receiver, self._clock, self._emit, self._users)

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
        can't be had is said in the problems that are returned, and changes nothing else.
        """
        self._users.configure(users)
        wanted = {one.address: one for one in settings}
        for address in self._listeners.keys() - wanted.keys():
            leaving = self._listeners.pop(address)
            leaving.stop_listening()
            self._leaving.add(leaving)
        self._leaving = {listener for listener in self._leaving if listener.sessions}
        problems = []
        for address, one in wanted.items():
            if address in self._listeners:
                problems += self._listeners[address].configure(one)
                continue
            listener = self._listener(one)
            try:
                await listener.start()
            except OSError as error:
                problems.append(str(error.strerror))
            else:
                self._listeners[address] = listener
        return problems

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


async def _within(seconds: float, listeners: Iterable[Listener]) -> bool:
    try:
        async with asyncio.timeout(seconds):
            for listener in listeners:
                await listener.ended()
    except TimeoutError:
        return False
    return True
