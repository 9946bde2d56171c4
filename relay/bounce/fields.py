"""The part of a notification that programs read: ``message/delivery-status`` (RFC 3464 §2), and in UTF-8
``message/global-delivery-status`` (RFC 6533 §3). Pure.

What the application gave in xtext (RFC 3461 §4) is decoded, unless that would put a line end or anything else that
can't be printed into a field.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final

from relay.events import Notification
from relay.mail import Message, Recipient
from relay.outcome import Outcome

_HEXCHAR: Final = re.compile(r"\+([0-9A-F]{2})")
_WIDTH: Final = 900
"""Octets of one line of ours at the most; RFC 5322 §2.1.1 allows 998."""
_ACTIONS: Final = {
    Notification.FAILURE: "failed",
    Notification.DELAY: "delayed",
    # RFC 3464 §2.3.3: taken by a system that does not notify of success.
    Notification.SUCCESS: "relayed",
}


@dataclass(frozen=True, slots=True)
class RecipientReport:
    """One recipient's fate: the outcome of its last attempt, at which ``relay`` ("name[address]:port" or "none") and
    when (Unix seconds; None: it was never attempted).
    """

    recipient: Recipient
    outcome: Outcome
    relay: str
    at: float | None


def delivery_status(
    kind: Notification,
    message: Message,
    reports: Sequence[RecipientReport],
    *,
    reporter: str,
    wide: bool,
    until: float | None,
) -> list[str]:
    """The lines. ``wide``: UTF-8 may be used. ``until`` is when trying ends (Unix seconds), for a delay."""
    lines = [f"Reporting-MTA: dns; {reporter}"]
    if message.envelope.envid:
        lines.append(f"Original-Envelope-Id: {_decoded(message.envelope.envid, wide=False)}")
    lines += [f"X-Relay-Queue-ID: {message.queue_id}", f"Arrival-Date: {date(message.arrived)}"]
    for report in reports:
        lines += ["", *_recipient(kind, report, wide=wide)]
        if kind is Notification.DELAY and until is not None:
            lines.append(f"Will-Retry-Until: {date(until)}")
    return lines


def folded(line: str) -> str:
    """One line of any length as lines that a mail may hold, continued by a space."""
    width = _WIDTH if line.isascii() else _WIDTH // 4
    return "\r\n ".join(line[start : start + width] for start in range(0, max(1, len(line)), width))


def date(at: float) -> str:
    """Unix seconds as RFC 5322 §3.3 writes them, in local time."""
    return formatdate(at, localtime=True)


def _recipient(kind: Notification, report: RecipientReport, *, wide: bool) -> list[str]:
    recipient, outcome = report.recipient, report.outcome
    fields = []
    if recipient.orcpt:
        # RFC 6533 §3: UTF-8 stays encoded where it may not stand.
        address_type, _, address = recipient.orcpt.partition(";")
        fields.append(f"Original-Recipient: {address_type}; {_decoded(address, wide=wide)}")
    address_type = "rfc822" if recipient.address.isascii() else "utf-8"
    fields += [
        f"Final-Recipient: {address_type}; {recipient.address}",
        f"Action: {_ACTIONS[kind]}",
        f"Status: {outcome.dsn}",
    ]
    host = report.relay.partition("[")[2].rpartition("]")[0]
    if host:
        fields.append(f"Remote-MTA: dns; {_literal(host)}")
    # RFC 3464 §2.3.6: the reply as it was given, where one was; else in words of our own.
    said = f"smtp; {outcome.reply}" if outcome.reply is not None else f"X-Relay; {outcome.detail}"
    fields.append(f"Diagnostic-Code: {said if wide else said.encode('ascii', 'replace').decode()}")
    if report.at is not None:
        fields.append(f"Last-Attempt-Date: {date(report.at)}")
    return [folded(field) for field in fields]


def _decoded(xtext: str, *, wide: bool) -> str:
    decoded = _HEXCHAR.sub(lambda found: chr(int(found[1], 16)), xtext)
    return decoded if decoded.isprintable() and (wide or decoded.isascii()) else xtext


def _literal(host: str) -> str:
    """RFC 5321 §4.1.3: an address as a literal, a name as it is."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"
