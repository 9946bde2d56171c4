"""The HTTP server on the relay's own event loop: uvicorn's protocol without its server.

That server takes over signals and wakes up ten times a second; all that is needed of it is to listen and to end.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

import h11
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from relay.http.connection import HEAD_MOST, KEPT_ALIVE, BoundedConnection

_BACKLOG: Final = 64


class HttpServer:
    """Serves ``application`` at ``host`` (a name or an address without brackets) and ``port``."""

    def __init__(
        self, application: ASGIApp, host: str, port: int, connection: type[BoundedConnection] = BoundedConnection
    ) -> None:
        self._config = Config(
            application,
            loop="none",
            http=connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEPT_ALIVE,
            h11_max_incomplete_event_size=HEAD_MOST,
        )
        self._host = host
        self._port = port
        self._connection = connection
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. OSError where that can't be."""
        # What clients do wrong is theirs to hear; what we do, the application reports.
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._config.load()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: self._connection(self._config, self._state, {}), self._host, self._port, backlog=_BACKLOG
        )

    async def stop(self, grace: float) -> None:
        """Listen no more; what is being answered gets ``grace`` seconds."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for connection in list(self._state.connections):
            with suppress(h11.LocalProtocolError):
                connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=grace)
        for task in list(self._state.tasks):
            task.cancel()
        for connection in list(self._state.connections):
            if connection.transport is not None:
                connection.transport.abort()
