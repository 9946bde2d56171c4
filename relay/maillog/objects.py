"""How an event is spelled as JSON: one object a line, the same events as the text format (docs/operations.md).

Pure. Keys are the events' field names in snake_case; a golden file in the tests keeps them stable. Everything outside
ASCII is escaped, so that no reader, terminal or editor sees a line end or a control character where there is none; an
octet that is no UTF-8 becomes "?". Texts are cut as in the text format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Final, get_args

from relay.events import Event
from relay.maillog.grammar import TEXT_SHOWN

_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))
_CAPITAL: Final = re.compile(r"(?<!^)(?=[A-Z])")
_PHASES: Final = ("before_queue", "in_queue", "connection", "transmission")
"""Postfix's a/b/c/d."""
_NAMES: Final[dict[type, str]] = {of: _CAPITAL.sub("_", of.__name__).lower() for of in get_args(Event)}
_KEYS: Final[dict[type, tuple[str, ...]]] = {
    of: tuple(field.name for field in fields(of) if field.name not in {"at", "warning"}) for of in get_args(Event)
}


class Objects:
    """Spells events for one machine and process. ``hostname`` is cut to its first label as in the text format."""

    def __init__(self, hostname: str, pid: int) -> None:
        self._origin = {"host": hostname.partition(".")[0] or "localhost", "pid": pid}

    def lines(self, event: Event) -> str:
        """The line of ``event``."""
        told = facts(event)
        head = {"time": instant(event.at), "event": name_of(event), "level": level(event)}
        return _ENCODER.encode(head | self._origin | told) + "\n"


def instant(at: float) -> str:
    """``at`` (Unix seconds) as ISO 8601 with milliseconds, in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def level(event: Event) -> str:
    """How urgent it is: "warning" for what somebody should look at, else "info"."""
    return "warning" if getattr(event, "warning", False) else "info"


def name_of(event: Event) -> str:
    """``event``: what kind of event it is."""
    return _NAMES[type(event)]


def facts(event: Event) -> dict[str, Any]:
    """What ``event`` tells beside its time and name, by key."""
    told: dict[str, Any] = {}
    for key in _KEYS[type(event)]:
        value = getattr(event, key)
        if key == "client":
            told |= _client(value)
        elif key == "commands":
            counted = ((verb.lower(), accepted, given) for verb, accepted, given in value if given)
            told[key] = {verb: {"accepted": accepted, "given": given} for verb, accepted, given in counted}
        elif key == "delays":
            told["delay"] = round(sum(value), 3)
            told[key] = {phase: round(seconds, 3) for phase, seconds in zip(_PHASES, value, strict=True)}
        else:
            told[key] = _plain(value)
    return told


def _client(client: str | None) -> Mapping[str, str | None]:
    """``name[address]`` in its two parts."""
    name, bracket, address = (client or "").partition("[")
    return {
        "client_name": _text(name) or None,
        "client_address": _text(address.removesuffix("]")) if bracket else None,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _text(text: str) -> str:
    text = text[:TEXT_SHOWN]
    return text if text.isascii() else text.encode(errors="replace").decode()
