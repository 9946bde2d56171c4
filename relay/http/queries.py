"""``/api/…``: what the commands ask of a running relay, by the same services; one table for routes and OpenAPI.

A listing is sent part by part, as it is read: a million messages never stand in memory.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from relay.http.answers import read_object
from relay.http.neighbours import Ask, Unanswered


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter; ``kind`` is its JSON type, ``list`` may be repeated."""

    name: str
    kind: Literal["string", "number", "integer", "boolean", "list"]
    summary: str
    argument: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """A path and what it asks; ``arguments`` says that a JSON object with them is the body."""

    method: Literal["GET", "POST"]
    path: str
    verb: str
    summary: str
    parameters: tuple[Parameter, ...] = ()
    is_list: bool = False
    arguments: str = ""


_SELECTION: Final = (
    Parameter("id", "list", "queue ids", "ids"),
    Parameter("sender", "string", "of this reverse-path"),
    Parameter("recipient", "string", "to this address"),
    Parameter("domain", "string", "to this domain"),
    Parameter("upstream", "string", "last attempted by this upstream"),
    Parameter("state", "string", "waiting, leased, deferred, held or dead"),
    Parameter("older_than", "number", "arrived so many seconds ago, or earlier"),
    Parameter("all", "boolean", "all messages"),
)
_SELECTS: Final = "ids, sender, recipient, domain, upstream, state, older_than (seconds), or all"

OPERATIONS: Final = (
    Operation("GET", "/api/status", "status", "What `relay status --json` prints."),
    Operation(
        "GET",
        "/api/queue",
        "list",
        "What `relay queue list --json` prints: open messages, oldest first.",
        (*_SELECTION, Parameter("limit", "integer", "so many at the most")),
        is_list=True,
    ),
    Operation("GET", "/api/queue/count", "count", "What `relay queue count --json` prints.", _SELECTION),
    *(
        Operation("POST", f"/api/queue/{verb}", verb, f"{summary} The selected messages.", arguments=_SELECTS)
        for verb, summary in (
            ("hold", "Keep from delivery."),
            ("release", "Let go again what is held."),
            ("retry", "Make due now."),
            ("remove", "Remove without notification."),
            ("bounce", "Return to the senders."),
        )
    ),
    Operation(
        "GET",
        "/api/trace",
        "trace",
        "What `relay trace --json` prints: the whole story of a message.",
        (Parameter("id", "string", "a queue id or a Message-ID", "text"),),
    ),
    Operation(
        "GET",
        "/api/plan",
        "plan",
        "What `relay plan --json` prints: when the backlog clears, and which limit binds.",
        (Parameter("messages", "integer", "so many more to reckon with"),),
    ),
    Operation("GET", "/api/brakes", "brakes", "What the brake has stopped."),
    Operation("GET", "/api/suppressions", "suppressions", "Addresses that get no mail.", is_list=True),
    Operation(
        "POST",
        "/api/suppressions",
        "suppress",
        "Give addresses no mail.",
        arguments="entries, a list of {address, cause, detail}, and ttl in seconds",
    ),
    Operation(
        "POST",
        "/api/suppressions/remove",
        "unsuppress",
        "Give addresses mail again.",
        arguments="what `relay suppress remove` takes",
    ),
)
"""All of them but the submission of messages."""


async def answer(ask: Ask, operation: Operation, request: Request) -> Response:
    """Ask, and answer with what comes. Raises Unanswered."""
    if operation.method == "POST":
        arguments = await read_object(request)
    else:
        arguments = dict(_arguments(operation, request))
    parts = ask(operation.verb, arguments)
    if operation.is_list:
        first: list[Any] = await anext(parts, [])  # what is refused is refused before an answer begins
        return StreamingResponse(_array(first, parts), media_type="application/json")
    return JSONResponse(await anext(parts))


def _arguments(operation: Operation, request: Request) -> Iterator[tuple[str, Any]]:
    known = {parameter.name: parameter for parameter in operation.parameters}
    for name in request.query_params:
        parameter = known.get(name)
        if parameter is None:
            raise Unanswered(400, f"no parameter {name[:40]!r}; there are {', '.join(known) or 'none'}")
        values = request.query_params.getlist(name)
        if parameter.kind != "list" and len(values) != 1:
            raise Unanswered(400, f"{name} is given more than once")
        try:
            value = values if parameter.kind == "list" else _READERS[parameter.kind](values[0])
        except (ValueError, KeyError):
            raise Unanswered(400, f"{name}: {parameter.summary}") from None
        yield parameter.argument or name, value


_READERS: Final[dict[str, Any]] = {
    "string": str,
    "number": float,
    "integer": int,
    "boolean": {"true": True, "1": True, "": True, "false": False, "0": False}.__getitem__,
}


async def _array(first: list[Any], parts: AsyncIterator[list[Any]]) -> AsyncIterator[bytes]:
    """A JSON array, a part at a time."""
    begun = b"["
    part: list[Any] | None = first
    while part is not None:
        if part:
            yield begun + json.dumps(part, separators=(",", ":")).encode()[1:-1]
            begun = b","
        part = await anext(parts, None)
    yield b"]\n" if begun == b"," else b"[]\n"
