"""How answers are spelled, and how bodies are read: within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from json import JSONDecodeError
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from relay.http.neighbours import Unanswered

_JSON: Final = "application/json"
OBJECT_MOST: Final = 1024 * 1024
"""Octets of a request's JSON object that is no message: as on the control socket."""


def refusal(status: int, why: str, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    """An error, as a JSON object."""
    return JSONResponse({"error": why, **more}, status, headers)


def is_json(request: Request) -> bool:
    """Whether the body says that it is JSON: a form of another page can't."""
    return media_type(request) == _JSON


def media_type(request: Request) -> str:
    """The body's media type in lower case, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, most: int) -> bytes:
    """All of the body. Raises Unanswered (413) where it is larger than ``most`` octets."""
    check_length(request, most)
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > most:
            raise too_large(most)
        pieces.append(piece)
    return b"".join(pieces)


def check_length(request: Request, most: int) -> None:
    """Refuse by what the head says, before the body is asked for. Raises Unanswered (413)."""
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said[:20]) > most:
        raise too_large(most)


def too_large(most: int) -> Unanswered:
    """The body is."""
    return Unanswered(413, f"the body is larger than {most} octets")


async def read_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object; none is an empty one. Raises Unanswered (400, 413, 415)."""
    body = await read_body(request, OBJECT_MOST)
    if not body:
        return {}
    if not is_json(request):
        raise Unanswered(415, f"the body is to be {_JSON}")
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise Unanswered(400, "the body is no JSON") from None
    if not isinstance(found, dict):
        raise Unanswered(400, "the body is no JSON object")
    return found
