"""The brake as operators see and release it: through a running delivery, else in the spool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relay.clock import Clock
from relay.control.errors import Refused
from relay.control.records import Record, iso
from relay.control.views import Brakes
from relay.lessons import Source
from relay.spool import Spool

_KINDS: Final = ("upstream", "sender", "tag")


async def listing(spool: Spool, delivery: object) -> list[Record]:
    """``relay brake list --json``: what is stopped, since when and why, the first one first."""
    standing = delivery.brakes() if isinstance(delivery, Brakes) else await spool.brakes()
    return [
        {"source": str(each.source), "since": iso(each.at), "reason": each.reason}
        for each in sorted(standing, key=lambda each: each.at)
    ]


async def release(spool: Spool, delivery: object, clock: Clock, arguments: Mapping[str, Any]) -> Record:
    """``relay brake release``: which sources go again, and how many messages were held for them.

    ``sources`` names them ("sender:news@example.com"); ``all`` means all that are stopped.
    """
    standing = delivery.brakes() if isinstance(delivery, Brakes) else await spool.brakes()
    stopped = {each.source for each in standing}
    named = arguments.get("sources", [])
    if arguments.get("all") is True:
        chosen = stopped
    elif isinstance(named, list) and named and all(isinstance(each, str) for each in named):
        chosen = {_source(each) for each in named}
    else:
        raise Refused("name what is to go again (relay brake list shows it), or say all")
    released = 0
    for source in sorted(chosen & stopped, key=str):
        if isinstance(delivery, Brakes):
            released += await delivery.release_brake(source) or 0
        else:
            released += await spool.unbrake(source, clock.now())
    return {"released": sorted(map(str, chosen & stopped)), "messages": released}


def _source(text: str) -> Source:
    kind, colon, name = text.partition(":")
    if kind not in _KINDS or not colon or not name:
        raise Refused(f"{text!r} is none of upstream:NAME, sender:ADDRESS and tag:NAME")
    return Source(kind, name.lower() if kind == "sender" else name)
