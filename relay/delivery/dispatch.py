"""Handing what is ready to upstreams' sessions, as far as these have room and their limits permits.

Urgent mail of all ways goes first, then the others'. Within a way one lane takes the mail (the first of a route that is
usable, or the one whose turn it is), or all of them do, by what each has free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Final, Protocol

from relay.clock import Clock
from relay.delivery.alarm import Alarm
from relay.delivery.expiry import Expiry
from relay.delivery.items import Item
from relay.delivery.lane import Lane
from relay.delivery.pool import Place
from relay.delivery.ready import Ready, Way
from relay.delivery.schedule import Plan, plan
from relay.delivery.signing import Signing
from relay.delivery.suspects import Suspects
from relay.delivery.yielding import Yielding

_ALL: Final = 1 << 30
SILENT: Final = 30.0
"""Seconds without a reply on any connection after which what waits goes by the next upstream of its route."""
AHEAD: Final = 2
"""Messages being signed at the most, for each connection that the upstream may have."""


class Queue(Protocol):
    """What waits for a way, of one kind."""

    @property
    def count(self) -> int:
        """How many wait."""
        ...

    @property
    def head(self) -> Item:
        """What :meth:`pop` gives."""
        ...

    def pop(self) -> Item:
        """Take the next one."""
        ...

    def put_back(self, item: Item) -> None:
        """To be the next one again."""
        ...


class Dispatch:
    """``begin`` hands an item to a lane's session, at a place, with what goes before its content; ``late`` says what of
    one is still to go, None: nothing.
    """

    def __init__(
        self,
        ready: Ready,
        expiry: Expiry,
        signing: Signing,
        suspects: Suspects,
        alarm: Alarm,
        clock: Clock,
        yielding: Yielding,
        begin: Callable[[Lane, Item, float, Place, bytes], None],
        late: Callable[[Item], Item | None],
    ) -> None:
        self._ready = ready
        self._expiry = expiry
        self._signing = signing
        self._suspects = suspects
        self._alarm = alarm
        self._clock = clock
        self._yielding = yielding
        self._begin = begin
        self._late = late

    def run(self, now: float) -> None:
        """Begin what can be begun at ``now`` (loop time)."""
        if self._must_wait(now):
            return
        ready = self._ready
        if (apart := ready.apart) and not self._suspects.must_wait(apart[0].number, now):
            ready.add([apart.popleft()])
        ways = ready.waiting()
        for way in ways:
            if way.turns.urgent.count:
                self._serve(way, way.turns.urgent, now, urgent=True)
        for way in ways:
            if way.turns.ordinary.count:
                self._serve(way, way.turns.ordinary, now, urgent=False)

    def preferred(self, lanes: Sequence[Lane], now: float) -> Lane | None:
        """Which of ``lanes`` takes waiting mail now; at a limit all of them, the first that is up."""
        planned = self._plan(lanes, now, urgent=False)
        use = plan([lane.circuit for lane in lanes], now).use if planned.use is None else planned.use
        return None if use is None else lanes[use]

    def _must_wait(self, now: float) -> bool:
        """Whether it is the applications' turn; then the alarm rings when it is over."""
        wait = self._yielding.wait(now)
        if wait:
            self._alarm.set(now + wait)
        return wait > 0

    # -- a way ------------------------------------------------------------------------------------------------------
    def _serve(self, way: Way, queue: Queue, now: float, *, urgent: bool) -> None:
        if len(way.lanes) > 1 and way.strategy == "balance":
            self._balance(way, queue, now, urgent=urgent)
            return
        rotates = len(way.lanes) > 1 and way.strategy == "rotate"
        while queue.count:
            lane = self._usable(way.in_turn, now, urgent=urgent)
            if lane is None:
                self._expiry.look(now)
                return
            most = way.goes_by(lane) if rotates else _ALL
            begun, demand = self._fill(lane, queue, now, urgent=urgent, most=most)
            if not lane.is_whole:
                lane.grow(demand, urgent=urgent)
            if rotates:
                way.went(begun)
                if begun == most:
                    continue
            if not lane.forbids(urgent=urgent):
                if queue.count and len(way.lanes) > 1:
                    silent_at = lane.moved_at + SILENT
                    self._alarm.set(silent_at if silent_at > now else now + SILENT)
                return

    def _balance(self, way: Way, queue: Queue, now: float, *, urgent: bool) -> None:
        """Each message to the lane that has the most free."""
        usable = [lane for lane in way.lanes if self._usable((lane,), now, urgent=urgent) is not None]
        demands = dict.fromkeys(usable, 0)
        lanes = list(usable)
        while queue.count:
            lanes = [lane for lane in lanes if lane.place_for(urgent=urgent) is not Place.NOWHERE]
            if not lanes:
                break
            lane = _freest(lanes, queue.head)
            begun, demand = self._fill(lane, queue, now, urgent=urgent, most=1)
            demands[lane] += demand
            if not begun and lane.permits is not None and lane.permits.is_behind_disk:
                break  # it is called for the moment the permits are written: the others would have what is its share
            if not begun or self._usable((lane,), now, urgent=urgent) is None:
                lanes.remove(lane)
        left = -(-queue.count // max(1, len(usable)))
        for lane, demand in demands.items():
            lane.grow(demand + (left if lane.permits is None else lane.permits.connections(left)), urgent=urgent)
        if queue.count and all(lane.forbids(urgent=urgent) for lane in usable):
            self._expiry.look(now)

    def _usable(self, lanes: Sequence[Lane], now: float, *, urgent: bool) -> Lane | None:
        """The first of ``lanes`` that may have mail now; what is to be done about the others is done."""
        first = lanes[0]
        if first.permits is None and first.circuit.retry_at is None and (len(lanes) == 1 or not is_silent(first, now)):
            return first  # as the plan would have it
        planned = self._plan(lanes, now, urgent=urgent)
        for index in planned.probe:
            lanes[index].probe()
        if planned.wake_at is not None:
            self._alarm.set(planned.wake_at)
        return None if planned.use is None else lanes[planned.use]

    @staticmethod
    def _plan(lanes: Sequence[Lane], now: float, *, urgent: bool) -> Plan:
        spent = {
            n: lane.permits.free_at(urgent=urgent)
            for n, lane in enumerate(lanes)
            if lane.permits is not None and lane.permits.forbids(urgent=urgent)
        }
        if len(lanes) > 1:
            spent |= {n: inf for n, lane in enumerate(lanes) if n not in spent and is_silent(lane, now)}
        return plan([lane.circuit for lane in lanes], now, spent)

    # -- a lane -----------------------------------------------------------------------------------------------------
    def _fill(self, lane: Lane, queue: Queue, now: float, *, urgent: bool, most: int) -> tuple[int, int]:
        """Begin up to ``most``; how many that were, and for how many a session of their own would be of use."""
        begun = behind = 0
        permits = lane.permits
        wall = self._clock.now()
        room = 1
        unsigned: list[Item] = []
        while queue.count and begun < most:
            where = lane.place_for(urgent=urgent)
            if where is Place.NOWHERE or self._must_wait(now):
                break
            item = self._late(queue.pop())
            if item is None:
                continue
            if self._expiry.is_over(item, wall):
                self._expiry.expire(item)
                continue
            if self._suspects.must_wait(item.number, now):
                self._ready.apart.append(item)
                continue
            room = lane.max_recipients
            if permits is not None:
                room = permits.recipients(min(room, len(item.message.envelope.recipients)), urgent=urgent)
                if not room:
                    queue.put_back(item)
                    break
            prefix = self._signing.prefix(item, lane.name)
            if prefix is None:
                unsigned.append(item)
                if len(unsigned) > self._ahead(lane, urgent=urgent):
                    break
                self._signing.begin(item, lane.name)
                continue
            behind += where is Place.CHAINED
            rest = item.split(room)
            if rest is not None:
                queue.put_back(rest)
            if permits is not None:
                item.permit = permits.take(len(item.message.envelope.recipients))
            begun += 1
            self._yielding.began(item.message.size)
            self._begin(lane, item, now, where, prefix)
        for item in reversed(unsigned):
            queue.put_back(item)
        if not room:
            # Another connection is of no use for what is at its limit, or waits for the disk.
            return begun, behind
        left = min(queue.count, most - begun)
        return begun, behind + (left if permits is None else permits.connections(left, urgent=urgent))

    @staticmethod
    def _ahead(lane: Lane, *, urgent: bool) -> int:
        """How many messages may be signed at a time for what ``lane`` can take."""
        most = AHEAD * lane.limits.max_connections
        return most if lane.permits is None else lane.permits.connections(most, urgent=urgent)


def is_silent(lane: Lane, now: float) -> bool:
    """Whether all that it may have is under way and has been for long, without a word."""
    if now < lane.moved_at + SILENT or not lane.in_flight:
        return False
    where = lane.place_for(urgent=True)
    return where is Place.NOWHERE or (where is Place.CHAINED and lane.is_whole)


def _freest(lanes: Sequence[Lane], item: Item) -> Lane:
    """The lane with the largest share free; what was signed for one of them goes there."""
    if item.signed_for:
        for lane in lanes:
            if lane.name == item.signed_for:
                return lane
    return lanes[0] if len(lanes) == 1 else max(lanes, key=lambda lane: lane.free)
