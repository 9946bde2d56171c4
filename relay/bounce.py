"""Failed recipients become one delivery status notification (RFC 3464, in the multipart/report of RFC 6522). Pure.

Three parts: what a person reads, ``message/delivery-status`` for programs, and the header of the original
(``message/global-…`` where addresses need UTF-8, RFC 6533).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final

from relay.mail import Envelope, Message, Recipient
from relay.outcome import Outcome

_HEADER_END: Final = re.compile(rb"\r\n\r\n")
_WIDTH: Final = 900
"""Octets of one line of ours at the most; RFC 5322 §2.1.1 allows 998."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One recipient that failed, why, and at which ``relay`` ("name[address]:port" or "none")."""

    recipient: Recipient
    outcome: Outcome
    relay: str


def wants_bounce(envelope: Envelope, recipient: Recipient) -> bool:
    """Whether a failure is told: never for a null reverse-path (RFC 5321 §4.5.5), nor where NOTIFY leaves out FAILURE
    (RFC 3461 §4.1).
    """
    if not envelope.sender:
        return False
    notify = recipient.notify
    return notify is None or "FAILURE" in notify.upper().split(",")


def bounce(
    message: Message, original: bytes, failures: Sequence[Failure], *, reporter: str, bounce_id: str, now: float
) -> tuple[bytes, str]:
    """The notification's octets, CR LF ended, and its Message-ID.

    ``original`` begins with the original's header; ``reporter`` is our host name, ``now`` Unix seconds.
    """
    boundary = f"{bounce_id}.{int(now)}/{reporter}"
    message_id = f"<{bounce_id}.{int(now)}@{reporter}>"
    eightbit = message.envelope.smtputf8
    status_type, header_type = (
        ("message/global-delivery-status", "message/global-headers")
        if eightbit
        else ("message/delivery-status", "text/rfc822-headers")
    )
    head = [
        f"Date: {formatdate(now, localtime=True)}",
        f"From: Mail Delivery System <MAILER-DAEMON@{reporter}>",
        "Subject: Undelivered Mail Returned to Sender",
        f"To: {message.envelope.sender}",
        f"Message-ID: {message_id}",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="{boundary}"',
        *(["Content-Transfer-Encoding: 8bit"] if eightbit else []),
    ]
    people = [
        f"This is the mail relay at host {reporter}.",
        "",
        "Your message could not be relayed to the recipients below. It is not tried again.",
        "",
        *(_folded(f"<{f.recipient.address}>: {f.outcome.detail}") for f in failures),
    ]
    programs = [
        f"Reporting-MTA: dns; {reporter}",
        *([f"Original-Envelope-Id: {message.envelope.envid}"] if message.envelope.envid else []),
        f"X-Relay-Queue-ID: {message.queue_id}",
        f"Arrival-Date: {formatdate(message.arrived, localtime=True)}",
    ]
    for failure in failures:
        programs += ["", *_fields(failure, eightbit=eightbit)]
    parts = [
        _part("text/plain; charset=utf-8", "Notification", people),
        _part(status_type, "Delivery report", programs),
    ]
    header = _header(original)
    closing = f"\r\n--{boundary}--\r\n"
    body = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts)
    last = f"--{boundary}\r\nContent-Description: Undelivered Message Headers\r\nContent-Type: {header_type}\r\n"
    if not header.isascii():
        last += "Content-Transfer-Encoding: 8bit\r\n"
    text = "\r\n".join(head) + "\r\n\r\n" + body + last + "\r\n"
    return text.encode() + header + closing.encode(), message_id


def _fields(failure: Failure, *, eightbit: bool) -> list[str]:
    recipient, outcome = failure.recipient, failure.outcome
    kind = "utf-8" if eightbit and not recipient.address.isascii() else "rfc822"
    fields = [f"Original-Recipient: {recipient.orcpt}"] if recipient.orcpt else []
    fields += [
        f"Final-Recipient: {kind}; {recipient.address}",
        "Action: failed",
        f"Status: {outcome.dsn}",
    ]
    host = failure.relay.partition("[")[2].partition("]")[0]
    if outcome.reply is not None and host:
        fields.append(f"Remote-MTA: dns; {host}")
    # RFC 3464 §2.3.6: the reply as it was given, where one was.
    said = f"smtp; {outcome.reply}" if outcome.reply is not None else f"X-Relay; {outcome.detail}"
    fields.append(f"Diagnostic-Code: {_ascii(said)}")
    return [_folded(field) for field in fields]


def _part(kind: str, description: str, lines: Sequence[str]) -> str:
    text = "\r\n".join(lines)
    encoding = "" if text.isascii() else "Content-Transfer-Encoding: 8bit\r\n"
    return f"Content-Description: {description}\r\nContent-Type: {kind}\r\n{encoding}\r\n{text}\r\n"


def _folded(line: str) -> str:
    """One line of any length as lines that a mail may hold, continued by a space."""
    pieces = [line[start : start + _WIDTH // 4] for start in range(0, len(line), _WIDTH // 4)]
    return "\r\n ".join(pieces)


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def _header(original: bytes) -> bytes:
    """The header fields of the original, without the empty line; cut at a line's end where it is longer than given."""
    found = _HEADER_END.search(original)
    if found is not None:
        return original[: found.start() + 2]
    end = original.rfind(b"\r\n")
    return original[: end + 2] if end != -1 else b""
