"""Questions to name servers, through dnspython: the one module that imports it. No cache, no /etc/hosts, no order.

Servers, search list and options are those of /etc/resolv.conf, read again when it changes; without one 127.0.0.1 is
asked, as resolv.conf(5) has it. The search list completes names without a dot only: "smtp.example.com" must never
become a host of somebody else's domain. An answer over UDP that was cut is asked for again over TCP.
"""

from __future__ import annotations

import asyncio
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.resolver

from relay.upstream.names import Found, NameServiceFailed, NoSuchHost, RecordType
from relay.upstream.watched import Watched

RESOLV_CONF: Final = "/etc/resolv.conf"
TRY_TIMEOUT: Final = 2.0
"""Seconds that one name server has for one question, where resolv.conf sets no timeout."""
LIFETIME: Final = 10.0
"""Seconds for a question with all its tries."""


class DnsResolver:
    """A :data:`~relay.upstream.names.Lookup`. ``port`` is the name servers'."""

    def __init__(self, resolv_conf: str = RESOLV_CONF, port: int = 53) -> None:
        self._resolver = Watched((resolv_conf,), lambda: _read(resolv_conf, port))

    async def __call__(self, name: str, record: RecordType) -> Found:
        """The addresses of ``name`` and their TTL; CNAMEs are followed. An absent record type is an empty answer."""
        try:
            # By the loop's clock too: dnspython's is the wall clock.
            async with asyncio.timeout(LIFETIME + 1):
                answer = await self._resolver.value().resolve(
                    name, record, search="." not in name, raise_on_no_answer=False, lifetime=LIFETIME
                )
        except dns.resolver.NXDOMAIN as error:
            raise NoSuchHost(name) from error
        except (dns.exception.DNSException, OSError, EOFError) as error:  # a TimeoutError is an OSError
            raise NameServiceFailed(name) from error
        # The least of the whole chain of CNAMEs; of the SOA where there is no such record (RFC 2308 §5).
        ttl = float(answer.chaining_result.minimum_ttl)
        return Found(tuple(record.address for record in answer.rrset or ()), ttl)


def _read(resolv_conf: str, port: int) -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.timeout = TRY_TIMEOUT
    resolver.port = port
    try:
        resolver.read_resolv_conf(resolv_conf)
    except (dns.exception.DNSException, ValueError, UnicodeDecodeError):
        resolver.nameservers = ["127.0.0.1"]
    return resolver
