"""The access token of one upstream: fetched when first wanted, shared by its connections, renewed ahead of its end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

from relay.outcome import Outcome, unavailable
from relay.settings import OAuth2Settings, Secret
from relay.upstream import UpstreamUnavailable
from relay.upstream.connecting import Connector
from relay.upstream.http.body import plain_body
from relay.upstream.http.connection import Broken, open_connection
from relay.upstream.http.request import HttpRequest, origin_of
from relay.upstream.oauth.grant import Refused, Token, form, token_of
from relay.upstream.tls import NOT_TRUSTED

TIMEOUT: Final = 30.0
"""Seconds for each step of a token request."""
FRESH: Final = 60.0
"""Seconds for which a token counts as new."""
_FIELDS: Final = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}


class TokenSource:
    """``trust`` makes the TLS context (it may read files); ``now`` is monotonic seconds.

    A new refresh token that comes with an access token is used from then on, in memory: the configured one is what a
    restarted relay begins with.
    """

    def __init__(
        self,
        settings: OAuth2Settings,
        connector: Connector,
        trust: Callable[[], ssl.SSLContext],
        now: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._origin = origin_of(settings.token_url)
        self._connector = connector
        self._trust = trust
        self._now = now
        self._refresh = settings.refresh_token
        self._token: Token | None = None
        self._asking = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<TokenSource {self._origin.host}>"

    async def token(self) -> Secret:
        """An access token that is good for a while; raises :class:`UpstreamUnavailable`."""
        if (good := self._good()) is not None:
            return good
        async with self._asking:  # one asks for all
            if (good := self._good()) is not None:
                return good
            try:
                self._token = token = await self._ask()
            except Refused as error:
                return self._kept_or(error.outcome)
            self._refresh = token.refresh or self._refresh
            return token.access

    def refused(self, token: Secret) -> bool:
        """A server would not have ``token``; whether it was an old one, taken back before its end: a new one may do.

        That a new one is refused is no token's fault, and asking on would only bring a lock-out nearer.
        """
        current = self._token
        if current is None or current.access != token:
            return True
        self._token = None
        return self._now() >= current.given_at + FRESH

    def _good(self) -> Secret | None:
        token = self._token
        return token.access if token is not None and self._now() < token.renew_at else None

    def _kept_or(self, why: Outcome) -> Secret:
        """The earlier token while it lasts: it is renewed ahead of its end so that a failure now costs nothing."""
        token = self._token
        if token is not None and self._now() < token.ends_at:
            return token.access
        raise UpstreamUnavailable(why)

    async def _ask(self) -> Token:
        origin = self._origin
        try:
            context = await asyncio.to_thread(self._trust) if origin.secure else None
            connection = await open_connection(origin, self._connector, context, TIMEOUT)
        except UpstreamUnavailable as error:
            raise Refused(unavailable(f"no OAuth2 token: {error.outcome.detail}", error.outcome.dsn)) from None
        except OSError as error:
            what = f"no OAuth2 token: the trusted certificates can't be read: {error.strerror}"
            raise Refused(unavailable(what, NOT_TRUSTED)) from None
        host = f"{origin.host}[{connection.address}]"
        try:
            body = plain_body(form(self._settings, self._refresh))
            response = await connection.exchange(HttpRequest("POST", "", _FIELDS, body), TIMEOUT, TIMEOUT)
        except Broken as error:
            raise Refused(unavailable(f"no OAuth2 token: {error.what} with {host}", "4.4.2")) from None
        finally:
            connection.close()
        return token_of(response, self._now(), host)
