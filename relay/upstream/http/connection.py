"""One HTTP/1.1 connection, through aiohttp: the one package that imports it.

The socket is ours: looked up, raced and bound as for SMTP, and there is no other. aiohttp's pool gets this connection
and can't open a second one, so nothing is ever sent again behind our back, and the log can name the address. What it
raises is put into words here, once, with the one thing that matters: whether the whole request was on its way.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler

from relay.outcome import unavailable
from relay.upstream import UpstreamUnavailable
from relay.upstream.connecting import Connector
from relay.upstream.http.request import HttpRequest, HttpResponse, Origin
from relay.upstream.tls import NOT_TRUSTED, words_of

RESPONSE_MOST: Final = 65_536
"""Octets of a response that are read; of a longer one the rest is not, and the connection ends."""
_NOT_ASKED_FOR: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class Broken(Exception):
    """An exchange without a whole response. ``written``: all of the request was on its way, and may have been heard."""

    def __init__(self, what: str, *, written: bool) -> None:
        super().__init__(what)
        self.what = what
        self.written = written


class HttpConnection:
    """Made by :func:`open_connection`. ``ended`` is called once it is gone, for whatever reason but :meth:`close`."""

    def __init__(self, origin: Origin, address: str, handler: ResponseHandler) -> None:
        self.address = address
        self.ended: Callable[[], None] = _ignore
        self.written = False
        """Whether all of the last request was handed to the wire."""
        self._origin = origin
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._client = aiohttp.ClientSession(
            connector=_OneConnection(handler),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_NOT_ASKED_FOR,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        gone = handler.closed
        if gone is not None:
            gone.add_done_callback(self._gone)

    @property
    def usable(self) -> bool:
        """Whether another request can be sent."""
        return not self._closing and self._handler.is_connected() and not self._handler.should_close

    async def exchange(self, request: HttpRequest, silence: float, patience: float) -> HttpResponse:
        """Send and hear the answer; ``silence`` seconds at most for each piece, ``patience`` for the response.

        Raises :class:`Broken`, and what reading the body's pieces raises (then the request was not written).
        """
        self.written = False
        fields = {**request.fields, "Host": self._origin.authority}
        data: AsyncIterator[bytes] | None = None
        trouble: list[Exception] = []
        try:
            async with asyncio.timeout(silence) as limit:
                if request.body is not None:
                    fields["Content-Length"] = str(request.body.length)
                    data = self._pieces(request, limit, silence, patience, trouble)
                else:
                    self.written = True
                    limit.reschedule(self._loop.time() + patience)
                url = self._origin.url(request.path)
                async with self._client.request(
                    request.method, url, headers=fields, data=data, allow_redirects=False
                ) as response:
                    content = await response.content.read(RESPONSE_MOST)
                    while len(content) < RESPONSE_MOST and (more := await response.content.read(RESPONSE_MOST)):
                        content += more
                    names = {name.lower(): value for name, value in response.headers.items()}
                    return HttpResponse(response.status, response.reason or "", names, content)
        except TimeoutError:
            raise Broken("conversation timed out", written=self.written) from None
        except (aiohttp.ClientError, OSError) as error:
            if trouble:
                raise trouble[0] from None
            raise Broken(_words(error), written=self.written) from None

    def close(self) -> None:
        """End at once. What was being exchanged is broken off by its task's end, not by this."""
        if self._closing:
            return
        self._closing = True
        transport = self._handler.transport
        closing = self._loop.create_task(self._client.close())
        closing.add_done_callback(lambda _: transport.abort() if transport is not None else None)

    async def _pieces(
        self, request: HttpRequest, limit: asyncio.Timeout, silence: float, patience: float, trouble: list[Exception]
    ) -> AsyncIterator[bytes]:
        """The body; ``written`` from the last piece on: before it the server can't have a whole request."""
        assert request.body is not None
        held: bytes | None = None
        try:
            async for piece in request.body.pieces():
                if held is not None:
                    limit.reschedule(self._loop.time() + silence)
                    yield held
                held = piece
        except Exception as error:
            trouble.append(error)
            raise
        self.written = True
        limit.reschedule(self._loop.time() + patience)
        yield held or b""

    def _gone(self, closed: asyncio.Future[None]) -> None:
        if not closed.cancelled():
            closed.exception()  # looked at: an exchange under way tells of it
        if not self._closing:
            self.ended()


async def open_connection(
    origin: Origin,
    connector: Connector,
    context: ssl.SSLContext | None,
    timeout: float,  # noqa: ASYNC109 - per step, in words
) -> HttpConnection:
    """Connect to ``origin``, with TLS where ``context`` is given; raises :class:`UpstreamUnavailable`."""
    connected = await connector.connect(origin.host, origin.port, timeout)
    where = f"{origin.host}[{connected.address}]"
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            _, handler = await loop.create_connection(
                lambda: ResponseHandler(loop),
                sock=connected.sock,
                ssl=context,
                server_hostname=origin.host if context is not None else None,
            )
    except ssl.SSLError as error:
        connector.failed(connected.address)
        raise UpstreamUnavailable(unavailable(words_of(error, where), NOT_TRUSTED)) from None
    except (OSError, EOFError) as error:  # a TimeoutError is an OSError
        connector.failed(connected.address)
        what = "conversation timed out" if isinstance(error, TimeoutError) else "lost connection"
        raise UpstreamUnavailable(
            unavailable(f"{what} with {where} while performing the TLS handshake", "4.4.2")
        ) from None
    return HttpConnection(origin, connected.address, handler)


class _OneConnection(aiohttp.BaseConnector):
    """A pool that holds the one connection there is; aiohttp's own connectors override the same method."""

    def __init__(self, handler: ResponseHandler) -> None:
        super().__init__(limit=1, keepalive_timeout=None)
        self._only: ResponseHandler | None = handler

    async def _create_connection(self, *_: Any, **__: Any) -> ResponseHandler:
        handler, self._only = self._only, None
        if handler is None or not handler.is_connected():
            raise aiohttp.ClientConnectionError("the connection is gone")
        return handler


def _words(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ClientResponseError):
        return "malformed response"
    if isinstance(error, OSError) and error.strerror:
        return f"lost connection ({error.strerror})"
    return "lost connection"


def _ignore() -> None:
    """Nobody asked to be told."""
