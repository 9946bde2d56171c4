"""Whether a failed try costs a message anything. Pure."""

from __future__ import annotations

from relay.outcome import Outcome, Scope, Verdict


def costs_nothing(outcome: Outcome) -> bool:
    """Whether it was the session's or the upstream's trouble alone."""
    return (
        outcome.verdict is Verdict.DEFERRED
        and outcome.scope in (Scope.SESSION, Scope.UPSTREAM)
        and not outcome.in_doubt
    )


def broke(outcome: Outcome) -> bool:
    """Whether a session broke under the message, other than by a polite 421."""
    return outcome.scope is Scope.SESSION and (outcome.reply is None or outcome.reply.code != 421)
