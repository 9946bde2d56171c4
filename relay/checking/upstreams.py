"""``relay check --connect``: each upstream's greeting, TLS, AUTH and extensions, by a session without mail."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from relay.checking.findings import Finding, bad, ok, warn
from relay.clock import Clock
from relay.daemon.upstreams import open_upstream
from relay.outcome import Outcome
from relay.settings import Settings, UpstreamSettings
from relay.upstream import Finished, Session, UpstreamUnavailable
from relay.upstream.examined import Certificate, Examined
from relay.upstream.smtp import SmtpUpstream

EXPIRES_SOON: Final = 14 * 86400.0
"""Seconds before a certificate's end from which on it is worth a word."""
_USEFUL: Final = ("PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING")


async def check_upstreams(settings: Settings, clock: Clock) -> list[Finding]:
    """All upstreams at the same time; their findings in the file's order."""
    found = await asyncio.gather(*(_check(each, settings.hostname, clock) for each in settings.upstreams))
    return [finding for findings in found for finding in findings]


async def _check(settings: UpstreamSettings, hostname: str, clock: Clock) -> Sequence[Finding]:
    subject = f"upstream {settings.name}"
    if settings.kind == "simulator":
        return [ok(subject, "connect", "the simulator needs no connection")]
    upstream = open_upstream(settings, hostname, clock)
    try:
        if isinstance(upstream, SmtpUpstream):
            return list(_of_server(subject, settings, await upstream.examine(), clock.now()))
        session = await upstream.connect(_Nobody())
    except UpstreamUnavailable as error:
        return [bad(subject, "connect", error.outcome.detail)]
    session.abort("only looked at")
    # SES is asked for the account's limits first; SparkPost's sending keys may do nothing but send.
    knows_us = "and knows our account" if settings.kind == "ses" else "the key is tried with the first message"
    return [ok(subject, "connect", f"{upstream.destination} answers, {knows_us}")]


def _of_server(subject: str, settings: UpstreamSettings, examined: Examined, now: float) -> Iterator[Finding]:
    yield ok(subject, "connect", examined.relay, relay=examined.relay)
    yield ok(subject, "greeting", examined.greeting, greeting=examined.greeting)
    if examined.tls:
        yield ok(subject, "TLS", examined.tls, tls=examined.tls)
        yield _certificate(subject, settings, examined.certificate, now)
    else:
        yield warn(subject, "TLS", f'none (tls = "{settings.tls}")', tls=None)
    if examined.mechanism:
        what = f"{examined.mechanism.upper()} as {settings.username}"
        yield ok(subject, "AUTH", what, mechanism=examined.mechanism.upper())
    else:
        yield ok(subject, "AUTH", "none wanted: no username", mechanism=None)
    names = {line.split(" ")[0] for line in examined.extensions}
    lacks = [name for name in _USEFUL if name not in names]
    said = ", ".join(examined.extensions) or "none"
    missing = f"; lacks {', '.join(lacks)}" if lacks else ""
    yield ok(subject, "EHLO", f"{said}{missing}", extensions=list(examined.extensions))


def _certificate(subject: str, settings: UpstreamSettings, certificate: Certificate | None, now: float) -> Finding:
    if certificate is None:
        why = "opportunistic" if settings.tls == "opportunistic" else "tls_verify = false"
        return warn(subject, "certificate", f"not verified ({why})")
    until = datetime.fromtimestamp(certificate.expires, UTC).strftime("%Y-%m-%d")
    days = int((certificate.expires - now) // 86400)
    what = f"{certificate.subject}, by {certificate.issuer}, until {until} ({days} days)"
    finding = warn if certificate.expires - now < EXPIRES_SOON else ok
    return finding(
        subject, "certificate", what, certificate=certificate.subject, issuer=certificate.issuer, expires=until
    )


class _Nobody:
    """Observes a session in which nothing happens."""

    def finished(self, session: Session, finished: Finished) -> None:
        """Nothing is begun."""

    def capacity_changed(self, session: Session) -> None:
        """Nobody asks."""

    def ended(self, session: Session, why: Outcome | None) -> None:
        """As it was told."""
