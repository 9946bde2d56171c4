"""Mail in doubt (RFC 1047): all of it was sent and nobody answered, so it may have arrived. What follows, by policy.

"retry" tries it again, and it may arrive twice. "hold" keeps it until an operator decides, "fail" tells the sender; for
these two the spool knows before the first octet of content leaves that it is about to, so that the policy also holds
where the relay itself was killed before the answer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from relay.outcome import Outcome, Verdict, lost
from relay.settings import InDoubt

RETRY: Final[InDoubt] = "retry"
HOLD: Final[InDoubt] = "hold"
FAIL: Final[InDoubt] = "fail"


def decided(outcome: Outcome, policy: InDoubt) -> Outcome:
    """The outcome after the policy of the upstream; one that isn't in doubt as it was."""
    if not outcome.in_doubt or policy == RETRY:
        return outcome
    if policy == HOLD:
        return replace(outcome, detail=f"{outcome.detail}; held until relay queue release or remove")
    # RFC 3463 §3.5: X.4.2 is of use as a transient error only; X.4.0 is the network's trouble without more detail.
    detail = f"{outcome.detail}; it may have arrived and is not tried again"
    return replace(outcome, verdict=Verdict.FAILED, dsn="5.4.0", detail=detail)


def is_held(outcome: Outcome, policy: InDoubt) -> bool:
    """Whether an operator is to decide."""
    return outcome.in_doubt and policy == HOLD


def killed(where: str) -> Outcome:
    """The relay ended by force while the content was on its way to ``where``."""
    return lost("the relay ended in the transaction", host=where, in_doubt=True)
