"""Each kind of upstream, put together from its settings."""

from __future__ import annotations

from random import SystemRandom
from typing import TYPE_CHECKING

from relay.clock import Clock
from relay.settings import UpstreamSettings
from relay.upstream import Upstream

if TYPE_CHECKING:
    from relay.upstream.connecting import Connector
    from relay.upstream.oauth.tokens import TokenSource


def open_upstream(settings: UpstreamSettings, hostname: str, clock: Clock) -> Upstream:
    """The upstream of a ``[upstream.NAME]``; ``hostname`` is what it says in EHLO."""
    # Imported where it is used: a relay that only simulates needs no SMTP client, and the other way round.
    match settings.kind:
        case "simulator":
            from relay.upstream.simulator import SimulatorUpstream

            return SimulatorUpstream(settings, clock)
        case "ses":
            from relay.upstream.http.upstream import ApiUpstream
            from relay.upstream.ses.api import SesApi

            return ApiUpstream(settings, SesApi(settings, clock), _connector(settings, clock))
        case "sparkpost":
            from relay.upstream.http.upstream import ApiUpstream
            from relay.upstream.sparkpost.api import SparkPostApi

            return ApiUpstream(settings, SparkPostApi(settings, clock), _connector(settings, clock))
        case "smtp":
            from relay.upstream.smtp import SmtpUpstream

            connector = _connector(settings, clock)
            return SmtpUpstream(settings, hostname, connector, _tokens(settings, connector, clock))


def _connector(settings: UpstreamSettings, clock: Clock) -> Connector:
    from relay.upstream.connecting import Connector
    from relay.upstream.names import Names, hosts_file
    from relay.upstream.resolver import DnsResolver

    return Connector(
        Names(DnsResolver(), hosts_file(), clock.monotonic),
        clock.monotonic,
        SystemRandom().random,
        family=settings.address_family,
        sources=settings.source_addresses,
    )


def _tokens(settings: UpstreamSettings, connector: Connector, clock: Clock) -> TokenSource | None:
    if settings.oauth2 is None:
        return None
    from relay.upstream.oauth.tokens import TokenSource
    from relay.upstream.tls import context_of

    return TokenSource(settings.oauth2, connector, lambda: context_of(settings), clock.monotonic)
