"""A TCP connection to whichever of a host's addresses answers first (RFC 8305, happy eyeballs).

Addresses are shuffled at each connect, as Postfix does (smtp_randomize_addresses): the load spreads over them. One that
failed lately is tried last. uvloop has no happy eyeballs of its own; this works on any event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from relay.outcome import unavailable
from relay.upstream import UpstreamUnavailable
from relay.upstream.addresses import Family, family_of, in_turn, of_family
from relay.upstream.names import Names, Unresolved

STAGGER: Final = 0.25
"""Seconds before the next address is tried beside one that has not answered (RFC 8305 §5)."""
ADDRESSES_MOST: Final = 8
"""Addresses tried in one connect; the shuffle brings others next time."""
FAILING_FOR: Final = 60.0
"""Seconds that an address which failed, or was too slow, is tried after the others."""

_BIND_ADDRESS_NO_PORT: Final = 24
"""IP_BIND_ADDRESS_NO_PORT of ip(7), which Python names from 3.14 on."""


@dataclass(frozen=True, slots=True)
class Connected:
    """A connected, non-blocking socket and the address at its other end."""

    sock: socket.socket
    address: str


class Connector:
    """``sources`` are local addresses to connect from; where there are any, families without one are not used.

    ``now`` is monotonic seconds, ``chance`` gives random numbers in [0, 1).
    """

    def __init__(
        self,
        names: Names,
        now: Callable[[], float],
        chance: Callable[[], float],
        *,
        family: Family = "any",
        sources: tuple[str, ...] = (),
    ) -> None:
        self._names = names
        self._now = now
        self._chance = chance
        self._family = family
        self._sources = sources
        self._failing: dict[str, float] = {}

    async def connect(self, host: str, port: int, timeout: float) -> Connected:  # noqa: ASYNC109 - per address in words
        """Connect to ``host`` within ``timeout`` seconds, its look-up included; raises :class:`UpstreamUnavailable`.

        What it says names each address that was tried, with Postfix's words.
        """
        addresses: tuple[str, ...] = ()
        race: _Race | None = None
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._addresses(host)
                race = _Race(addresses, port, self._sources_in_turn())
                connected = await race.run()
        except TimeoutError:
            failures = race.failures if race is not None else {}
            if race is None:
                raise UpstreamUnavailable(unavailable(f"connect to {host}: looking up its name timed out")) from None
            failures |= {each: os.strerror(errno.ETIMEDOUT) for each in race.under_way}
            raise self._unconnected(host, port, failures) from None
        except Unresolved as error:
            raise UpstreamUnavailable(unavailable(str(error), error.dsn)) from None
        if connected is None:
            raise self._unconnected(host, port, race.failures)
        for address in (*race.failures, *race.overtaken(connected.address)):
            self.failed(address)
        self._failing.pop(connected.address, None)
        return connected

    def failed(self, address: str) -> None:
        """``address`` was of no use, now or after connecting: for a while others come first."""
        now = self._now()
        self._failing = {each: until for each, until in self._failing.items() if now < until}
        self._failing[address] = now + FAILING_FOR

    async def _addresses(self, host: str) -> tuple[str, ...]:
        addresses = await self._names.addresses(host, self._family)
        if self._sources:
            families = {family_of(source) for source in self._sources}
            addresses = tuple(each for each in addresses if family_of(each) in families)
            if not addresses:
                what = f"connect to {host}: no address of a family that source_addresses has"
                raise UpstreamUnavailable(unavailable(what))
        now = self._now()
        failing = [each for each, until in self._failing.items() if now < until]
        return in_turn(addresses, failing, self._chance)[:ADDRESSES_MOST]

    def _sources_in_turn(self) -> tuple[str, ...]:
        return tuple(sorted(self._sources, key=lambda _: self._chance()))

    def _unconnected(self, host: str, port: int, failures: dict[str, str]) -> UpstreamUnavailable:
        for address in failures:
            self.failed(address)
        what = "; ".join(f"connect to {host}[{address}]:{port}: {why}" for address, why in failures.items())
        return UpstreamUnavailable(unavailable(what))


class _Race:
    """Attempts side by side, each begun when the one before failed or has not answered for :data:`STAGGER`."""

    def __init__(self, addresses: tuple[str, ...], port: int, sources: tuple[str, ...]) -> None:
        self.failures: dict[str, str] = {}
        self._waiting = deque(addresses)
        self._port = port
        self._sources = sources
        self._attempts: dict[asyncio.Task[socket.socket], str] = {}

    @property
    def under_way(self) -> tuple[str, ...]:
        """The addresses begun that neither failed nor answered."""
        return tuple(each for each in self._attempts.values() if each not in self.failures)

    def overtaken(self, winner: str) -> tuple[str, ...]:
        """The addresses begun before ``winner`` that had not answered when it did: perhaps a black hole.

        Tried first again at each connect they would cost :data:`STAGGER` each time.
        """
        return tuple(takewhile(lambda each: each != winner, self.under_way))

    async def run(self) -> Connected | None:
        """The first connection; None where every address failed, as :attr:`failures` tells."""
        pending: set[asyncio.Task[socket.socket]] = set()
        winner: asyncio.Task[socket.socket] | None = None
        try:
            while self._waiting or pending:
                if self._waiting:
                    pending.add(self._begin(self._waiting.popleft()))
                stagger = STAGGER if self._waiting else None
                done, pending = await asyncio.wait(pending, timeout=stagger, return_when=asyncio.FIRST_COMPLETED)
                for attempt in done:
                    trouble = attempt.exception()
                    if trouble is None:
                        winner = winner or attempt
                    else:
                        self.failures[self._attempts[attempt]] = _words(trouble)
                if winner is not None:
                    return Connected(winner.result(), self._attempts[winner])
            return None
        finally:
            self._drop_all_but(winner)

    def _begin(self, address: str) -> asyncio.Task[socket.socket]:
        sources = of_family(self._sources, "ipv6" if ":" in address else "ipv4")
        attempt = asyncio.ensure_future(_connect(address, self._port, sources))
        self._attempts[attempt] = address
        return attempt

    def _drop_all_but(self, winner: asyncio.Task[socket.socket] | None) -> None:
        for attempt in self._attempts:
            if attempt is not winner:
                attempt.cancel()
                attempt.add_done_callback(_close)  # also one that connected at the same moment


def _close(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def _connect(address: str, port: int, sources: tuple[str, ...]) -> socket.socket:
    """Raises OSError; its words name the local address where that is what is wrong."""
    # A literal: nothing is looked up, and a zone ("fe80::1%eth0") becomes the scope id of its interface.
    ((family, kind, protocol, _, where),) = socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    )
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        _bind(sock, sources)
        await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(sock: socket.socket, sources: tuple[str, ...]) -> None:
    """To the first of ``sources`` that this machine has."""
    for last, source in enumerate(sources, 1 - len(sources)):
        with contextlib.suppress(OSError):
            # The port is chosen at connect(2), where it need be free for this destination alone.
            sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        try:
            sock.bind((source, 0))
        except OSError as error:
            if last == 0:
                raise OSError(error.errno, f"bind {source}: {error.strerror}") from None
        else:
            return


def _words(trouble: BaseException) -> str:
    """What the system calls it: "Connection refused", "Network is unreachable"."""
    if not isinstance(trouble, OSError):
        raise trouble
    text = trouble.strerror or str(trouble)
    if trouble.errno is None or isinstance(trouble, socket.gaierror) or text.startswith("bind "):
        return text
    return os.strerror(trouble.errno)  # asyncio puts words of its own in the place of strerror(3)'s
