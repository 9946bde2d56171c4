"""Each kind of upstream, put together from its settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import SystemRandom
from typing import TYPE_CHECKING

from relay.clock import Clock
from relay.settings import UpstreamSettings
from relay.upstream import ServerLimit, Told, Upstream

if TYPE_CHECKING:
    from relay.upstream.connecting import Connector
    from relay.upstream.oauth.tokens import TokenSource


def _unheard(limits: Sequence[ServerLimit]) -> None:
    """Nobody asks."""


def open_upstream(
    settings: UpstreamSettings,
    hostname: str,
    clock: Clock,
    told: Told = _unheard,
    report: Callable[[bytes, str], None] | None = None,
) -> Upstream:
    """The upstream of a ``[upstream.NAME]``; ``hostname`` is what it says in EHLO, ``told`` hears of the account,
    ``report`` takes the abuse reports that a simulator makes, with its name.
    """
    # Imported where it is used: a relay that only simulates needs no SMTP client, and the other way round.
    match settings.kind:
        case "simulator":
            from relay.upstream.simulator import SimulatorUpstream

            return SimulatorUpstream(settings, clock, report)
        case "ses":
            from relay.upstream.http.upstream import ApiUpstream
            from relay.upstream.ses.api import SesApi

            return ApiUpstream(settings, SesApi(settings, clock, told), connector_of(settings, clock))
        case "sparkpost":
            from relay.upstream.http.upstream import ApiUpstream
            from relay.upstream.sparkpost.api import SparkPostApi

            return ApiUpstream(settings, SparkPostApi(settings, clock, told), connector_of(settings, clock))
        case "smtp":
            from relay.upstream.smtp import SmtpUpstream

            connector = connector_of(settings, clock)
            return SmtpUpstream(settings, hostname, connector, _tokens(settings, connector, clock))


def connector_of(settings: UpstreamSettings, clock: Clock) -> Connector:
    """Who connects as these settings want it."""
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
