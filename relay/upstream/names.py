"""Host names into addresses: /etc/hosts first, then DNS through a bounded cache that survives a failing name server.

An answer is used for its TTL. After that it is looked up again, and used on for a day where the name server does not
answer or fails (RFC 8767): mail goes on while DNS is down. That a name does not exist is an answer and ends this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from relay.upstream.addresses import Family, is_literal, parse_hosts, without_dns
from relay.upstream.watched import Watched

RecordType = Literal["AAAA", "A"]

RESOLUTION_DELAY: Final = 0.05
"""Seconds that the other family's answer is waited for once one has addresses (RFC 8305 §3)."""
TTL_MOST: Final = 3600.0
"""Seconds after which an answer is looked up again, whatever its TTL."""
STALE_FOR: Final = 86400.0
"""Seconds beyond its TTL that an answer is used while name servers fail (RFC 8767 §5: one to three days)."""
STALE_AFTER: Final = 1.8
"""Seconds that a fresh answer is waited for where a stale one is at hand (RFC 8767 §5, client response timer)."""
STALE_RETRY: Final = 30.0
"""Seconds after a failed lookup before a stale answer is looked up again (RFC 8767 §5, failure recheck timer)."""
NAMES_MOST: Final = 256
"""Answers kept; the one kept longest goes first."""


class NoSuchHost(Exception):
    """The name does not exist (NXDOMAIN)."""


class NameServiceFailed(Exception):
    """No name server gave a usable answer: SERVFAIL, REFUSED, nonsense or silence."""


class Unresolved(Exception):
    """A host has no address now; the message is Postfix's wording of it, ``dsn`` the RFC 3463 status."""

    def __init__(self, host: str, record: RecordType, why: str, dsn: str) -> None:
        super().__init__(
            f"Host or domain name not found. Name service error for name={host} type={record}: {why}",
        )
        self.dsn = dsn


@dataclass(frozen=True, slots=True)
class Found:
    """The addresses of one type, perhaps none, and the seconds that they may be kept."""

    addresses: tuple[str, ...]
    ttl: float


Lookup = Callable[[str, RecordType], Awaitable[Found]]
"""Asks DNS; raises :class:`NoSuchHost` or :class:`NameServiceFailed`, in bounded time."""


@dataclass(frozen=True, slots=True)
class _Known:
    addresses: tuple[str, ...]
    fresh_until: float
    stale_until: float
    retry_at: float = 0.0


def hosts_file(path: str = "/etc/hosts") -> Watched[Mapping[str, tuple[str, ...]]]:
    """What hosts(5) says, for as long as it says so; nothing where there is no such file."""

    def read() -> Mapping[str, tuple[str, ...]]:
        try:
            return parse_hosts(Path(path).read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return {}

    return Watched((path,), read)


class Names:
    """``now`` is monotonic seconds; ``hosts`` what /etc/hosts says."""

    def __init__(self, lookup: Lookup, hosts: Watched[Mapping[str, tuple[str, ...]]], now: Callable[[], float]) -> None:
        self._lookup = lookup
        self._hosts = hosts
        self._now = now
        self._known: dict[tuple[str, RecordType], _Known] = {}
        self._under_way: dict[tuple[str, RecordType], asyncio.Task[Found]] = {}

    async def addresses(self, host: str, family: Family = "any") -> tuple[str, ...]:
        """The addresses of ``host``, one at least; raises :class:`Unresolved`."""
        known = without_dns(host, self._hosts.value(), family)
        if known:
            return known
        records: tuple[RecordType, ...] = ("A",) if family == "ipv4" else ("AAAA",) if family == "ipv6" else _BOTH
        if is_literal(host):
            raise Unresolved(host, records[0], _NO_DATA, "4.4.4")
        fresh = [self._fresh((host.lower(), record)) for record in records]
        if None in fresh:
            return await self._ask(host, records)
        found = tuple(address for addresses in fresh for address in addresses or ())
        if not found:
            raise Unresolved(host, records[0], _NO_DATA, "4.4.4")
        return found

    async def _ask(self, host: str, records: tuple[RecordType, ...]) -> tuple[str, ...]:
        """Both families at once; one that answers with addresses waits only a moment for the other."""
        pending = {asyncio.ensure_future(self._answer((host.lower(), record))) for record in records}
        found: list[str] = []
        troubles: list[BaseException] = []
        try:
            while pending:
                delay = RESOLUTION_DELAY if found else None
                done, pending = await asyncio.wait(pending, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
                for each in done:
                    trouble = each.exception()
                    if trouble is None:
                        found += each.result()
                    else:
                        troubles.append(trouble)
        finally:
            for each in pending:  # the lookup itself goes on and fills the cache
                each.cancel()
        if found:
            return tuple(found)
        for kind, why, dsn in _WHY:
            if any(isinstance(trouble, kind) for trouble in troubles):
                raise Unresolved(host, records[0], why, dsn)
        for trouble in troubles:
            raise trouble
        raise Unresolved(host, records[0], _NO_DATA, "4.4.4")

    def _fresh(self, key: tuple[str, RecordType]) -> tuple[str, ...] | None:
        known = self._known.get(key)
        return known.addresses if known is not None and self._now() < known.fresh_until else None

    async def _answer(self, key: tuple[str, RecordType]) -> tuple[str, ...]:
        fresh = self._fresh(key)
        if fresh is not None:
            return fresh
        stale = self._known.get(key)
        if stale is None or self._now() >= stale.stale_until:
            # Shielded: others wait for the same lookup.
            return (await asyncio.shield(self._looking(key))).addresses
        if self._now() < stale.retry_at:
            return stale.addresses
        task = self._looking(key)
        await asyncio.wait({task}, timeout=STALE_AFTER)
        if not task.done() or isinstance(task.exception(), NameServiceFailed):
            return stale.addresses
        return task.result().addresses

    def _looking(self, key: tuple[str, RecordType]) -> asyncio.Task[Found]:
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.ensure_future(self._look_up(key))
            task.add_done_callback(lambda done: self._looked(key, done))
        return task

    async def _look_up(self, key: tuple[str, RecordType]) -> Found:
        return await self._lookup(*key)

    def _looked(self, key: tuple[str, RecordType], task: asyncio.Task[Found]) -> None:
        del self._under_way[key]
        if task.cancelled():
            return
        now, known, trouble = self._now(), self._known.pop(key, None), task.exception()
        if trouble is None:
            found = task.result()
            fresh_until = now + min(found.ttl, TTL_MOST)
            self._known[key] = _Known(found.addresses, fresh_until, fresh_until + STALE_FOR)
            if len(self._known) > NAMES_MOST:
                del self._known[next(iter(self._known))]
        elif known is not None and not isinstance(trouble, NoSuchHost):
            self._known[key] = replace(known, retry_at=now + STALE_RETRY)


_BOTH: Final[tuple[RecordType, ...]] = ("AAAA", "A")
_NO_DATA: Final = "Host found but no data record of requested type"
# Postfix's words (dns_strerror). A configured smarthost's name is the configuration's or DNS' trouble, never the
# mail's: all of it is temporary.
_WHY: Final = ((NameServiceFailed, "Host not found, try again", "4.4.3"), (NoSuchHost, "Host not found", "4.4.4"))
