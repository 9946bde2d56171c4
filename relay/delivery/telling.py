"""What the log is told of an upstream: that it can't be used, why and until when, and that it can be again.

Once for each pause, not for each message that waits for it: nothing was attempted for these. And what is changed in a
message for it.
"""

from __future__ import annotations

from relay.delivery.items import Item
from relay.delivery.lane import Lane
from relay.delivery.senders import Leaving
from relay.events import Notice
from relay.outcome import Outcome


def of_trouble(at: float, lane: Lane, outcome: Outcome) -> Notice:
    """An upstream is down, paused or crowded; a warning where somebody may have to do something about it."""
    passes = outcome.trouble is not None and outcome.trouble.passes
    return Notice(at, "smtp", f"upstream {lane.name} is {lane.condition}: {outcome.detail}", warning=not passes)


def of_recovery(at: float, lane: Lane) -> Notice:
    """It takes mail again."""
    return Notice(at, "smtp", f"upstream {lane.name} is {lane.condition} again")


def of_leaving(at: float, item: Item, leaving: Leaving) -> Notice:
    """A message leaves with other senders than it came with."""
    return Notice(at, "cleanup", f"{item.message.queue_id}: info: rewritten for {leaving.upstream}: {leaving.told}")
