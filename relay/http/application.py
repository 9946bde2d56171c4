"""The rooms behind the door: which path is answered by whom, and what holds for all answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send

from relay.http import dashboard, openapi, queries
from relay.http.answers import read_body, refusal
from relay.http.gate import COOKIE, Asked, Gate, Verdict
from relay.http.metrics import Metrics
from relay.http.neighbours import Neighbours, Unanswered
from relay.http.submitting import Submitting

FEEDBACK_MOST: Final = 5_000_000
"""Octets of a webhook's body."""

READ_ON_MOST: Final = 64 * 1024 * 1024
"""Octets of a refused body that are read for nothing."""
READ_ON_SECONDS: Final = 2.0

_log: Final = logging.getLogger(__name__)

_ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
}

Endpoint = Callable[[Request], Awaitable[Response]]


class Application:
    """An ASGI application; ``version`` is the relay's."""

    def __init__(
        self, neighbours: Neighbours, gate: Gate, metrics: Metrics, submitting: Submitting, version: str
    ) -> None:
        self._neighbours = neighbours
        self._gate = gate
        self._metrics = metrics
        asked = [
            Route(each.path, _endpoint(partial(queries.answer, neighbours.ask, each)), methods=[each.method])
            for each in queries.OPERATIONS
        ]
        self._router = Router(
            [
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._exposition),
                Route("/feedback/{provider}", self._feedback, methods=["POST"]),
                Route("/api/messages", submitting.submit, methods=["POST"]),
                Route("/api/openapi.json", openapi.endpoint(version)),
                *asked,
                *dashboard.routes(neighbours.ask, version),
            ],
            redirect_slashes=False,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever happens, no more than this request fails."""
        if scope["type"] != "http":
            return
        begun = False
        body = _Body(scope, receive)

        async def guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                fields = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    fields.setdefault(name, value)
            await send(message)

        try:
            verdict = self._gate.judge(_asked(scope))
            if verdict.status:
                await _turned_away(verdict)(scope, receive, guarded)
            else:
                await self._router(scope, body.receive, guarded)
        except ClientDisconnect:
            return
        except Unanswered as why:
            if begun:
                raise
            await body.read_on()
            await refusal(why.status, str(why), _retry(why.status))(scope, receive, guarded)
        except Exception:
            _log.exception("an HTTP request failed")
            if begun:
                raise  # the answer is cut off: what was sent of it must not look whole
            await refusal(500, "internal error; see the relay's log")(scope, receive, guarded)

    # -- for monitoring ---------------------------------------------------------------------------------------------
    async def _healthz(self, request: Request) -> Response:
        del request
        return PlainTextResponse("ok\n")

    async def _readyz(self, request: Request) -> Response:
        del request
        why = await self._neighbours.readiness()
        return PlainTextResponse(f"not ready: {why}\n" if why else "ready\n", 503 if why else 200)

    async def _exposition(self, request: Request) -> Response:
        text, content_type = await self._metrics.exposition(request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": content_type})

    # -- for providers ----------------------------------------------------------------------------------------------
    async def _feedback(self, request: Request) -> Response:
        body = await read_body(request, FEEDBACK_MOST)
        fields = {name.lower(): value for name, value in request.headers.items()}
        status = await self._neighbours.take_feedback(request.path_params["provider"], fields, body)
        return Response(status_code=status, headers=_retry(status))


def _endpoint(answer: Endpoint) -> Endpoint:
    """A coroutine function: Starlette would run a partial one in a thread."""

    async def endpoint(request: Request) -> Response:
        return await answer(request)

    return endpoint


class _Body:
    """A request's body, and whether all of it was received."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._expected = any(name == b"expect" for name, _ in scope["headers"])
        self._receive = receive
        self._is_whole = False

    async def receive(self) -> Message:
        """What ASGI's ``receive`` gives."""
        message = await self._receive()
        self._is_whole = not message.get("more_body")
        return message

    async def read_on(self) -> None:
        """Read what still comes: the answer to a client that is still sending gets lost where the connection is closed.
        Not what it asks about first (RFC 9110 §10.1.1).
        """
        left = 0 if self._expected else READ_ON_MOST
        with suppress(TimeoutError):
            async with asyncio.timeout(READ_ON_SECONDS):
                while left > 0 and not self._is_whole:
                    left -= len((await self.receive()).get("body", b""))


def _asked(scope: Scope) -> Asked:
    local = scope.get("server") or ("", None)
    fields = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"])
    query = scope["query_string"].decode("latin-1")
    return Asked(scope["method"], scope["path"], query, fields, str(local[0]))


def _turned_away(verdict: Verdict) -> Response:
    if verdict.status == 303:
        # The token is out of the address bar, and of the history, at once.
        response = RedirectResponse("/", 303)
        response.set_cookie(COOKIE, verdict.cookie, max_age=30 * 86400, path="/", httponly=True, samesite="strict")
        return response
    challenge = {"WWW-Authenticate": 'Bearer realm="relay"'} if verdict.status == 401 else None
    return refusal(verdict.status, verdict.why, challenge)


def _retry(status: int) -> dict[str, str] | None:
    return {"Retry-After": "30"} if status == 503 else None
