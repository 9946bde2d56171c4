"""One notification as a message: the multipart/report of RFC 6522 with its three parts. Pure.

What a person reads, what programs read, and what was sent: its header, or all of it where the application asked with
RET=FULL, it failed and is not large.
"""

from __future__ import annotations

import re
import textwrap
from binascii import b2a_qp
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from relay.bounce.fields import RecipientReport, date, delivery_status, folded
from relay.events import Notification
from relay.mail import Body, Message

RETURNED_AT_MOST: Final = 50_000
"""Octets of a message that is returned whole (Postfix's bounce_size_limit); of a larger one just the header."""
_HEADER_AT_MOST: Final = 65_536
"""Octets in which the end of the original's header is looked for."""
_HEADER_END: Final = re.compile(rb"\r\n\r\n")
_MESSAGE_ID: Final = re.compile(r"<[!-;=?-~]{1,900}>")
_COLUMNS: Final = 76

_SUBJECTS: Final = {
    Notification.FAILURE: "Undelivered Mail Returned to Sender",
    Notification.DELAY: "Delayed Mail (still being retried)",
    Notification.SUCCESS: "Successful Mail Delivery Report",
}


@dataclass(frozen=True, slots=True)
class Written:
    """A notification: its octets, CR LF ended, its Message-ID, and what its envelope has to declare."""

    octets: bytes
    message_id: str
    body: Body
    smtputf8: bool


def write(
    kind: Notification,
    message: Message,
    original: bytes,
    reports: Sequence[RecipientReport],
    *,
    reporter: str,
    queue_id: str,
    now: float,
    until: float | None = None,
) -> Written:
    """Write the notification ``queue_id`` of what became of ``message`` for the recipients in ``reports``.

    ``original`` holds the first octets of the original, or all; ``reporter`` is our host name; ``now`` and ``until``,
    when trying ends, are Unix seconds.
    """
    wide = message.envelope.smtputf8
    boundary = f"{queue_id}.{int(now)}/{reporter}"
    message_id = f"<{queue_id}.{int(now)}@{reporter}>"
    people = _people(kind, message, reports, reporter=reporter, until=until)
    programs = delivery_status(kind, message, reports, reporter=reporter, wide=wide, until=until)
    returned, body = _returned(kind, message, original)
    parts = [
        _part("text/plain; charset=utf-8", "Notification", people, wide=wide),
        _part(f"message/{'global-' if wide else ''}delivery-status", "Delivery report", programs, wide=wide),
        returned,
    ]
    eight_bit = body is Body.EIGHT_BIT or not all(part.isascii() for part in parts)
    head = [
        f"Date: {date(now)}",
        f"From: Mail Delivery System <MAILER-DAEMON@{reporter}>",
        f"Subject: {_SUBJECTS[kind]}",
        f"To: {message.envelope.sender}",
        f"Message-ID: {message_id}",
    ]
    if _MESSAGE_ID.fullmatch(message.message_id):
        # RFC 3834 §3.1.5: a reply of a program refers to what it replies to, as a person's does.
        head += [f"In-Reply-To: {message.message_id}", f"References: {message.message_id}"]
    head += [
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="{boundary}"',
        *(["Content-Transfer-Encoding: 8bit"] if eight_bit else []),
        "",
        "",
    ]
    octets = "\r\n".join(head).encode()
    for part in parts:
        octets += f"--{boundary}\r\n".encode() + part + b"\r\n"
    octets += f"--{boundary}--\r\n".encode()
    return Written(octets, message_id, Body.EIGHT_BIT if wide and eight_bit else body, wide)


