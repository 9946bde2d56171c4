"""The spool's values as the JSON that commands print (contract, "Commands"): stable keys, times in ISO 8601, UTC.

Pure. Two things are translated: a *deferred* recipient is a waiting one whose time lies ahead, and mail that is leased
but in no session yet is still *waiting* for those who look at it.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, Final

from relay.control.views import LearnedView, LimitView
from relay.mail import RecipientState
from relay.spool import AttemptRecord, QueuedMessage, QueuedRecipient, Story

Record = dict[str, Any]
"""A JSON object."""

LEFT_IN_DOUBT: Final = "in doubt, settled at the next start"
_FIRST_THAT_APPLIES = ("leased", "waiting", "deferred", "held", "failed", "relayed", "suppressed")


def iso(at: float) -> str:
    """Unix seconds as ISO 8601 with milliseconds, in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def recipient_state(recipient: QueuedRecipient, now: float, *, in_flight: bool) -> str:
    """One of waiting, leased, deferred, held, relayed, failed, suppressed."""
    if recipient.state == RecipientState.LEASED and not in_flight:
        return RecipientState.WAITING
    if recipient.state == RecipientState.WAITING and recipient.due is not None and recipient.due > now:
        return "deferred"
    return recipient.state


def message_state(states: Collection[str]) -> str:
    """The first of leased, waiting, deferred, held, failed, relayed, suppressed that applies."""
    return next(state for state in _FIRST_THAT_APPLIES if state in states)


def queued(message: QueuedMessage, now: float, in_flight: frozenset[int] | None) -> Record:
    """A message as ``relay queue list --json`` has it; ``in_flight`` is None where no relay runs."""
    active = message.message.number in (in_flight or ())
    recipients = [_recipient(r, recipient_state(r, now, in_flight=active)) for r in message.recipients]
    if in_flight is None:
        for recipient, shown in zip(message.recipients, recipients, strict=True):
            if is_in_doubt(recipient):
                shown["last_reply"] = LEFT_IN_DOUBT
    return {
        "id": message.message.queue_id,
        "arrived": iso(message.message.arrived),
        "size": message.message.size,
        "sender": message.message.envelope.sender,
        "state": message_state([r["state"] for r in recipients]),
        "recipients": recipients,
    }


def is_in_doubt(recipient: QueuedRecipient) -> bool:
    """Whether a process that ended left it so; to be asked while none runs."""
    return recipient.begun and recipient.state == RecipientState.LEASED


def story(told: Story, now: float, in_flight: frozenset[int] | None, waits_for: str | None) -> Record:
    """A message with all its attempts, as ``relay trace --json`` has it."""
    message = told.queued.message
    return {
        **queued(told.queued, now, in_flight),
        "message_id": message.message_id,
        "client": message.client or None,
        "attempts": [_attempt(a) for a in sorted(told.attempts, key=lambda a: a.at)],
        "repeated": told.repeated,
        "last_repeated": None if told.last_repeated is None else iso(told.last_repeated),
        "waits_for": waits_for,
    }


def learned(view: LearnedView) -> Record:
    """What an upstream bears, as ``relay status --json`` has it."""
    rate = None if view.rate is None else round(view.rate, 3)
    return {"rate": rate, "connections": view.connections, "since": iso(view.since), "reason": view.reason}


def limit(view: LimitView) -> Record:
    """One limit of an upstream as ``relay status --json`` has it."""
    return {"limit": view.limit, "used": view.used, "left": view.left, "resets_at": iso(view.resets_at)}


def _recipient(recipient: QueuedRecipient, state: str) -> Record:
    due = recipient.due if state in {"waiting", "deferred"} else None
    return {
        "address": recipient.address,
        "state": state,
        "attempts": recipient.attempts,
        "next_attempt": None if due is None else iso(due),
        "upstream": recipient.upstream or None,
        "last_reply": recipient.last_reply or None,
    }


def _attempt(attempt: AttemptRecord) -> Record:
    return {
        "at": iso(attempt.at),
        "recipient": attempt.address,
        "upstream": attempt.upstream or None,
        "relay": attempt.relay,
        "status": attempt.status,
        "dsn": attempt.dsn,
        "detail": attempt.detail,
        "delays": attempt.delays,
    }
