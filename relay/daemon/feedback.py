"""Feedback and suppression of a running relay, put together: who hears what is said of its mail, and from whom."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from relay.clock import Clock
from relay.delivery.engine import Engine
from relay.delivery.hearing import Hearing
from relay.delivery.suppressing import Suppressing
from relay.events import Emit
from relay.feedback import Feedback, Unbelievable, line_of
from relay.feedback.ses import read_notification
from relay.feedback.sns import SnsMessage, read_message
from relay.feedback.sparkpost import BATCH_FIELD, is_believed, read_events
from relay.settings import FeedbackSettings, Settings
from relay.spool import Spool
from relay.upstream import UpstreamUnavailable

BODY_MOST: Final = 5_000_000
"""Octets of one webhook's request at the most: SparkPost's batches are the largest."""
TIMEOUT: Final = 10.0
"""Seconds for each step of fetching a certificate or confirming a subscription."""
CERTIFICATES_MOST: Final = 16
"""Certificates of SNS that are remembered: it has one at a time in each region."""

SEEN_MOST: Final = 10_000
"""Messages that are known again: providers send them at least once."""

Fetch = Callable[[str], Awaitable[bytes]]
"""Gets an https address; raises UpstreamUnavailable where that can't be."""

_log = logging.getLogger(__name__)


class FeedbackDesk:
    """Acts on one engine, by one spool; ``suppressing`` is to be loaded before anything is taken or sent."""

    def __init__(
        self, spool: Spool, clock: Clock, emit: Emit, engine: Engine, settings: Settings, fetch: Fetch | None = None
    ) -> None:
        self.suppressing = engine.suppressing = Suppressing(spool, clock, emit, settings.suppression)
        self.hearing = Hearing(spool, clock, emit, engine)
        self._clock = clock
        self._settings = settings
        self._fetch = fetch or fetcher(clock)
        self._certificates: dict[str, bytes] = {}
        self._seen: dict[str, None] = {}

    def configure(self, settings: Settings) -> None:
        """Go by these from now on."""
        self._settings = settings
        self.suppressing.configure(settings.suppression)

    @property
    def doorkeeper(self) -> Suppressing | None:
        """Who is asked at the door; None: nobody, as there is no ``[suppression]``."""
        return None if self._settings.suppression is None else self.suppressing

    async def take(self, provider: str, headers: Mapping[str, str], body: bytes) -> int:
        """``POST /feedback/{provider}``: the HTTP status to answer with.

        ``provider`` is the NAME of a ``[feedback.NAME]``, ``headers`` have their names in lower case. 200: acted on, or
        nothing to do; 400: it can't be read; 401: it is not proved; 404: nobody of that name; 413; 503: it can't be
        proved now and is to come again.
        """
        settings = next((each for each in self._settings.feedback if each.name == provider), None)
        if settings is None:
            return 404
        if len(body) > BODY_MOST:
            return 413
        try:
            if settings.kind == "ses":
                return await self._take_sns(settings, body)
            if not is_believed(settings, headers):
                return 401
            said = read_events(body.decode("utf-8", "replace"), settings.name)
        except Unbelievable as why:
            _log.warning("feedback for %s is not taken: %s", settings.name, why)
            return 400
        batch = headers.get(BATCH_FIELD)
        await self._hear(settings, said, batch)
        return 200

    async def _hear(self, settings: FeedbackSettings, said: Sequence[Feedback], message: str | None) -> None:
        """Act on it once, however often ``message`` comes: a complaint counts."""
        key = f"{settings.name} {message}"
        if message and key in self._seen:
            return
        await self.hearing.take(said, settings.upstream)
        if message:
            self._seen[key] = None
            if len(self._seen) > SEEN_MOST:
                del self._seen[next(iter(self._seen))]

    async def _take_sns(self, settings: FeedbackSettings, body: bytes) -> int:
        message = read_message(body)
        if message.topic not in settings.topics:
            _log.warning("feedback for %s is not taken: of the topic %s", settings.name, line_of(message.topic))
            return 401
        try:
            if not await self._is_signed(message):
                _log.warning("feedback for %s is not taken: its signature is not Amazon's", settings.name)
                return 401
            if message.subscribe_url:
                await self._fetch(message.subscribe_url)
                _log.info("feedback: the subscription to %s is confirmed", line_of(message.topic))
                return 200
        except UpstreamUnavailable as trouble:
            _log.warning("feedback for %s can't be proved now: %s", settings.name, trouble.outcome.detail)
            return 503
        if message.text.startswith("Successfully validated SNS topic"):
            return 200  # SES tries a topic that it was just given
        await self._hear(settings, read_notification(message.text, settings.name), message.message_id)
        return 200

    async def _is_signed(self, message: SnsMessage) -> bool:
        from relay.signing.certificates import is_signed_by

        url = message.certificate_url
        certificate = self._certificates.get(url)
        if certificate is None:
            certificate = await self._fetch(url)
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        signed = is_signed_by(certificate, message.signed, message.signature, message.hash_name, now)
        if signed:
            # Only what proved to be one is kept: addresses are cheap to make up.
            self._certificates[url] = certificate
            while len(self._certificates) > CERTIFICATES_MOST:
                del self._certificates[next(iter(self._certificates))]
        return signed


def fetcher(clock: Clock) -> Fetch:
    """Gets pages over HTTPS from whom the system's authorities vouch for, up to 64 KB; redirects are not followed."""

    async def fetch(url: str) -> bytes:
        # Imported where it is used: only who has a webhook of SES needs an HTTP client for it.
        from urllib.parse import urlsplit

        from relay.daemon.upstreams import connector_of
        from relay.outcome import unavailable
        from relay.settings import UpstreamSettings
        from relay.upstream.http.connection import Broken, open_connection
        from relay.upstream.http.request import HttpRequest, Origin
        from relay.upstream.tls import context_of

        parts = urlsplit(url)
        origin = Origin("https", parts.hostname or "", parts.port or 443)
        settings = UpstreamSettings("feedback")
        context = await asyncio.to_thread(context_of, settings)
        connection = await open_connection(origin, connector_of(settings, clock), context, TIMEOUT)
        try:
            path = f"{parts.path}?{parts.query}" if parts.query else parts.path
            response = await connection.exchange(HttpRequest("GET", path, {}, None), TIMEOUT, TIMEOUT)
        except Broken as error:
            raise UpstreamUnavailable(unavailable(f"{error.what} with {origin.host}")) from None
        finally:
            connection.close()
        if response.status != 200:
            raise UpstreamUnavailable(unavailable(f"{origin.host} said: {response.status}"))
        return response.content

    return fetch
