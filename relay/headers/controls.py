"""What an application asks of the relay in the header of a message; these fields are taken out before it is kept.

``X-Relay-Priority: urgent|normal|bulk``, ``X-Relay-Upstream: NAME``, ``X-Relay-Tag: NAME``, ``X-Relay-Not-After:`` with
a date of RFC 5322 §3.3, and ``Idempotency-Key:`` (draft-ietf-httpapi-idempotency-key-header), whose value is kept as it
was given. Names and priorities in any case. A field that can't be obeyed is refused rather than passed over: mail that
was to be void after a date, or to take one way only, must not go out otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from relay.headers.dates import parse_date_time
from relay.mail import Priority
from relay.outcome import Reply

PRIORITY: Final = b"x-relay-priority"
UPSTREAM: Final = b"x-relay-upstream"
TAG: Final = b"x-relay-tag"
NOT_AFTER: Final = b"x-relay-not-after"
IDEMPOTENCY_KEY: Final = b"idempotency-key"

CONTROL_FIELDS: Final = (PRIORITY, UPSTREAM, TAG, NOT_AFTER, IDEMPOTENCY_KEY)
"""The fields' names in lower case."""

# The configuration's rule for the names of its tables.
_UPSTREAM_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Printable ASCII, white space inside at the most.
_TAG: Final = re.compile(r"(?=.{1,128}\Z)[!-~]++(?: ++[!-~]++)*+")
_KEY: Final = re.compile(r"(?=.{1,255}\Z)[!-~]++(?: ++[!-~]++)*+")
_PRIORITIES: Final = frozenset(Priority)


@dataclass(frozen=True, slots=True)
class Controls:
    """What was asked for; None: nothing. ``not_after`` is in Unix seconds. Whether the upstream exists is not known
    here.
    """

    priority: Priority | None = None
    upstream: str | None = None
    tag: str | None = None
    not_after: float | None = None
    idempotency_key: str | None = None


NO_CONTROLS: Final = Controls()


def read_controls(fields: Iterable[tuple[bytes, bytes]]) -> Controls | Reply:
    """Understand fields given as names in lower case and unfolded values, or refuse the message (550 5.6.0).

    A field may be repeated with the same value. Never raises.
    """
    given: dict[bytes, str] = {}
    for name, value in fields:
        # What isn't ASCII fits no rule below.
        text = value.decode("ascii", "replace")
        if given.setdefault(name, text) != text:
            return _refused(name, "given twice")
    priority = given[PRIORITY].lower() if PRIORITY in given else None
    if priority is not None and priority not in _PRIORITIES:
        return _refused(PRIORITY, "takes urgent, normal or bulk")
    for name, rule in ((UPSTREAM, _UPSTREAM_NAME), (TAG, _TAG), (IDEMPOTENCY_KEY, _KEY)):
        if name in given and rule.fullmatch(given[name]) is None:
            return _refused(name, "has a bad value")
    not_after = None
    if NOT_AFTER in given:
        not_after = parse_date_time(given[NOT_AFTER])
        if not_after is None:
            return _refused(NOT_AFTER, "takes a date as in RFC 5322")
    return Controls(
        None if priority is None else Priority(priority),
        given.get(UPSTREAM),
        given.get(TAG),
        not_after,
        given.get(IDEMPOTENCY_KEY),
    )


def _refused(name: bytes, why: str) -> Reply:
    """The value isn't repeated: it is foreign text."""
    return Reply(550, f"Error: {name.decode().title()} {why}", "5.6.0")