def _people(
    kind: Notification, message: Message, reports: Sequence[RecipientReport], *, reporter: str, until: float | None
) -> str:
    lines = [f"This is the mail relay at host {reporter}.", ""]
    doubtful = [report for report in reports if kind is Notification.FAILURE and report.outcome.in_doubt]
    sure = [report for report in reports if report not in doubtful]
    if sure:
        lines += [*_wrapped(_what(kind, message, until)), "", *_reasons(sure)]
    if doubtful:
        what = (
            "It is not known whether your message reached the recipients below: all of it was sent, and no answer came."
            " It may have arrived. It is not tried again."
        )
        lines += [*([""] if sure else []), *_wrapped(what), "", *_reasons(doubtful)]
    return "\r\n".join(lines)


def _what(kind: Notification, message: Message, until: float | None) -> str:
    if kind is Notification.FAILURE:
        return "Your message could not be relayed to the recipients below. It is not tried again."
    if kind is Notification.DELAY:
        end = f" until {date(until)}" if until is not None else ""
        return (
            "THIS IS A WARNING ONLY. YOU NEED NOT SEND YOUR MESSAGE AGAIN. Since"
            f" {date(message.arrived)} it could not be relayed to the recipients below. It is tried again{end}."
        )
    return (
        "Your message was relayed to the recipients below, to a server that does not notify of delivery. If it fails"
        " there, that server tells; if it arrives, nothing more is said."
    )


def _reasons(reports: Sequence[RecipientReport]) -> list[str]:
    return [line for r in reports for line in _wrapped(f"<{r.recipient.address}>: {r.outcome.detail}", indent="    ")]


def _wrapped(text: str, indent: str = "") -> list[str]:
    lines = textwrap.wrap(text, _COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return [folded(line) for line in lines]


def _part(kind: str, description: str, lines: str | Sequence[str], *, wide: bool) -> bytes:
    """A part of words of ours: as it is where that is ASCII or UTF-8 is welcome, else quoted-printable."""
    octets = (lines if isinstance(lines, str) else "\r\n".join(lines)).encode()
    encoding = ""
    if not octets.isascii():
        encoding = f"Content-Transfer-Encoding: {'8bit' if wide else 'quoted-printable'}\r\n"
        octets = octets if wide else b2a_qp(octets)
    return f"Content-Description: {description}\r\nContent-Type: {kind}\r\n{encoding}\r\n".encode() + octets + b"\r\n"


def _returned(kind: Notification, message: Message, original: bytes) -> tuple[bytes, Body]:
    """The third part, and what the notification's envelope must declare for its sake.

    RFC 3461 §4.3: RET is about failures; of what was only delayed or relayed the header is enough.
    """
    envelope = message.envelope
    whole = kind is Notification.FAILURE and (envelope.ret or "").upper() == "FULL" and message.size <= RETURNED_AT_MOST
    if whole and len(original) == message.size:
        # A message/… part may not be encoded (RFC 2046 §5.2.1): it goes as the original came.
        encoding = "" if original.isascii() else "Content-Transfer-Encoding: 8bit\r\n"
        of = "message/global" if envelope.smtputf8 else "message/rfc822"
        head = f"Content-Description: Undelivered Message\r\nContent-Type: {of}\r\n{encoding}\r\n"
        return head.encode() + original, envelope.body
    header, encoding = _header(original[:_HEADER_AT_MOST]), ""
    if not header.isascii():
        encoding = f"Content-Transfer-Encoding: {'8bit' if envelope.smtputf8 else 'quoted-printable'}\r\n"
        header = header if envelope.smtputf8 else b2a_qp(header)
    undelivered = "Undelivered " if kind is Notification.FAILURE else ""
    of = "message/global-headers" if envelope.smtputf8 else "text/rfc822-headers"
    head = f"Content-Description: {undelivered}Message Headers\r\nContent-Type: {of}\r\n{encoding}\r\n"
    return head.encode() + header, Body.SEVEN_BIT


def _header(original: bytes) -> bytes:
    """The header fields of the original, without the empty line; cut at a line's end where it is longer than given."""
    found = _HEADER_END.search(original)
    if found is not None:
        return original[: found.start() + 2]
    end = original.rfind(b"\r\n")
    return original[: end + 2] if end != -1 else b""
