"""Bounces and complaints as Amazon SES tells them, by notification or event.

By the SES Developer Guide: contents of Amazon SNS notifications, and of the event data that SES publishes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from relay.feedback import Feedback, Said, Unbelievable, is_hard, line_of
from relay.feedback.arf import address_in, our_id

_NEVER: Final = frozenset({"NoEmail", "Suppressed", "OnAccountSuppressionList", "UnsubscribedRecipient"})
"""Kinds of permanent bounces that are about the address; "General" may be about the message: there its status tells."""


def read_notification(text: str, provider: str = "ses") -> list[Feedback]:
    """What a notification says, one of each recipient; none where it is of deliveries, openings and the like.

    ``provider`` says who reports. Raises Unbelievable where it is none of SES.
    """
    try:
        notification = json.loads(text)
    except (ValueError, RecursionError):
        raise Unbelievable("a notification that is no JSON") from None
    if not isinstance(notification, dict):
        raise Unbelievable("a notification that is no object")
    kind = notification.get("notificationType") or notification.get("eventType")
    if not isinstance(kind, str):
        raise Unbelievable("a notification without its type")
    mail = _table(notification.get("mail"))
    about = address_in(mail.get("source")), our_id(list(_received(mail)))
    if kind == "Bounce":
        return list(_bounces(_table(notification.get("bounce")), provider, about))
    if kind == "Complaint":
        return list(_complaints(_table(notification.get("complaint")), provider, about))
    return []


def _bounces(bounce: dict[str, Any], provider: str, about: tuple[str, str]) -> Iterator[Feedback]:
    kind, part = bounce.get("bounceType"), bounce.get("bounceSubType")
    for recipient, table in _recipients(bounce.get("bouncedRecipients")):
        status = line_of(table.get("status") or "")
        words = line_of(table.get("diagnosticCode") or status)
        hard = kind == "Permanent" and (is_hard(status) or part in _NEVER)
        detail = line_of(f"bounce {kind}/{part}" + (f": {words}" if words else ""))
        yield Feedback(Said.BOUNCE, recipient, provider, *about, hard=hard, detail=detail)


def _complaints(complaint: dict[str, Any], provider: str, about: tuple[str, str]) -> Iterator[Feedback]:
    kind = line_of(complaint.get("complaintFeedbackType") or complaint.get("complaintSubType") or "of no known kind")
    agent = line_of(complaint.get("userAgent") or "")
    for recipient, _ in _recipients(complaint.get("complainedRecipients")):
        detail = f"complaint {kind}" + (f", {agent}" if agent else "")
        yield Feedback(Said.COMPLAINT, recipient, provider, *about, detail=detail)


def _recipients(listed: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in listed if isinstance(listed, list) else []:
        table = _table(each)
        address = address_in(table.get("emailAddress"))
        if address:
            yield address, table


def _received(mail: dict[str, Any]) -> Iterator[str]:
    headers = mail.get("headers")
    for each in headers if isinstance(headers, list) else []:
        field = _table(each)
        if str(field.get("name")).lower() == "received":
            yield str(field.get("value"))


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
