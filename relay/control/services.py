"""What operators ask of a relay, running or not: the same services behind the control socket and offline.

Answers are plain values that JSON can carry. Where delivery runs, what it holds in memory counts as the spool's:
leased mail that is in no session is waiting, and is given back first where a command changes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from relay.clock import Clock
from relay.control import brakes, records, suppressing
from relay.control.errors import Exit, Refused
from relay.control.records import Record
from relay.control.selection import STATES, Selection, selection
from relay.control.views import Bouncer, DeliveryView, Forecaster, UpstreamView
from relay.control.waiting import WaitingMail
from relay.mail import queue_number
from relay.spool import QueuedMessage, Selector, Spool, Story

SLICE: Final = 500
"""Messages that are listed or changed in one go: a large queue never stands in memory, others get their turn."""

COUNTED_AT_MOST: Final = 10_000
"""Deferred messages of one upstream that are counted one by one."""

_NOT_RUNNING: Final = "the relay is not running"


class Services:
    """The services over one spool; ``delivery`` is None where no relay runs.

    ``upstreams`` names what to show in the status where no delivery can say; ``accepted`` counts messages since the
    start. Any service may raise
    :class:`~relay.spool.SpoolError`; what can't be done raises :class:`~relay.control.errors.Refused`.
    """

    def __init__(
        self,
        spool: Spool,
        clock: Clock,
        delivery: DeliveryView | None = None,
        *,
        upstreams: Sequence[str] = (),
        forecaster: Forecaster | None = None,
        accepted: Callable[[], int] = int,
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._delivery = delivery
        self._upstreams = tuple(upstreams)
        self._forecaster = forecaster
        self._accepted = accepted
        self._waiting_mail = None if delivery is None else WaitingMail(spool, clock, delivery)

    # -- looking ----------------------------------------------------------------------------------------------------
    async def status(self) -> Record:
        """``relay status --json``."""
        now = self._clock.now()
        totals = await self._spool.totals()
        queue = await self._queue(now)
        oldest = await self._spool.oldest()
        views = self._views()
        preferred = (self._delivery.preferred() if self._delivery else None) or next(iter(views), None)
        waiting = await self._waiting(queue["waiting"], preferred)
        deferred = await self._deferred(tuple(views), preferred, queue["deferred"], now)
        return {
            "upstreams": {
                name: {
                    "state": view.state,
                    "connections": view.connections,
                    "in_flight": view.in_flight,
                    "waiting": waiting[name],
                    "deferred": deferred[name],
                    "limits": [records.limit(limit) for limit in view.limits],
                    "sent_total": totals.sent.get(name, 0),
                    "rate": round(view.rate, 3),
                    "last_error": view.last_error,
                    "learned": None if view.learned is None else records.learned(view.learned),
                }
                for name, view in views.items()
            },
            "queue": queue,
            "accepted_total": self._accepted(),
            "oldest_seconds": 0 if oldest is None else max(0, round(now - oldest)),
        }

    async def count(self, arguments: Mapping[str, Any]) -> dict[str, int]:
        """``relay queue count --json``: open messages by state, of those that ``arguments`` select."""
        now = self._clock.now()
        chosen = selection(arguments, now)
        if not chosen.named:
            return await self._queue(now)
        counted = Counter(dict.fromkeys(STATES, 0))
        async for found in self._pages(chosen, now):
            counted.update(records.queued(message, now, self._running())["state"] for message in found)
        return dict(counted)

    async def listing(self, arguments: Mapping[str, Any]) -> AsyncIterator[list[Record]]:
        """``relay queue list --json``, slice by slice, oldest first."""
        now = self._clock.now()
        async for found in self._pages(selection(arguments, now), now):
            yield [records.queued(message, now, self._running()) for message in found]

    async def trace(self, text: str) -> list[Record]:
        """The stories of the messages with that queue id or, where there is none, that Message-ID."""
        now = self._clock.now()
        number = queue_number(text)
        stories = await self._stories(() if number is None else (number,))
        bare = text.strip().removeprefix("<").removesuffix(">")
        for message_id in (f"<{bare}>", bare):
            if not stories:
                stories = await self._stories(await self._spool.numbers_of(message_id))
        return [records.story(told, now, self._running(), self._waits_for(told, now)) for told in stories]

    async def plan(self, arguments: Mapping[str, Any]) -> Record:
        """``relay plan --json``."""
        from relay.control.planning import Planning

        if self._forecaster is None:
            raise Refused("nothing is known of the upstreams", Exit.UNAVAILABLE)
        unsettled = 0 if self._delivery is None else self._delivery.unsettled()
        planning = Planning(self._spool, self._clock, self._forecaster)
        return await planning.plan(arguments, len(self._in_flight()), unsettled)

    async def brakes(self) -> list[Record]:
        """What the brake has stopped."""
        return await brakes.listing(self._spool, self._delivery)

    async def unbrake(self, arguments: Mapping[str, Any]) -> Record:
        """Let it go again."""
        return await brakes.release(self._spool, self._delivery, self._clock, arguments)

    def suppressions(self, arguments: Mapping[str, Any]) -> AsyncIterator[list[Record]]:
        """``relay suppress list --json``, slice by slice."""
        return suppressing.listing(self._spool, self._clock, arguments)

    async def suppress(self, arguments: Mapping[str, Any]) -> Record:
        """Addresses get no mail."""
        return await suppressing.suppress(self._spool, self._delivery, self._clock, arguments)

    async def unsuppress(self, arguments: Mapping[str, Any]) -> Record:
        """They get mail again."""
        return await suppressing.unsuppress(self._spool, self._delivery, self._clock, arguments)

    async def feedback(self, arguments: Mapping[str, Any]) -> Record:
        """What is said of mail that was relayed."""
        return await suppressing.heard(self._delivery, arguments)

    # -- changing ---------------------------------------------------------------------------------------------------
    async def hold(self, arguments: Mapping[str, Any]) -> Record:
        """Waiting and deferred recipients of the chosen messages are kept from delivery until they are released."""
        return await self._change(arguments, self._spool.hold, withdraw=True)

    async def release(self, arguments: Mapping[str, Any]) -> Record:
        """Held recipients of the chosen messages are due now."""
        return await self._change(arguments, lambda n: self._spool.release(n, self._clock.now()))

    async def retry(self, arguments: Mapping[str, Any]) -> Record:
        """Deferred recipients of the chosen messages are due now."""
        return await self._change(arguments, lambda n: self._spool.retry(n, self._clock.now()))

    async def remove(self, arguments: Mapping[str, Any]) -> Record:
        """The chosen messages go without notification to their senders."""
        return await self._change(
            arguments,
            lambda n: self._spool.remove(n, self._clock.now()),
            withdraw=True,
        )

    async def bounce(self, arguments: Mapping[str, Any]) -> Record:
        """The chosen messages are failed with notification to their senders; only a running relay can."""
        delivery: object = self._delivery
        if not isinstance(delivery, Bouncer):
            raise Refused("messages are bounced by a running relay, which this is not", Exit.UNAVAILABLE)
        return await self._change(arguments, delivery.bounce, withdraw=True)

    async def _change(
        self,
        arguments: Mapping[str, Any],
        act: Callable[[Sequence[int]], Awaitable[int]],
        *,
        withdraw: bool = False,
    ) -> Record:
        """Apply ``act`` to what ``arguments`` select, after ``withdraw``-ing it from delivery, which leases nothing
        meanwhile.
        """
        now = self._clock.now()
        chosen = selection(arguments, now)
        if not chosen.named:
            raise Refused("name the messages, by id or by what they have in common, or say all of them")
        if withdraw and self._delivery is None:
            # Leases of a relay that ended: nobody else gives them back while it is down.
            await self._spool.rescue(now)
        if self._delivery is not None:
            self._delivery.pause()
        try:
            return await self._change_each(chosen, now, act, withdraw=withdraw)
        finally:
            if self._delivery is not None:
                self._delivery.resume()

    async def _change_each(
        self, chosen: Selection, now: float, act: Callable[[Sequence[int]], Awaitable[int]], *, withdraw: bool
    ) -> Record:
        changed = 0
        busy: set[int] = set()
        async for found in self._pages(chosen, now):
            numbers = [message.message.number for message in found]
            if withdraw and self._delivery is not None:
                await self._delivery.withdraw(numbers)
                busy |= self._in_flight() & frozenset(numbers)
            changed += await act(numbers)
        return {"changed": changed, "in_flight": len(busy)}

    # -- reading ----------------------------------------------------------------------------------------------------
    async def _pages(self, chosen: Selection, now: float) -> AsyncIterator[list[QueuedMessage]]:
        """What is chosen, oldest first, a slice at a time."""
        left, selector = chosen.limit, chosen.selector
        while left is None or left > 0:
            found = await self._find(selector, now, SLICE if left is None else min(SLICE, left))
            if not found:
                return
            yield found
            if left is not None:
                left -= len(found)
            selector = replace(selector, after=found[-1].message.number)

    async def _stories(self, numbers: Sequence[int]) -> list[Story]:
        return [told for number in numbers if (told := await self._spool.story(number)) is not None]

    async def _find(self, selector: Selector, now: float, most: int) -> list[QueuedMessage]:
        """Find by the state that operators see: what is leased but in no session is waiting."""
        if selector.state not in {"waiting", "leased"}:
            return await self._spool.find(selector, now, most)
        in_flight = self._in_flight()
        leased = await self._spool.find(replace(selector, state="leased"), now, None)
        if selector.state == "leased":
            return [m for m in leased if m.message.number in in_flight][:most]
        claimed = [m for m in leased if m.message.number not in in_flight]
        waiting = await self._spool.find(selector, now, most)
        return sorted(claimed + waiting, key=lambda m: m.message.number)[:most]

    async def _queue(self, now: float) -> dict[str, int]:
        counts = await self._spool.counts(now)
        leased = min(counts.get("leased", 0), len(self._in_flight()))
        return {
            "waiting": counts.get("waiting", 0) + counts.get("leased", 0) - leased,
            "leased": leased,
            "deferred": counts.get("deferred", 0),
            "held": counts.get("held", 0),
        }

    async def _waiting(self, total: int, preferred: str | None) -> Mapping[str, int]:
        if self._waiting_mail is not None:
            return await self._waiting_mail.by_upstream(total, preferred)
        return Counter() if preferred is None else Counter({preferred: total})

    async def _deferred(self, names: Sequence[str], preferred: str | None, total: int, now: float) -> Counter[str]:
        """Deferred messages by the upstream that deferred them; the preferred one has what no other has."""
        counted: Counter[str] = Counter()
        for name in names:
            if name != preferred and total:
                selector = Selector(upstream=name, state="deferred")
                counted[name] = len(await self._spool.find(selector, now, COUNTED_AT_MOST))
        if preferred is not None:
            counted[preferred] = max(0, total - counted.total())
        return counted

    def _views(self) -> Mapping[str, UpstreamView]:
        if self._delivery is not None:
            return self._delivery.upstreams()
        return {name: UpstreamView(state="down", last_error=_NOT_RUNNING) for name in self._upstreams}

    def _in_flight(self) -> frozenset[int]:
        return frozenset() if self._delivery is None else self._delivery.in_flight()

    def _running(self) -> frozenset[int] | None:
        """What is in a session now; None where no relay runs."""
        return None if self._delivery is None else self._delivery.in_flight()

    def _waits_for(self, told: Story, now: float) -> str | None:
        number = told.queued.message.number
        active = number in self._in_flight()
        recipients = [(r, records.recipient_state(r, now, in_flight=active)) for r in told.queued.recipients]
        state = records.message_state([s for _, s in recipients])
        if state == "leased":
            return "the upstream's reply"
        if state == "held":
            return _decision([r.last_reply for r in told.queued.recipients if r.state == "held"])
        if state not in {"waiting", "deferred"}:
            return None
        if self._delivery is None:
            in_doubt = any(map(records.is_in_doubt, told.queued.recipients))
            return f"the relay's start: {records.LEFT_IN_DOUBT}" if in_doubt else "the relay's start"
        if state == "deferred":
            return "its next attempt"
        return self._delivery.waits_for(number) or "its turn"


def _decision(reasons: Sequence[str | None]) -> str:
    """What an operator has to decide of held mail, as the words of its last attempt tell."""
    if any((reason or "").startswith("in doubt") for reason in reasons):
        return "an operator's decision: it may have arrived (relay queue release sends it again, remove ends it)"
    if any((reason or "").startswith("dead letter") for reason in reasons):
        return "an operator's decision: a notification that can't be delivered (relay queue release or remove)"
    return "its release: an operator holds it"
