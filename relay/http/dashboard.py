"""``/``: how the relay stands, as pages made on the server: no scripts, nothing from elsewhere, renewed by themselves.

They show what ``/api/status``, ``/api/plan``, ``/api/queue`` and ``/api/trace`` answer, and nothing that these don't.
The plan, which costs more, is kept for PLAN_KEPT seconds at the least.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from relay.http.neighbours import Ask, Unanswered

REFRESH: Final = 5
"""Seconds after which a browser asks again."""
PLAN_KEPT: Final = 30.0
PLAN_SHARE: Final = 20
"""Making it takes one part in so many of the time at the most."""
ROWS: Final = 25
"""Messages that are listed: the oldest."""
_STATES: Final = ("waiting", "leased", "deferred", "held")


def routes(ask: Ask, version: str) -> Sequence[Route]:
    """The pages' routes."""
    pages = _Pages(ask, version)
    return (
        Route("/", pages.overview),
        Route("/messages", pages.messages),
        Route("/trace", pages.trace),
        Route("/style.css", pages.style),
    )


class _Pages:
    def __init__(self, ask: Ask, version: str) -> None:
        self._ask = ask
        # A text that holds markup is shown as text, wherever it came from.
        pages = Environment(loader=PackageLoader("relay.http", "pages"), autoescape=True, undefined=StrictUndefined)
        pages.filters |= {"span": span, "count": count, "clock": clock}
        pages.globals |= {"version": version, "refresh": REFRESH, "states": _STATES}
        self._pages = pages
        self._style = pages.get_template("style.css").render()
        self._plan: dict[str, Any] = {}
        self._plan_ends = float("-inf")

    async def overview(self, request: Request) -> Response:
        """Upstreams, limits, queue, plan."""
        del request
        status = await self._first("status")
        return self._page("overview.html", status=status, plan=await self._latest_plan(status))

    async def messages(self, request: Request) -> Response:
        """The oldest messages that are open, of one state or all."""
        state = request.query_params.get("state", "")
        arguments: dict[str, Any] = {"limit": ROWS}
        if state:
            arguments["state"] = state
        found: list[Any] = []
        async with aclosing(self._ask("list", arguments)) as parts:  # type: ignore[type-var]
            async for part in parts:
                found += part
        return self._page("messages.html", state=state, found=found, rows=ROWS)

    async def trace(self, request: Request) -> Response:
        """One message's story, by queue id or Message-ID."""
        text = request.query_params.get("id", "").strip()
        stories = await self._first("trace", text=text) if text else []
        return self._page("trace.html", 200 if stories else 404, text=text, stories=stories)

    async def style(self, request: Request) -> Response:
        """How it looks."""
        del request
        return Response(self._style, media_type="text/css", headers={"Cache-Control": "private, max-age=3600"})

    async def _first(self, verb: str, **arguments: Any) -> Any:
        return await anext(self._ask(verb, arguments))

    async def _latest_plan(self, status: dict[str, Any]) -> dict[str, Any]:
        """When what waits is gone; {} where nothing does, or nobody knows."""
        if not any(status["queue"].values()):
            return {}
        begun = time.monotonic()
        if begun >= self._plan_ends:
            self._plan_ends = begun + PLAN_KEPT  # who asks meanwhile has the one before
            try:
                self._plan = await self._first("plan")
            except Unanswered:
                self._plan = {}
            ended = time.monotonic()
            self._plan_ends = ended + max(PLAN_KEPT, (ended - begun) * PLAN_SHARE)
        return self._plan

    def _page(self, name: str, code: int = 200, **values: Any) -> Response:
        return HTMLResponse(self._pages.get_template(name).render(values), code)


def span(seconds: float | None) -> str:
    """Seconds as people say it: "2 h 13 min"."""
    if seconds is None:
        return "not within a year"
    rest = round(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, rest = divmod(rest, size)
        if number or parts:
            parts.append(f"{number} {unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 ")) or "0 s"


def count(value: float) -> str:
    """A number with its thousands parted; a small one with its decimals."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.1f}"


def clock(iso: str | None) -> str:
    """A time of the services as the machine's own, to the second."""
    return "" if iso is None else datetime.fromisoformat(iso).astimezone().isoformat(" ", "seconds")
