"""Content begun: the spool knows before it leaves where a lost answer must not lead to another try, and what an ended
process left so is in doubt (docs/outcomes.md). Upstreams with ``in_doubt = "retry"`` pay nothing for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from relay.delivery.doubt import HOLD, RETRY, killed
from relay.delivery.items import Item
from relay.delivery.lane import Lane
from relay.delivery.settle import Attempt, Ended
from relay.mail import Message
from relay.settings import InDoubt
from relay.spool import Claimed, Spool


def before_content(spool: Spool, message: Message, where: str, policy: InDoubt) -> Callable[[], Awaitable[None]] | None:
    """What a session awaits before the first octet of content leaves for ``where`` ("name[host]:port")."""
    if policy == RETRY:
        return None
    return partial(spool.begin, message.number, [r.n for r in message.envelope.recipients], where)


async def left_in_doubt(spool: Spool, leased: Callable[[Claimed], Item], lanes: Sequence[Lane]) -> list[Ended]:
    """What a process that was killed had begun, each as an attempt in doubt under today's policy of its upstream; held
    where there is no such upstream any more.
    """
    policies = {lane.name: lane.limits.in_doubt for lane in lanes}
    ended = []
    for each in await spool.begun():
        item = leased(each.claimed)
        outcome = killed(each.where.rpartition(":")[0])
        upstream = each.where.partition("[")[0]
        attempt = Attempt(upstream, each.where, 1, (item.waited, 0.0, 0.0, 0.0), policies.get(upstream, HOLD))
        ended.append(Ended(item, [outcome] * len(item.message.envelope.recipients), attempt))
    return ended
