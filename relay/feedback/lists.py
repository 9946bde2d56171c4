"""Suppression lists as other systems give them out: one address a line, CSV, or SES' own JSON. Pure.

Understood are the files of SES (``aws sesv2 list-suppressed-destinations``), SparkPost, SendGrid, Mailgun, Postmark and
of hand: a CSV's first line names its columns.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any, Final

from relay.feedback import line_of
from relay.suppression import Cause
from relay.value import dataclass

_ADDRESS: Final = ("address", "email", "recipient", "emailaddress", "email address")
_REASON: Final = ("reason", "type", "source", "error", "cause", "description")
_SES: Final = "SuppressedDestinationSummaries"


@dataclass(frozen=True, slots=True)
class Listed:
    """One address of a list, why it is on it as far as the list tells, and in its words."""

    address: str
    cause: Cause
    detail: str


class NoList(ValueError):
    """What was given is no list; the text says why."""


def read_list(text: str) -> Iterator[Listed]:
    """The addresses of a list, in its order; empty lines and lines that begin with "#" are none. Raises NoList."""
    text = text.removeprefix("\N{BYTE ORDER MARK}")
    if text.lstrip().startswith(("{", "[")):
        yield from _of_ses(text)
        return
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines or "," not in lines[0]:
        yield from (Listed(line.strip(), Cause.OPERATOR, "imported") for line in lines)
        return
    try:
        rows = iter(list(csv.reader(lines)))
    except csv.Error as error:  # a field of more than 128 KB
        raise NoList(f"no CSV: {error}") from None
    head = [name.strip().lower() for name in next(rows)]
    address = next((head.index(name) for name in _ADDRESS if name in head), None)
    if address is None:
        raise NoList(f"no column named {', '.join(_ADDRESS)} in the first line")
    reasons = [head.index(name) for name in _REASON if name in head]
    for row in rows:
        if len(row) > address and row[address].strip():
            words = [row[n].strip() for n in reasons if n < len(row) and row[n].strip()]
            yield Listed(row[address].strip(), _cause(" ".join(words)), line_of("; ".join(words) or "imported"))


def _of_ses(text: str) -> Iterator[Listed]:
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise NoList("no JSON") from None
    summaries = document.get(_SES) if isinstance(document, dict) else document
    if not isinstance(summaries, list):
        raise NoList(f"no {_SES} in it")
    for each in summaries:
        address = each.get("EmailAddress") if isinstance(each, dict) else None
        if not isinstance(address, str) or not address.strip():
            raise NoList("an entry without EmailAddress")
        reason = line_of(each.get("Reason") or "imported")
        yield Listed(address.strip(), _cause(reason), reason)


def _cause(words: str) -> Cause:
    words = words.lower()
    if "complain" in words or "spam" in words:
        return Cause.COMPLAINT
    return Cause.BOUNCE if "bounce" in words or "invalid" in words else Cause.OPERATOR
