"""The engine: leased messages come in, go to upstreams' sessions as these have room, and end in the settler.

It is told of new mail (handed over in memory after its commit), reads back from the spool what did not fit, and wakes
when something falls due. Nothing polls. Trouble of a session or an upstream costs a message nothing: it goes to the
front again; only after several sessions broke under it is an attempt charged, lest it goes round for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from relay.clock import Clock
from relay.delivery.alarm import Alarm
from relay.delivery.begun import before_content, left_in_doubt
from relay.delivery.braking import Braking
from relay.delivery.charging import broke, costs_nothing
from relay.delivery.dispatch import Dispatch
from relay.delivery.expiry import HERE, Expiry
from relay.delivery.fairness import Window
from relay.delivery.items import Item, weight
from relay.delivery.lane import Lane
from relay.delivery.pool import Place
from relay.delivery.ready import Ready, next_fit
from relay.delivery.routing import Routing
from relay.delivery.settle import Attempt, Ended, Settler
from relay.delivery.signing import Signing
from relay.delivery.supply import Supply
from relay.delivery.suppressing import Suppressing
from relay.delivery.suspects import Suspects, hold_convicted
from relay.delivery.telling import of_leaving, of_recovery, of_trouble
from relay.delivery.withdrawal import Withdrawal
from relay.delivery.yielding import Yielding
from relay.events import Emit, Notice
from relay.headers.idempotency import idempotency_field
from relay.outcome import Outcome, Scope, Verdict
from relay.settings import QueueSettings
from relay.spool import ORDINARY, PART_SIZE, Arrival, Spool, SpoolError
from relay.upstream import DeliveryRequest, Finished

_log = logging.getLogger(__name__)
MAX_TRIES: Final = 5
"""Sessions that may break under a message before it is charged an attempt."""
LAST_RECORDS: Final = 2.0
"""Seconds that recording may take at the end, beyond the grace."""


class Engine:
    """Owns the lanes, in the file's order. ``broken`` is told when the spool can't be trusted."""

    def __init__(
        self,
        spool: Spool,
        settings: QueueSettings,
        clock: Clock,
        emit: Emit,
        *,
        reporter: str,
        chance: Callable[[], float],
        suspects: Suspects | None = None,
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self.lanes: list[Lane] = []
        self._retiring: list[Lane] = []
        self._ready = Ready()
        self._suspects = Suspects() if suspects is None else suspects
        self._flying: dict[int, Item] = {}  # by the id() of its request
        self._window = Window()
        self._yielding = Yielding()
        self._supply = Supply(spool, self._window, clock, emit, self._take, self._yielding)
        self._settler = Settler(spool, settings, clock, emit, self, self._portion, reporter=reporter, chance=chance)
        self.signing = Signing(spool, self._signed, self._unsent)
        self._tasks: list[asyncio.Task[None]] = []
        self._alarm = Alarm(self._dispatch)
        self._expiry = Expiry(self._ready, self._settler, clock, self._alarm, self._why_waiting)
        queues = (self._ready, self._expiry, self.signing, self._suspects, self._alarm, clock, self._yielding)
        self._dispatching = Dispatch(*queues, self._begin, self._late)
        self._withdrawal = Withdrawal(spool, clock, self._ready, self._window, self._supply, self._settler, self._take)
        self.braking: Braking | None = None
        self.suppressing: Suppressing | None = None
        self.watch: Callable[[Lane], None] | None = None
        self._stopping = False
        self._landed = asyncio.Event()

    def route(self, lanes: Sequence[Lane], routing: Routing | None = None) -> None:
        """Use these lanes from now on; others end what they have in flight and go. Without ``routing`` all mail has
        them in this order.
        """
        dropped = [lane for lane in self.lanes if lane not in lanes]
        self.lanes = list(lanes)
        self._retiring = [lane for lane in self._retiring if lane.connections] + dropped
        for lane in dropped:
            lane.retire()
        self._ready.route(lanes, routing or Routing(upstreams=[lane.name for lane in lanes]))
        self._dispatch()

    async def start(self) -> None:
        """Rescue what an ended process had under lease, and begin."""
        rescued = await self._spool.rescue(self._clock.now())
        if rescued:
            self._emit(Notice(self._clock.now(), "qmgr", f"{rescued} recipients of an ended process made due"))
        spool, leased = self._spool, self._supply.leased
        held = await hold_convicted(self._suspects, spool, leased, self._emit, self._clock.now())
        for ended in (*await left_in_doubt(spool, leased, self.lanes), *held):
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

    def _portion(self) -> int:
        return self._yielding.portion(self._loop.time())

    def heard(self) -> None:
        """A client speaks within a transaction: delivery makes way for it."""
        self._yielding.heard(self._loop.time(), self._window.messages)

    # -- what the listeners hand over -------------------------------------------------------------------------------
    def reserve(self, size: int, turn: int = ORDINARY) -> bool:
        """Take room in memory for a message of ``size`` octets, or say no: then it waits in the spool."""
        self._yielding.took(self._loop.time(), self._window.messages)
        return not self._stopping and self._window.reserve(weight(size), turn)

    def unreserve(self, size: int, turn: int = ORDINARY) -> None:
        """Give the room back: the message was not accepted."""
        self._window.free(weight(size), turn)
        self._supply.room_grew()

    def handed_over(self, arrival: Arrival) -> None:
        """A message whose room was reserved is in the spool, leased by us."""
        message = arrival.message
        parts = max(1, -(-message.size // PART_SIZE))
        waited = max(0.0, self._clock.now() - message.arrived)
        nrcpt = len(message.envelope.recipients)
        octets = weight(message.size)
        self._take([Item(message, nrcpt, arrival.content, parts, self._loop.time(), waited, octets, arrival.turn)])

    def waiting(self, turn: int | None = None) -> None:
        """A message waits in the spool, due now; of that turn, where it is known."""
        self._supply.ring(turn)

    def _take(self, items: Sequence[Item]) -> None:
        if self.braking is not None:
            items = self.braking.sift(items, self._settler.put)
        if self.suppressing is not None:
            items = self.suppressing.sift(items, self._settler.put)
        self._ready.add(items)
        self._dispatch()

    def _late(self, item: Item) -> Item | None:
        return item if self.suppressing is None else self.suppressing.late(item, self._settler.put)

    def hold_stopped(self, braking: Braking) -> None:
        """Have held what is ready and stopped by now."""
        braking.sift(self._ready.without(braking.stops), self._settler.put)

    # -- scheduling -------------------------------------------------------------------------------------------------
    def _dispatch(self) -> None:
        """Hand ready items to sessions as far as these have room."""
        if not self._stopping and self._settler.stuck is None:
            self._dispatching.run(self._loop.time())

    def _begin(self, lane: Lane, item: Item, now: float, where: Place, signatures: bytes) -> None:
        read_part = None if item.content is not None else partial(self._spool.content, item.number)
        begins = before_content(self._spool, self._clock, item.message, lane.upstream, lane.limits.in_doubt)
        prefix = signatures
        if lane.limits.idempotency_header:
            prefix = idempotency_field(lane.limits.idempotency_header, item.message, item.content) + signatures
        request = DeliveryRequest(item.message, item.content, item.parts, read_part, prefix, begins)
        if item.leaving is not None:
            request = item.leaving.apply(request, lane.name)
        item.request = request
        item.begun = now
        self._flying[id(request)] = item
        self._suspects.begun(item.number, now)
        try:
            lane.begin(request, where)
        except Exception:  # noqa: BLE001
            # A bug of ours must neither stop the others nor be tried in a loop: an attempt of this message.
            _log.exception("message %s can't be begun", item.message.queue_id)
            del self._flying[id(request)]
            item.landed(content_sent=True)  # as far as anybody knows
            outcome = Outcome(Verdict.DEFERRED, Scope.MESSAGE, "4.3.0", "internal error")
            outcomes = (outcome,) * len(item.message.envelope.recipients)
            self._settle(item, outcomes, lane, Finished(request, outcomes, lane.upstream.destination))

    def _signed(self, item: Item, upstream: str) -> None:
        item.signed_for = upstream
        if (leaving := item.leaving) is not None and leaving.told:
            self._emit(of_leaving(self._clock.now(), item, leaving))
        self._dispatch()

    def _unsent(self, item: Item, outcome: Outcome) -> None:
        if self._ready.without(lambda each: each is item):  # else somebody took it back
            self._settler.put(Ended(item, [outcome] * len(item.message.envelope.recipients), HERE))

    def permits_came(self) -> None:
        """Permits that a limit had left are written, and so of use."""
        self._dispatch()

    # -- LaneOwner --------------------------------------------------------------------------------------------------
    def finished(self, lane: Lane, finished: Finished) -> None:
        """A request has its outcomes: settle what is decided, put back what cost nothing."""
        item = self._flying.pop(id(finished.request))
        outcomes = finished.outcomes
        deferred = outcomes[0].verdict is Verdict.DEFERRED and outcomes[0].reply is not None
        item.landed(content_sent=finished.content_sent, deferred=deferred)
        if outcomes[0].unfit and (successors := next_fit(self._ready.lanes_of(item), lane, item)):
            self._suspects.recorded(item.number, survived=False)
            item.unfit |= {lane.name}
            self._ready.add_for(successors, item)
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
        else:
            self._suspects.recorded(item.number, survived=False)
        item.tries += any(broke(outcome) for outcome in outcomes)
        self._ready.put_back(item)

    def changed(self, lane: Lane) -> None:
        """A lane may take more, or less."""
        if self.watch is not None and lane.limits.authenticates:
            self.watch(lane)
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

    def _why_waiting(self, item: Item) -> str:
        lanes = self._ready.lanes_of(item)
        return next((lane.last_error for lane in lanes if lane.last_error and not lane.circuit.closed), "")

    def committed(self, ended: Sequence[Ended], done: frozenset[int], next_due: float | None) -> None:
        """These are recorded: their room is free, what was deferred falls due then."""
        for each in ended:
            item = each.item
            number = item.message.number
            self._suspects.recorded(number, over=number in done)
            if item.octets:
                self._window.free(item.octets, item.turn)
        if (braking := self.braking) is not None and braking.counted(ended):
            self.hold_stopped(braking)
        if self.suppressing is not None:
            self.suppressing.counted(ended)
        if next_due is not None:
            self._supply.due_at(next_due)
        self._supply.room_grew()
        self._dispatch()

    # -- operators --------------------------------------------------------------------------------------------------
    def upstreams_of(self, item: Item) -> list[str]:
        """Names of the upstreams of an item's route."""
        return [lane.name for lane in self._ready.lanes_of(item)]

    @property
    def preferred(self) -> Lane | None:
        """The lane that takes waiting mail of the default route now."""
        return self._dispatching.preferred(self._ready.lanes_of(None), self._loop.time())

    def takers(self) -> dict[int, str]:
        """By what stands for a way in turns: the upstream that would take its mail now, or the first of those."""
        return {digest: self._taker(lanes) for digest, lanes in self._ready.by_digest().items() if lanes}

    def waiting_for(self) -> Counter[str]:
        """How many wait in memory, by the upstream that would take them now."""
        counted = Counter[str]()
        for lanes, count in self._ready.counts():
            counted[self._taker(lanes)] += count
        return counted

    def _taker(self, lanes: Sequence[Lane]) -> str:
        return (self._dispatching.preferred(lanes, self._loop.time()) or lanes[0]).name

    def lanes_for(self, number: int) -> tuple[Sequence[Lane], Lane | None]:
        """The lanes of a waiting message's route, and the one that would take it now."""
        lanes = self._ready.lanes_of(next((item for item in self._ready if item.number == number), None))
        return lanes, self._dispatching.preferred(lanes, self._loop.time())

    @property
    def in_flight(self) -> frozenset[int]:
        """Numbers of the messages in a session now."""
        return frozenset(item.number for item in self._flying.values())

    @property
    def unsettled(self) -> int:
        """Messages that have outcomes which are not recorded yet."""
        return self._settler.pending

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

    @property
    def has_backlog(self) -> bool:
        """Whether mail waits in the spool that has no room in memory."""
        return self._supply.has_backlog

    async def expire(self, numbers: Sequence[int]) -> None:
        """Expire those of these messages that wait in the spool and whose lifetime is over."""
        for each in await self._spool.lease(numbers):
            item = self._supply.leased(each)
            if self._expiry.is_over(item, self._clock.now()):
                self._expiry.expire(item)
            else:
                self._take([item])

    # -- the end ----------------------------------------------------------------------------------------------------
    async def stop(self, grace: float) -> None:
        """Begin nothing more; wait up to ``grace`` seconds for what is in flight, break off the rest, record all."""
        self._stopping = True
        self._supply.stop()
        self._alarm.stop()
        self.signing.stop()
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
        self._suspects.close()
