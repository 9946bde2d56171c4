"""Whether a failed try costs a message anything, and whom an outcome tells of. Pure."""

from __future__ import annotations

from typing import Final

from relay.outcome import Outcome, Scope, Trouble, Verdict

_OWN: Final = frozenset({Scope.RECIPIENT, Scope.MESSAGE})


def is_own(outcome: Outcome) -> bool:
    """Whether it is a recipient's or a message's own, by the server's word."""
    return outcome.scope in _OWN and not outcome.in_doubt


def judges_content(outcome: Outcome) -> bool:
    """Whether the server has looked at the message, as it would not where it refuses us."""
    return outcome.scope is Scope.MESSAGE and outcome.reply is not None


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
