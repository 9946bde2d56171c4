"""Which messages a command means: the arguments of a request, checked, as the spool's Selector."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from relay.control.errors import Refused
from relay.mail import queue_number
from relay.spool import Selector

STATES: Final = ("waiting", "leased", "deferred", "held")
DEAD: Final = "dead"
"""Chooses among what is held: notifications that could not be delivered."""

_TEXTS: Final = ("sender", "recipient", "domain", "upstream")


@dataclass(frozen=True, slots=True)
class Selection:
    """A selector, whether anything was named at all, and at most how many messages (None: all)."""

    selector: Selector
    named: bool
    limit: int | None = None


def selection(arguments: Mapping[str, Any], now: float) -> Selection:
    """Read ``ids, sender, recipient, domain, upstream, state, older_than`` (seconds), ``all`` and ``limit``.

    Raises :class:`Refused` for what is unknown, malformed or contradictory.
    """
    unknown = arguments.keys() - {"ids", *_TEXTS, "state", "older_than", "all", "limit"}
    if unknown:
        raise Refused(f"unknown argument: {', '.join(sorted(map(str, unknown)))}")
    numbers = _numbers(arguments.get("ids", ()))
    texts = {key: _text(key, arguments.get(key)) for key in _TEXTS}
    state = _text("state", arguments.get("state"))
    if state is not None and state not in {*STATES, DEAD}:
        raise Refused(f"no state {state!r}; allowed: {', '.join(STATES)}, {DEAD}")
    older_than = arguments.get("older_than")
    if older_than is not None and not (_is_number(older_than) and math.isfinite(older_than) and older_than >= 0):
        raise Refused("older_than is a number of seconds")
    everything = arguments.get("all", False)
    if not isinstance(everything, bool):
        raise Refused("all is true or false")
    conditions = bool(numbers or state or older_than is not None or any(texts.values()))
    if everything and conditions:
        raise Refused("either all messages or chosen ones")
    limit = arguments.get("limit")
    if limit is not None and not (isinstance(limit, int) and not isinstance(limit, bool) and limit > 0):
        raise Refused("limit is a positive number of messages")
    before = None if older_than is None else now - older_than
    selector = replace(
        Selector(numbers, state=state, arrived_before=before, everything=not conditions),
        **texts,  # type: ignore[arg-type]
    )
    return Selection(selector, everything or conditions, limit)


def _numbers(ids: object) -> tuple[int, ...]:
    if not isinstance(ids, (list, tuple)):
        raise Refused("ids is a list of queue ids")
    numbers = []
    for text in ids:
        number = queue_number(text) if isinstance(text, str) else None
        if number is None:
            raise Refused(f"not a queue id: {text!r}")
        numbers.append(number)
    return tuple(dict.fromkeys(numbers))


def _text(key: str, value: object) -> str | None:
    if value is None:
        return None
    # The null reverse-path is a sender too, so "" can be asked for.
    if not isinstance(value, str):
        raise Refused(f"{key} is a text")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
