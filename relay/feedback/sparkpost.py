"""Bounces and complaints as SparkPost tells them (its API documentation, Webhooks and Event Samples)."""

from __future__ import annotations

import hmac
import json
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final

from relay.feedback import Feedback, Said, Unbelievable, is_hard, line_of
from relay.feedback.arf import address_in
from relay.settings import FeedbackSettings

TOKEN_FIELD: Final = "x-messagesystems-webhook-token"  # noqa: S105 - the name of a header field
BATCH_FIELD: Final = "x-messagesystems-batch-id"
EVENTS_MOST: Final = 10_000
"""Events of one batch; documented are up to some thousand."""
_NEVER: Final = frozenset({"10", "30", "90"})
"""Bounce classes that are hard: invalid recipient, no RCPT, unsubscribed."""


def is_believed(settings: FeedbackSettings, fields: Mapping[str, str]) -> bool:
    """Whether a request with these header fields (names in lower case) bears the secret that was agreed on."""
    given = fields.get("authorization", "")
    scheme, _, credentials = given.partition(" ")
    if settings.token is not None:
        tokens = [fields.get(TOKEN_FIELD, ""), credentials.strip() if scheme.lower() == "bearer" else ""]
        if any(_same(each, settings.token.value) for each in tokens):
            return True
    if settings.username is None or settings.password is None or scheme.lower() != "basic":
        return False
    try:
        known = b64decode(credentials.strip(), validate=True).decode()
    except ValueError:
        return False
    return _same(known, f"{settings.username}:{settings.password.value}")


def read_events(text: str, provider: str = "sparkpost") -> list[Feedback]:
    """What a batch of events says; ``provider`` says who reports. Raises Unbelievable where it is no such batch."""
    try:
        batch = json.loads(text)
    except (ValueError, RecursionError):
        raise Unbelievable("a batch that is no JSON") from None
    if not isinstance(batch, list) or len(batch) > EVENTS_MOST:
        raise Unbelievable(f"a batch that is no list of up to {EVENTS_MOST} events")
    return [said for each in batch if (said := _said(each, provider)) is not None]


def _said(entry: Any, provider: str) -> Feedback | None:
    body = entry.get("msys") if isinstance(entry, dict) else None
    if not isinstance(body, dict):
        raise Unbelievable("an event without msys")
    event = body.get("message_event")
    if not isinstance(event, dict):
        return None  # the ping that tries a new webhook, or an event of another family
    recipient = address_in(event.get("raw_rcpt_to") or event.get("rcpt_to"))
    kind, sender = event.get("type"), address_in(event.get("friendly_from"))
    if not recipient:
        return None
    if kind == "spam_complaint":
        detail = f"complaint {line_of(event.get('fbtype') or 'abuse')}, {line_of(event.get('report_by') or '')}"
        return Feedback(Said.COMPLAINT, recipient, provider, sender, detail=detail.removesuffix(", "))
    if kind in {"bounce", "out_of_band"}:
        words = line_of(event.get("raw_reason") or event.get("reason") or "")
        # The reply's own status, where it has one: "550 5.1.1 …".
        status = next((word for word in words.split()[:3] if is_hard(word)), "")
        hard = bool(status) or str(event.get("bounce_class")) in _NEVER
        detail = line_of(f"bounce of class {event.get('bounce_class')}: {words}")
        return Feedback(Said.BOUNCE, recipient, provider, sender, hard=hard, detail=detail)
    return None


def _same(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), known.encode("utf-8", "surrogateescape"))
