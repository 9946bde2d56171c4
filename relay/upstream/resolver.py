"""Questions to name servers, through dnspython: the one module that imports it. No cache, no /etc/hosts, no order.

Called, it is a look-up of addresses; ``texts``, ``exchanges`` and ``names_of`` are what ``relay check --dns`` asks.

Servers, search list and options are those of /etc/resolv.conf, read again when it changes; without one 127.0.0.1 is
asked, as resolv.conf(5) has it. The search list completes names without a dot only: "smtp.example.com" must never
become a host of somebody else's domain. An answer over UDP that was cut is asked for again over TCP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.resolver
import dns.reversename

from relay.upstream.names import Found, NameServiceFailed, NoSuchHost, RecordType
from relay.upstream.watched import Watched

RESOLV_CONF: Final = "/etc/resolv.conf"
TRY_TIMEOUT: Final = 2.0
"""Seconds that one name server has for one question, where resolv.conf sets no timeout."""
LIFETIME: Final = 10.0
"""Seconds for a question with all its tries."""


class DnsResolver:
    """A :data:`~relay.upstream.names.Lookup`. ``servers`` are asked instead of resolv.conf's; ``port`` is theirs."""

    def __init__(self, resolv_conf: str = RESOLV_CONF, port: int = 53, servers: Sequence[str] = ()) -> None:
        self._resolver = Watched((resolv_conf,), lambda: _read(resolv_conf, port, servers))

    async def __call__(self, name: str, record: RecordType) -> Found:
        """The addresses of ``name`` and their TTL; CNAMEs are followed. An absent record type is an empty answer."""
        answer = await self._answer(name, record)
        # The least of the whole chain of CNAMEs; of the SOA where there is no such record (RFC 2308 §5).
        ttl = float(answer.chaining_result.minimum_ttl)
        return Found(tuple(record.address for record in answer.rrset or ()), ttl)

    async def texts(self, name: str) -> tuple[str, ...]:
        """The TXT records of ``name``, the strings of each joined; none where it has none. Raises as a lookup does."""
        answer = await self._answer(name, "TXT")
        return tuple(b"".join(record.strings).decode("utf-8", "replace") for record in answer.rrset or ())

    async def exchanges(self, name: str) -> tuple[str, ...]:
        """The MX hosts of ``name``, the preferred first; "" is the null one (RFC 7505). Raises as a lookup does."""
        answer = await self._answer(name, "MX")
        found = sorted((mx.preference, mx.exchange.to_text(omit_final_dot=True)) for mx in answer.rrset or ())
        return tuple("" if host in {"", ".", "@"} else host for _, host in found)

    async def names_of(self, address: str) -> tuple[str, ...]:
        """The names that an IP address points to. Raises as a lookup does."""
        name = dns.reversename.from_address(address).to_text(omit_final_dot=True)
        answer = await self._answer(name, "PTR")
        return tuple(sorted(record.target.to_text(omit_final_dot=True) for record in answer.rrset or ()))

    async def _answer(self, name: str, record: str) -> dns.resolver.Answer:
        try:
            # By the loop's clock too: dnspython's is the wall clock.
            async with asyncio.timeout(LIFETIME + 1):
                return await self._resolver.value().resolve(
                    name, record, search="." not in name, raise_on_no_answer=False, lifetime=LIFETIME
                )
        except dns.resolver.NXDOMAIN as error:
            raise NoSuchHost(name) from error
        except (dns.exception.DNSException, OSError, EOFError) as error:  # a TimeoutError is an OSError
            raise NameServiceFailed(name) from error


def _read(resolv_conf: str, port: int, servers: Sequence[str]) -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.timeout = TRY_TIMEOUT
    resolver.port = port
    if servers:
        resolver.nameservers = list(servers)
        return resolver
    try:
        resolver.read_resolv_conf(resolv_conf)
    except (dns.exception.DNSException, ValueError, UnicodeDecodeError):
        resolver.nameservers = ["127.0.0.1"]
    return resolver
