"""The engine: leased messages come in, go to upstreams' sessions as these have room, and end in the settler.

It is told of new mail (handed over in memory after its commit), reads back from the spool what did not fit, and wakes
when something falls due. Nothing polls. Trouble of a session or an upstream costs a message nothing: it goes to the
front again; only after several sessions broke under it is an attempt charged, lest it goes round for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from relay.clock import Clock
from relay.delivery.charging import broke, costs_nothing
from relay.delivery.items import Item, Window, weight
from relay.delivery.lane import Lane
from relay.delivery.pool import Place
from relay.delivery.ready import Ready
from relay.delivery.schedule import plan
from relay.delivery.settle import Attempt, Ended, Settler, returned
from relay.delivery.supply import Supply
from relay.events import Emit, Notice, Status
from relay.outcome import Outcome, Scope, Verdict, expired
from relay.settings import QueueSettings
from relay.spool import PART_SIZE, Arrival, Spool, SpoolError
from relay.upstream import DeliveryRequest, Finished

_log = logging.getLogger(__name__)
MAX_TRIES: Final = 5
"""Sessions that may break under a message before it is charged an attempt."""
LAST_RECORDS: Final = 2.0
"""Seconds that recording may take at the end, beyond the grace."""
_HERE: Final = Attempt("", "none", 1, (0.0, 0.0, 0.0, 0.0))


class Engine:
    """Owns the lanes of the default route, in its order. ``broken`` is told when the spool can't be trusted."""

    def __init__(
        self,
        spool: Spool,
        settings: QueueSettings,
        clock: Clock,
        emit: Emit,
        *,
        reporter: str,
        chance: Callable[[], float],
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self.lanes: list[Lane] = []
        self._retiring: list[Lane] = []
        self._ready = Ready()
        self._flying: dict[int, Item] = {}  # by the id() of its request
        self._window = Window()
        self._supply = Supply(spool, self._window, clock, emit, self._take)
        self._settler = Settler(spool, settings, clock, emit, self, reporter=reporter, chance=chance)
        self._tasks: list[asyncio.Task[None]] = []
        self._wake_timer: asyncio.TimerHandle | None = None
        self._wakes = 0.0
        self._look_again = 0.0
        self._stopping = False
        self._landed = asyncio.Event()

    def route(self, lanes: Sequence[Lane]) -> None:
        """Use these lanes in this order from now on; others end what they have in flight and go."""
        dropped = [lane for lane in self.lanes if lane not in lanes]
        self.lanes = list(lanes)
        self._retiring = [lane for lane in self._retiring if lane.connections] + dropped
        for lane in dropped:
            lane.retire()
        names = {lane.name for lane in lanes}
        for name in self._ready.by_lane.keys() - names:
            self._ready.add(self._ready.by_lane.pop(name), names)
        self._dispatch()

    async def start(self) -> None:
        """Rescue what an ended process had under lease, and begin."""
        rescued = await self._spool.rescue(self._clock.now())
        if rescued:
            self._emit(Notice(self._clock.now(), "qmgr", f"{rescued} recipients of an ended process made due"))
        self._tasks = [
            self._loop.create_task(self._settler.run(), name="settler"),
            self._loop.create_task(self._supply.run(), name="supply"),
        ]

    def supervise(self, failed: Callable[[BaseException], None]) -> None:
        """Have ``failed`` called should a task of ours ever end by an exception."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                failed(error)

        for task in self._tasks:
            task.add_done_callback(ended)

    def configure(self, settings: QueueSettings) -> None:
        """Take other queue settings from now on."""
        self._settler.settings = settings

    # -- what the listeners hand over -------------------------------------------------------------------------------
    def reserve(self, size: int) -> bool:
        """Take room in memory for a message of ``size`` octets, or say no: then it waits in the spool."""
        return not self._stopping and self._window.reserve(weight(size))

    def unreserve(self, size: int) -> None:
        """Give the room back: the message was not accepted."""
        self._window.free(weight(size))
        self._supply.room_grew()

    def handed_over(self, arrival: Arrival) -> None:
        """A message whose room was reserved is in the spool, leased by us."""
        message = arrival.message
        parts = max(1, -(-message.size // PART_SIZE))
        waited = max(0.0, self._clock.now() - message.arrived)
        nrcpt = len(message.envelope.recipients)
        octets = weight(message.size)
        self._take([Item(message, nrcpt, arrival.content, parts, self._loop.time(), waited, octets)])

    def waiting(self) -> None:
        """A message waits in the spool, due now."""
        self._supply.ring()

    def _take(self, items: Sequence[Item]) -> None:
        self._ready.add(items, [lane.name for lane in self.lanes])
        self._dispatch()

    # -- scheduling -------------------------------------------------------------------------------------------------
    def _dispatch(self) -> None:
        """Hand ready items to sessions as far as these have room."""
        if not self._ready or self._stopping or self._settler.stuck is not None:
            return
        now = self._loop.time()
        planned = plan([lane.circuit for lane in self.lanes], now)
        for index in planned.probe:
            self.lanes[index].probe()
        if planned.wake_at is not None:
            self._wake_at(planned.wake_at)
        if planned.use is None:
            self._expire_ready(now)
        elif self._ready.any:
            self._fill(self.lanes[planned.use], self._ready.any, now)
        if self._ready.by_lane:
            self._fill_others(now)

    def _fill_others(self, now: float) -> None:
        """What only some upstreams can have waits for these, be they down."""
        lanes = {lane.name: lane for lane in self.lanes}
        for name, queue in list(self._ready.by_lane.items()):
            lane = lanes[name]
            planned = plan([lane.circuit], now)
            if planned.use is not None:
                self._fill(lane, queue, now)
            elif planned.probe:
                lane.probe()
            elif planned.wake_at is not None:
                self._wake_at(planned.wake_at)
                self._expire_ready(now)
        self._ready.tidy()

    def _fill(self, lane: Lane, queue: deque[Item], now: float) -> None:
        behind = 0
        wall = self._clock.now()
        while queue:
            if self._is_expired(queue[0], wall):
                self._expire(queue.popleft())
                continue
            where = lane.place
            if where is Place.NOWHERE:
                break
            behind += where is Place.CHAINED
            item = queue.popleft()
            rest = item.split(lane.max_recipients)
            if rest is not None:
                queue.appendleft(rest)
            self._begin(lane, item, now)
        demand = behind + len(queue)
        if demand:
            lane.grow(demand)

    def _begin(self, lane: Lane, item: Item, now: float) -> None:
        read_part = None if item.content is not None else partial(self._spool.content, item.number)
        request = DeliveryRequest(item.message, item.content, item.parts, read_part)
        item.request = request
        item.begun = now
        self._flying[id(request)] = item
        try:
            lane.begin(request)
        except Exception:  # noqa: BLE001
            # A bug of ours must neither stop the others nor be tried in a loop: an attempt of this message.
            _log.exception("message %s can't be begun", item.message.queue_id)
            del self._flying[id(request)]
            item.request = None
            outcome = Outcome(Verdict.DEFERRED, Scope.MESSAGE, "4.3.0", "internal error")
            outcomes = (outcome,) * len(item.message.envelope.recipients)
            self._settle(item, outcomes, lane, Finished(request, outcomes, lane.upstream.destination))

    def _wake_at(self, when: float) -> None:
        timer = self._wake_timer
        if timer is not None and self._wakes <= when:
            return
        if timer is not None:
            timer.cancel()
        self._wakes = when  # uvloop gives a Handle without when() where the delay rounds to nothing
        self._wake_timer = self._loop.call_at(when, self._woken)

    def _woken(self) -> None:
        self._wake_timer = None  # a timer may fire a little early: it is set anew then
        self._dispatch()

    # -- LaneOwner --------------------------------------------------------------------------------------------------
    def finished(self, lane: Lane, finished: Finished) -> None:
        """A request has its outcomes: settle what is decided, put back what cost nothing."""
        item = self._flying.pop(id(finished.request))
        item.request = None
        outcomes = finished.outcomes
        if outcomes[0].unfit and (successor := self._successor(lane, item)) is not None:
            item.unfit |= {lane.name}
            self._ready.add_for(successor.name, item)
        else:
            self._conclude(lane, item, finished)
        if self._stopping:
            if not self._flying:
                self._landed.set()
        else:
            self._dispatch()

    def _conclude(self, lane: Lane, item: Item, finished: Finished) -> None:
        outcomes = finished.outcomes
        again = [n for n, outcome in enumerate(outcomes) if costs_nothing(outcome)]
        if not again or (item.tries >= MAX_TRIES and not self._stopping):
            self._settle(item, outcomes, lane, finished)
            return
        if len(again) < len(outcomes):
            kept = item.only([n for n in range(len(outcomes)) if n not in again])
            kept.octets = 0  # the part that goes on carries the weight
            self._settle(kept, [o for o in outcomes if not costs_nothing(o)], lane, finished)
            item = item.only(again)
        item.tries += any(broke(outcome) for outcome in outcomes)
        if lane in self.lanes:
            self._ready.put_back(item, lane.name)
        else:
            item.unfit = frozenset()  # the route is another one now
            self._take([item])

    def _successor(self, lane: Lane, item: Item) -> Lane | None:
        """The next upstream of the route that may have what ``lane`` can't; none where the application named this."""
        if item.message.upstream == lane.name:
            return None
        names = [each.name for each in self.lanes]
        behind = self.lanes[names.index(lane.name) + 1 :] if lane.name in names else []
        return next((each for each in behind if each.name not in item.unfit), None)

    def changed(self, lane: Lane) -> None:
        """A lane may take more, or less."""
        del lane
        self._dispatch()

    def trouble(self, lane: Lane, outcome: Outcome) -> None:
        """An upstream can't be used just now."""
        self._emit(
            Notice(self._clock.now(), "smtp", f"upstream {lane.name} is {lane.state}: {outcome.detail}", warning=True)
        )

    # -- endings ----------------------------------------------------------------------------------------------------
    def _settle(self, item: Item, outcomes: Sequence[Outcome], lane: Lane, finished: Finished) -> None:
        queued = max(0.0, item.begun - item.active - finished.setup)
        delays = (item.waited, queued, finished.setup, finished.transmission)
        self._settler.put(Ended(item, outcomes, Attempt(lane.name, finished.relay, finished.conn_use, delays)))

    def _is_expired(self, item: Item, now: float) -> bool:
        return now >= self._settler.expires(item.message)

    def _expire(self, item: Item) -> None:
        why = next((lane.last_error for lane in self.lanes if lane.last_error and not lane.circuit.closed), None)
        outcomes = [expired(recipient.last or why or "") for recipient in item.message.envelope.recipients]
        attempt = replace(_HERE, delays=(item.waited, self._loop.time() - item.active, 0.0, 0.0))
        self._settler.put(Ended(item, outcomes, attempt, Status.EXPIRED))

    def _expire_ready(self, at: float) -> None:
        """While everything is down lifetimes run on: looked at once a second at the most."""
        if at < self._look_again:
            return
        self._look_again = at + 1.0
        now = self._clock.now()
        for item in self._ready.without(lambda item: self._is_expired(item, now)):
            self._expire(item)
        nearest = min((self._settler.expires(item.message) for item in self._ready), default=None)
        if nearest is not None:
            self._wake_at(at + max(1.0, nearest - now))

    def committed(self, ended: Sequence[Ended], next_due: float | None) -> None:
        """These are recorded: their room is free, what was deferred falls due then."""
        for each in ended:
            if each.item.octets:
                self._window.free(each.item.octets)
        if next_due is not None:
            self._supply.due_at(next_due)
        self._supply.room_grew()
        self._dispatch()

    # -- operators --------------------------------------------------------------------------------------------------
    @property
    def preferred(self) -> Lane | None:
        """The lane that takes waiting mail now."""
        planned = plan([lane.circuit for lane in self.lanes], self._loop.time())
        return None if planned.use is None else self.lanes[planned.use]

    @property
    def in_flight(self) -> frozenset[int]:
        """Numbers of the messages in a session now."""
        return frozenset(item.number for item in self._flying.values())

    @property
    def claimed(self) -> frozenset[int]:
        """Numbers of the messages leased and not in a session."""
        return frozenset(item.number for item in self._ready)

    def pause(self) -> None:
        """Lease nothing from the spool until as many :meth:`resume`."""
        self._supply.pause()

    def resume(self) -> None:
        """Lease again what is due."""
        self._supply.resume()

    async def withdraw(self, numbers: frozenset[int]) -> None:
        """Give leased messages that are not in a session back to the spool, due now; to be done while paused."""
        await self._supply.quiet()
        taken = self._ready.without(lambda item: item.number in numbers)
        if taken:
            # Shielded: who asked may go away, but what was taken out must arrive somewhere.
            await asyncio.shield(self._loop.create_task(self._back_or_kept(taken)))

    async def _back_or_kept(self, items: list[Item]) -> None:
        try:
            await self._give_back(items)
        except SpoolError:
            self._take(items)  # still leased, still ours
            raise

    async def fail(self, numbers: Sequence[int], outcome: Outcome) -> int:
        """Fail what waits or is held of these messages, as an operator's decision, with a bounce; how many messages."""
        await self.withdraw(frozenset(numbers))
        return await asyncio.shield(self._loop.create_task(self._fail(numbers, outcome)))

    async def _fail(self, numbers: Sequence[int], outcome: Outcome) -> int:
        leased = await self._spool.lease(numbers)
        for each in leased:
            item = self._supply.leased(each)
            self._settler.put(Ended(item, [outcome] * len(item.message.envelope.recipients), _HERE))
        await self._settler.drained()
        return len(leased)

    async def _give_back(self, items: Sequence[Item]) -> None:
        now = self._clock.now()
        await self._spool.settle([returned(item, now) for item in items])
        for item in items:
            if item.octets:
                self._window.free(item.octets)

    # -- the end ----------------------------------------------------------------------------------------------------
    async def stop(self, grace: float) -> None:
        """Begin nothing more; wait up to ``grace`` seconds for what is in flight, break off the rest, record all."""
        self._stopping = True
        self._supply.stop()
        if self._wake_timer is not None:
            self._wake_timer.cancel()
        for lane in (*self.lanes, *self._retiring):
            lane.retire()
        if self._flying:
            try:
                async with asyncio.timeout(grace):
                    await self._landed.wait()
            except TimeoutError:
                for lane in (*self.lanes, *self._retiring):
                    lane.abort("relay stopped")
        try:
            # A spool that can't record now, a full disk say, must not keep the relay from stopping: what is still
            # leased then is rescued at the next start.
            async with asyncio.timeout(LAST_RECORDS):
                await self._settler.drained()
                await self._give_back(self._ready.without(lambda _: True))
        except (TimeoutError, SpoolError):
            _log.error("not all outcomes could be recorded: what is unrecorded is tried again after the next start")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
