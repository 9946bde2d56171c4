"""What the log is told of an upstream: that it can't be used, why and until when, and that it can be again.

Once for each pause, not for each message that waits for it: nothing was attempted for these.
"""

from __future__ import annotations

from relay.delivery.lane import Lane
from relay.events import Notice
from relay.outcome import Outcome


def of_trouble(at: float, lane: Lane, outcome: Outcome) -> Notice:
    """An upstream is down, paused or crowded; a warning where somebody may have to do something about it."""
    passes = outcome.trouble is not None and outcome.trouble.passes
    return Notice(at, "smtp", f"upstream {lane.name} is {lane.condition}: {outcome.detail}", warning=not passes)


def of_recovery(at: float, lane: Lane) -> Notice:
    """It takes mail again."""
    return Notice(at, "smtp", f"upstream {lane.name} is {lane.condition} again")
