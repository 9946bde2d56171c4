"""``relay plan``: how fast mail leaves, when the backlog is gone and what holds it up, from where things stand now.

The rehearsal of delivery is on the loop that serves mail, a millisecond at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from relay.backlog import Dues
from relay.clock import Clock
from relay.control.errors import Refused
from relay.control.records import Record, iso
from relay.control.views import Forecaster
from relay.delivery.estimate import Batch, Estimate, Outlook, Rehearsal, Steps, Way, speeds
from relay.delivery.rehearsal import Rehearsed, Standing, warmed_up
from relay.settings import Warmup
from relay.spool import Selector, Spool

GRAIN: Final = 5.0
"""Seconds to which due times are rounded up."""
MOST_AHEAD: Final = 10**9
EXAMPLES: Final = 500
"""Messages that are read at a time to know the ways of what waits."""
MOST_EXAMPLES: Final = 5000


class Planning:
    """Estimates over one spool."""

    def __init__(self, spool: Spool, clock: Clock, forecaster: Forecaster) -> None:
        self._spool = spool
        self._clock = clock
        self._forecaster = forecaster

    async def plan(self, arguments: Mapping[str, Any], in_flight: int, unsettled: int = 0) -> Record:
        """``relay plan --json``; ``messages`` of the arguments is how many more to reckon with. ``in_flight`` are in a
        session now, and ``unsettled`` have their outcomes, which the spool does not know of yet.
        """
        ahead = _ahead(arguments)
        now = self._clock.now()
        outlook = await self._forecaster.outlook()
        dues = await self._spool.dues(now, GRAIN)
        everything = replace(outlook, ways=(*outlook.ways, *(Way(f"={s.name}", (s.name,)) for s in outlook.standings)))
        batches = _without(await self._batches(dues, everything, now), in_flight + unsettled)
        messages = sum(each.messages for each in dues)
        recipients = sum(each.recipients for each in dues) / messages if messages else 1.0
        rehearsal = Rehearsal(
            everything, [*batches, Batch(ahead)], in_flight=in_flight, recipients=max(1.0, recipients)
        )
        await _in_turns(rehearsal.run())
        estimate = rehearsal.estimate
        alone = {
            standing.name: await _speeds(replace(outlook, standings=(standing,), ways=(Way("", (standing.name,)),)))
            for standing in outlook.standings
        }
        return {
            "at": iso(now),
            "messages": messages,
            "deferred": sum(batch.messages for batch in batches if batch.due_in > 0),
            "ahead": ahead,
            "upstreams": {
                s.name: _upstream(s, estimate.upstreams[s.name], alone[s.name], now) for s in outlook.standings
            },
            "together": _rounded(await _speeds(outlook)),
            **_end(estimate, now),
            "lifetime_seconds": outlook.lifetime,
        }

    async def _batches(self, dues: Sequence[Dues], outlook: Outlook, now: float) -> list[Batch]:
        ways = await self._ways(dues, outlook)
        # A row's time is in milliseconds, and so a little later than now at times.
        later = [each.due - now if each.due - now > GRAIN / 2 else 0.0 for each in dues]
        return [Batch(each.messages, due_in, ways.get(each.turn, 0)) for each, due_in in zip(dues, later, strict=True)]

    async def _ways(self, dues: Sequence[Dues], outlook: Outlook) -> dict[int, int]:
        """By turn the number of its way; where there is but one upstream all are the same."""
        if len(outlook.standings) < 2:
            return {}
        numbers = {way.name: number for number, way in reversed(list(enumerate(outlook.ways)))}
        examples = dict(list({each.example: each.turn for each in dues}.items())[:MOST_EXAMPLES])
        asked = list(examples)
        found: dict[int, int] = {}
        for start in range(0, len(asked), EXAMPLES):
            selector = Selector(numbers=tuple(asked[start : start + EXAMPLES]))
            for queued in await self._spool.find(selector, self._clock.now()):
                name = self._forecaster.way(queued.message)
                found[examples[queued.message.number]] = numbers.get(name, 0)
        return found


def _ahead(arguments: Mapping[str, Any]) -> int:
    unknown = arguments.keys() - {"messages"}
    if unknown:
        raise Refused(f"unknown argument: {', '.join(sorted(map(str, unknown)))}")
    ahead = arguments.get("messages", 0)
    if not isinstance(ahead, int) or isinstance(ahead, bool) or not 0 <= ahead <= MOST_AHEAD:
        raise Refused(f"messages is a number up to {MOST_AHEAD}")
    return ahead


def _without(batches: Sequence[Batch], in_flight: int) -> list[Batch]:
    """What is in a session already waits for its reply alone, or for nothing."""
    rest = []
    for batch in batches:
        gone = min(in_flight, batch.messages) if batch.due_in <= 0 else 0
        in_flight -= gone
        rest.append(replace(batch, messages=batch.messages - gone))
    return [batch for batch in rest if batch.messages]


async def _in_turns(steps: Steps) -> None:
    for _ in steps:
        await asyncio.sleep(0)


async def _speeds(outlook: Outlook) -> dict[str, float]:
    found: dict[str, float] = {}
    await _in_turns(speeds(outlook, found))
    return found


def _upstream(standing: Standing, rehearsed: Rehearsed, found: Mapping[str, float], now: float) -> Record:
    binding = rehearsed.binding
    return {
        "state": standing.state,
        "speed": _rounded(found),
        "messages": rehearsed.sent,
        "bound_by": None if binding is None else {"kind": binding[0], "what": binding[1]},
        "connections": standing.connections,
        "seconds_per_message": round(standing.busy, 6),
        "latency_seconds": round(standing.latency, 6),
        "measured": standing.measured,
        "warmup": None if standing.warmup is None else _calendar(standing.warmup, standing.held, now),
    }


def _calendar(warmup: Warmup, held: int, now: float) -> list[Record]:
    """What it grows to within a week."""
    today = datetime.fromtimestamp(now).astimezone().date()
    days = [today + timedelta(days=ahead) for ahead in range(7)]
    return [
        {"day": day.isoformat(), "messages": warmed_up(warmup, max(0, (day - warmup.start).days) - held)}
        for day in days
    ]


def _end(estimate: Estimate, now: float) -> Record:
    seconds = estimate.clears_in
    held = [(name, binding) for name, each in estimate.upstreams.items() if (binding := each.binding) is not None]
    # Of two that are bound all the time the first in the file's order.
    bound = max(held, key=lambda each: estimate.upstreams[each[0]].held[each[1]], default=None)
    return {
        "clears_in_seconds": None if seconds is None else round(seconds, 3),
        "clears_at": None if seconds is None else iso(now + seconds),
        "bound_by": None if bound is None else {"upstream": bound[0], "kind": bound[1][0], "what": bound[1][1]},
    }


def _rounded(found: Mapping[str, float]) -> Record:
    return {period: round(speed, 3) for period, speed in found.items()}
