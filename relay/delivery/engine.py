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
from functools import partial
from typing import Final

from relay.clock import Clock
from relay.delivery.alarm import Alarm
from relay.delivery.begun import before_content, left_in_doubt
from relay.delivery.charging import broke, costs_nothing
from relay.delivery.expiry import HERE, Expiry
from relay.delivery.items import Item, Window, weight
from relay.delivery.lane import Lane
from relay.delivery.pool import Place
from relay.delivery.ready import Ready
from relay.delivery.schedule import Plan, plan
from relay.delivery.settle import Attempt, Ended, Settler
from relay.delivery.signing import Signing
from relay.delivery.supply import Supply
from relay.delivery.telling import of_recovery, of_trouble
from relay.delivery.withdrawal import Withdrawal
from relay.events import Emit, Notice
from relay.headers.idempotency import idempotency_field
from relay.outcome import Outcome, Scope, Verdict
from relay.settings import QueueSettings
from relay.spool import PART_SIZE, Arrival, Spool, SpoolError
from relay.upstream import DeliveryRequest, Finished

_log = logging.getLogger(__name__)
MAX_TRIES: Final = 5
"""Sessions that may break under a message before it is charged an attempt."""
LAST_RECORDS: Final = 2.0
"""Seconds that recording may take at the end, beyond the grace."""


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
        self.signing = Signing(spool, self._signed, self._unsent)
        self._tasks: list[asyncio.Task[None]] = []
        self._alarm = Alarm(self._dispatch)
        self._expiry = Expiry(self._ready, self._settler, clock, self._alarm, self._why_waiting)
        self._withdrawal = Withdrawal(spool, clock, self._ready, self._window, self._supply, self._settler, self._take)
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
        for ended in await left_in_doubt(self._spool, self._supply.leased, self.lanes):
            self._settler.put(ended)
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
        while self._ready.any:
            lane = self._usable(self.lanes, now)
            if lane is None:
                self._expiry.look(now)
                break
            self._fill(lane, self._ready.any, now)
            if not lane.is_spent:
                break
        if self._ready.by_lane:
            self._fill_others(now)

    def _usable(self, lanes: Sequence[Lane], now: float) -> Lane | None:
        """The first of ``lanes`` that may have mail now; what is to be done about the others is done."""
        planned = self._plan(lanes, now)
        for index in planned.probe:
            lanes[index].probe()
        if planned.wake_at is not None:
            self._alarm.set(planned.wake_at)
        return None if planned.use is None else lanes[planned.use]

    @staticmethod
    def _plan(lanes: Sequence[Lane], now: float) -> Plan:
        spent = {n: lane.permits.free_at() for n, lane in enumerate(lanes) if lane.permits and lane.permits.is_spent}
        return plan([lane.circuit for lane in lanes], now, spent)

    def _fill_others(self, now: float) -> None:
        """What only some upstreams can have waits for these, be they down."""
        lanes = {lane.name: lane for lane in self.lanes}
        for name, queue in list(self._ready.by_lane.items()):
            if self._usable([lanes[name]], now) is not None:
                self._fill(lanes[name], queue, now)
            if lanes[name].is_spent or not lanes[name].circuit.closed:
                self._expiry.look(now)
        self._ready.tidy()

    def _fill(self, lane: Lane, queue: deque[Item], now: float) -> None:
        behind = 0
        permits = lane.permits
        wall = self._clock.now()
        while queue:
            if self._expiry.is_over(queue[0], wall):
                self._expiry.expire(queue.popleft())
                continue
            where = lane.place
            if where is Place.NOWHERE:
                break
            if self.signing.prefix(queue[0], lane.name) is None:
                self.signing.begin(queue.popleft(), lane.name)
                continue
            room = lane.max_recipients
            if permits is not None:
                room = permits.recipients(min(room, len(queue[0].message.envelope.recipients)))
                if not room:
                    # Another connection is of no use for what is at its limit, or waits for the disk.
                    if behind:
                        lane.grow(behind)
                    return
            behind += where is Place.CHAINED
            item = queue.popleft()
            rest = item.split(room)
            if rest is not None:
                queue.appendleft(rest)
            if permits is not None:
                item.permit = permits.take(len(item.message.envelope.recipients))
            self._begin(lane, item, now)
        demand = behind + (len(queue) if permits is None else permits.connections(len(queue)))
        if demand:
            lane.grow(demand)

    def _begin(self, lane: Lane, item: Item, now: float) -> None:
        read_part = None if item.content is not None else partial(self._spool.content, item.number)
        begins = before_content(self._spool, item.message, lane.upstream.destination, lane.limits.in_doubt)
        prefix = idempotency_field(lane.limits.idempotency_header, item.message, item.content)
        prefix += self.signing.prefix(item, lane.name) or b""
        request = DeliveryRequest(item.message, item.content, item.parts, read_part, prefix, before_content=begins)
        item.request = request
        item.begun = now
        self._flying[id(request)] = item
        try:
            lane.begin(request)
        except Exception:  # noqa: BLE001
            # A bug of ours must neither stop the others nor be tried in a loop: an attempt of this message.
            _log.exception("message %s can't be begun", item.message.queue_id)
            del self._flying[id(request)]
            item.landed(content_sent=True)  # as far as anybody knows
            outcome = Outcome(Verdict.DEFERRED, Scope.MESSAGE, "4.3.0", "internal error")
            outcomes = (outcome,) * len(item.message.envelope.recipients)
            self._settle(item, outcomes, lane, Finished(request, outcomes, lane.upstream.destination))

    def _signed(self, item: Item, upstream: str) -> None:
        if any(lane.name == upstream for lane in self.lanes):
            self._ready.put_back(item, upstream)
            self._dispatch()
        else:
            self._take([item])

    def _unsent(self, item: Item, outcome: Outcome) -> None:
        self._settler.put(Ended(item, [outcome] * len(item.message.envelope.recipients), HERE))

    def permits_came(self) -> None:
        """Permits that a limit had left are written, and so of use."""
        self._dispatch()

    # -- LaneOwner --------------------------------------------------------------------------------------------------
    def finished(self, lane: Lane, finished: Finished) -> None:
        """A request has its outcomes: settle what is decided, put back what cost nothing."""
        item = self._flying.pop(id(finished.request))
        item.landed(content_sent=finished.content_sent)
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
        self._emit(of_trouble(self._clock.now(), lane, outcome))

    def recovered(self, lane: Lane) -> None:
        """It can be used again."""
        self._emit(of_recovery(self._clock.now(), lane))

    # -- endings ----------------------------------------------------------------------------------------------------
    def _settle(self, item: Item, outcomes: Sequence[Outcome], lane: Lane, finished: Finished) -> None:
        queued = max(0.0, item.begun - item.active - finished.setup)
        delays = (item.waited, queued, finished.setup, finished.transmission)
        how = (finished.relay, finished.conn_use, delays, lane.limits.in_doubt, finished.passes_dsn)
        self._settler.put(Ended(item, outcomes, Attempt(lane.name, *how)))

    def _why_waiting(self) -> str:
        return next((lane.last_error for lane in self.lanes if lane.last_error and not lane.circuit.closed), "")

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
        now = self._loop.time()
        planned = self._plan(self.lanes, now)
        use = plan([lane.circuit for lane in self.lanes], now).use if planned.use is None else planned.use
        return None if use is None else self.lanes[use]

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
        await self._withdrawal.withdraw(numbers)

    async def fail(self, numbers: Sequence[int], outcome: Outcome) -> int:
        """Fail what waits or is held of these messages, as an operator's decision, with a bounce; how many messages."""
        return await self._withdrawal.fail(numbers, outcome)

    # -- the end ----------------------------------------------------------------------------------------------------
    async def stop(self, grace: float) -> None:
        """Begin nothing more; wait up to ``grace`` seconds for what is in flight, break off the rest, record all."""
        self._stopping = True
        self._supply.stop()
        self._alarm.stop()
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
                await self._withdrawal.give_back_all()
        except (TimeoutError, SpoolError):
            _log.error("not all outcomes could be recorded: what is unrecorded is tried again after the next start")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
