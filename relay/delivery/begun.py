"""Content begun: the spool knows before it leaves where a lost answer must not lead to another try, and what an ended
process left so is in doubt (docs/outcomes.md). Upstreams with ``in_doubt = "retry"`` pay nothing for it. And the last
look at a message's own deadline, X-Relay-Not-After.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from relay.clock import Clock
from relay.delivery.doubt import HOLD, RETRY, killed
from relay.delivery.items import Item
from relay.delivery.lane import Lane
from relay.delivery.settle import Attempt, Ended
from relay.mail import Message
from relay.settings import InDoubt
from relay.spool import Claimed, Spool
from relay.upstream import ContentWithheld, Upstream


def before_content(
    spool: Spool, clock: Clock, message: Message, upstream: Upstream, policy: InDoubt
) -> Callable[[], Awaitable[None]] | None:
    """What a session awaits before the first octet of content leaves for ``upstream``."""
    begin = None
    if policy != RETRY:
        whom = [recipient.n for recipient in message.envelope.recipients]
        begin = partial(spool.begin, message.number, whom, upstream.destination)
    if message.not_after is None:
        return begin
    return partial(_in_time, clock, message.not_after, begin)


async def _in_time(clock: Clock, not_after: float, begin: Callable[[], Awaitable[None]] | None) -> None:
    """Withhold what is void by now. The commit may take its time, so it comes first: the next lease clears the mark."""
    if begin is not None:
        await begin()
    if clock.now() >= not_after:
        raise ContentWithheld("its deadline passed before the content")


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
