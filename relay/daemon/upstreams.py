"""Each kind of upstream, put together from its settings."""

from __future__ import annotations

from random import SystemRandom

from relay.clock import Clock
from relay.settings import UpstreamSettings
from relay.upstream import Upstream


def open_upstream(settings: UpstreamSettings, hostname: str, clock: Clock) -> Upstream:
    """The upstream of a ``[upstream.NAME]``; ``hostname`` is what it says in EHLO."""
    # Imported where it is used: a relay that only simulates needs no SMTP client, and the other way round.
    match settings.kind:
        case "simulator":
            from relay.upstream.simulator import SimulatorUpstream

            return SimulatorUpstream(settings, clock)
        case "smtp":
            from relay.upstream.connecting import Connector
            from relay.upstream.names import Names, hosts_file
            from relay.upstream.resolver import DnsResolver
            from relay.upstream.smtp import SmtpUpstream

            connector = Connector(
                Names(DnsResolver(), hosts_file(), clock.monotonic),
                clock.monotonic,
                SystemRandom().random,
                family=settings.address_family,
                sources=settings.source_addresses,
            )
            return SmtpUpstream(settings, hostname, connector)
