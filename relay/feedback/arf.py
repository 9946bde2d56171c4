"""Abuse reports in the Abuse Reporting Format (RFC 5965), as mailbox providers send them to whom they have in a loop.

Read is what comes from outside and may be hostile: a report is bounded in size and parts, and nothing in it is followed
or rendered.
"""

from __future__ import annotations

import re
from email import policy
from email.message import Message
from email.parser import BytesParser
from email.utils import parseaddr
from typing import Final

from relay.feedback import Feedback, Said, Unbelievable, line_of

REPORT_MOST: Final = 1_000_000
"""Octets of a report: the original may be all in it."""
ADDRESS_MOST: Final = 320
"""Characters of an address (RFC 5321 §4.5.3.1): 64 of a local part, 255 of a domain."""
FIELD_MOST: Final = 2000
"""Characters of a field that an address is looked for in."""
_PARTS_MOST: Final = 20
_OURS: Final = re.compile(r"\bby \S+ \(relay\) with \S+ id ([0-9A-F]{6,15})\b")
"""Our own Received field (relay/headers/trace.py)."""
_COMPLAINTS: Final = frozenset({"abuse", "fraud", "virus", "other"})
"""RFC 5965 §7.3. What else there is says that mail was welcome (RFC 6430), or is about authentication (RFC 6591)."""


def read_report(octets: bytes, provider: str = "arf") -> list[Feedback]:
    """What a report says, one of each recipient that it names; none where it is no complaint. ``provider`` says who
    reports. Raises Unbelievable where it is no such report.
    """
    if len(octets) > REPORT_MOST:
        raise Unbelievable(f"a report of more than {REPORT_MOST} octets")
    try:
        report = BytesParser(policy=policy.compat32).parsebytes(octets)
    except (ValueError, RecursionError, LookupError) as error:
        raise Unbelievable(f"no message: {type(error).__name__}") from None
    if report.get_content_type() != "multipart/report":
        raise Unbelievable(f"no report but {line_of(report.get_content_type())}")
    fields = original = None
    for n, part in enumerate(report.walk()):
        if n > _PARTS_MOST:
            raise Unbelievable("a report of too many parts")
        kind = part.get_content_type()
        if kind == "message/feedback-report" and fields is None:
            fields = _inner(part)
        elif kind in {"message/rfc822", "text/rfc822-headers"} and original is None:
            original = _inner(part)
    if fields is None:
        raise Unbelievable("no feedback-report in it")
    return _said(fields, original, provider)


def our_id(received: list[str]) -> str:
    """Our queue id in the Received fields of a message; "" where none of them is ours."""
    for field in received:
        found = _OURS.search(" ".join(field.split()))
        if found is not None:
            return found[1]
    return ""


def address_in(text: object) -> str:
    """The address of ``<a@b>`` or ``Name <a@b>`` or ``a@b``; "" where there is none."""
    given = str(text or "")
    if len(given) > FIELD_MOST:
        return ""
    try:
        address = parseaddr(given)[1]
    except RecursionError:  # comments within comments
        return ""
    local, _, domain = address.rpartition("@")
    plain = address.isprintable() and " " not in address and len(address) <= ADDRESS_MOST
    return address if local and domain and plain else ""


def _said(fields: Message, original: Message | None, provider: str) -> list[Feedback]:
    kind = str(fields.get("Feedback-Type", "")).strip().lower()
    if not kind:
        raise Unbelievable("a feedback-report without Feedback-Type")
    if kind not in _COMPLAINTS:
        return []
    original = Message() if original is None else original
    sender = address_in(fields.get("Original-Mail-From")) or address_in(original.get("From"))
    named = [address_in(each) for each in fields.get_all("Original-Rcpt-To", [])]
    # Where the provider hides it, our own envelope may stand in the original's To.
    recipients = [each for each in dict.fromkeys(named) if each] or [address_in(original.get("To"))]
    queue_id = our_id([str(each) for each in original.get_all("Received", [])])
    by = line_of(fields.get("User-Agent") or fields.get("Reporting-MTA") or "")
    detail = f"feedback-type {line_of(kind)}" + (f", {by}" if by else "")
    return [
        Feedback(Said.COMPLAINT, each, provider, sender=sender, queue_id=queue_id, detail=detail)
        for each in recipients
        if each
    ]


def _inner(part: Message) -> Message:
    """The fields that a part holds: the parser has read those of message/*, text is still to be read."""
    payload = part.get_payload()
    if isinstance(payload, list) and payload and isinstance(payload[0], Message):
        return payload[0]
    text = part.get_payload(decode=True)
    return BytesParser(policy=policy.compat32).parsebytes(text if isinstance(text, bytes) else b"", headersonly=True)
