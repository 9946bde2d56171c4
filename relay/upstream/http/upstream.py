"""A provider's HTTP API as an upstream of the port: opens connections, gives each what it is to say."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from typing import Final

from relay.outcome import unavailable
from relay.settings import UpstreamSettings
from relay.upstream import SessionObserver, UpstreamUnavailable
from relay.upstream.connecting import Connector
from relay.upstream.http.connection import HttpConnection, open_connection
from relay.upstream.http.session import Api, ApiSession, Endurance
from relay.upstream.tls import NOT_TRUSTED, context_of, files_of
from relay.upstream.watched import Watched

_STEPS: Final = 4
"""Time-outs that connecting (name, connection, TLS, first questions) may take together."""


class ApiUpstream:
    """``connector`` connects as these settings want it."""

    def __init__(self, settings: UpstreamSettings, api: Api, connector: Connector) -> None:
        self._settings = settings
        self._api = api
        self._connector = connector
        self._tls = Watched(files_of(settings), lambda: context_of(settings))
        self._reading = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<ApiUpstream {self.destination}>"

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self._settings.name

    @property
    def destination(self) -> str:
        """``name[host]:port``."""
        return f"{self._settings.name}[{self._api.origin.host}]:{self._api.origin.port}"

    async def connect(self, observer: SessionObserver) -> ApiSession:
        """Open a connection; raises :class:`UpstreamUnavailable` with what was in the way."""
        settings, origin = self._settings, self._api.origin
        loop = asyncio.get_running_loop()
        started = loop.time()
        context = await self._context() if origin.secure else None
        connection = await self._prepared(context)
        if not connection.usable:
            connection.close()  # a server of one answer a connection: the next one has nothing more to be asked
            connection = await self._prepared(context)
        relay = self._relay(connection)
        if not connection.usable:
            connection.close()
            raise UpstreamUnavailable(unavailable(f"lost connection with {relay}", "4.4.2"))
        capabilities = self._api.capabilities
        if settings.max_message_size:
            size = capabilities.max_size
            least = min(settings.max_message_size, size) if size else settings.max_message_size
            capabilities = replace(capabilities, max_size=least)
        endurance = Endurance(
            settings.max_messages_per_connection,
            settings.max_connection_age,
            settings.idle_timeout,
            settings.reply_timeout,
            settings.final_reply_timeout,
        )
        return ApiSession(
            self._api, connection, observer, endurance, capabilities, relay=relay, setup=loop.time() - started
        )

    def _relay(self, connection: HttpConnection) -> str:
        return f"{self._settings.name}[{connection.address}]:{self._api.origin.port}"

    async def _prepared(self, context: ssl.SSLContext | None) -> HttpConnection:
        timeout = self._settings.connect_timeout
        connection = await open_connection(self._api.origin, self._connector, context, timeout)
        relay = self._relay(connection)
        try:
            async with asyncio.timeout(timeout * _STEPS):
                await self._api.prepare(connection, relay.rpartition(":")[0])
        except TimeoutError:
            connection.close()
            raise UpstreamUnavailable(unavailable(f"conversation with {relay} timed out", "4.4.2")) from None
        except BaseException:
            connection.close()
            raise
        return connection

    async def _context(self) -> ssl.SSLContext:
        try:
            async with self._reading:  # in a thread: the system's certificates alone take some 25 ms
                return await asyncio.to_thread(self._tls.value)
        except OSError as error:  # relay check reads the files too: they changed since
            what = f"TLS with {self.destination}: tls_ca, tls_cert or tls_key can't be used: {error.strerror}"
            raise UpstreamUnavailable(unavailable(what, NOT_TRUSTED)) from None
