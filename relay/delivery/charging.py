"""Whether a failed try costs a message anything. Pure."""

from __future__ import annotations

from relay.outcome import Outcome, Scope, Trouble, Verdict


def costs_nothing(outcome: Outcome) -> bool:
    """Whether it was the session's or the upstream's trouble alone."""
    return (
        outcome.verdict is Verdict.DEFERRED
        and outcome.scope in (Scope.SESSION, Scope.UPSTREAM)
        and not outcome.in_doubt
    )


def broke(outcome: Outcome) -> bool:
    """Whether a session broke under the message, other than by a polite 421, or it went too fast: what alone is refused
    so again and again must not stand before all others for ever.
    """
    if outcome.trouble is Trouble.RATE:
        return True
    return outcome.scope is Scope.SESSION and (outcome.reply is None or outcome.reply.code != 421)
