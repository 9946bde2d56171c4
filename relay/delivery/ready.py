"""Items that wait for a session, by the way that they take: a route's, or that of the one upstream that may have them,
as the application named it or its predecessors in the route can't have it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from relay.delivery.items import Item
from relay.delivery.lane import Lane
from relay.delivery.routing import NO_ROUTES, Routing
from relay.delivery.turns import Turns, way_digest


@dataclass(slots=True, eq=False)
class Way:
    """Lanes with what waits for them. Where it rotates, it is the turn of the lane ``at`` this position, which had
    ``passed`` messages of its cycle.
    """

    lanes: tuple[Lane, ...]
    strategy: Literal["failover", "rotate", "balance"] = "failover"
    turns: Turns[Item] = field(default_factory=Turns)
    at: int = 0
    passed: int = 0

    @property
    def in_turn(self) -> Sequence[Lane]:
        """The lanes, the one first whose turn it is."""
        return self.lanes[self.at :] + self.lanes[: self.at] if self.at else self.lanes

    def goes_by(self, lane: Lane) -> int:
        """``lane`` has its turn; how many messages are left of its cycle."""
        at = self.lanes.index(lane)
        if at != self.at:
            self.at, self.passed = at, 0
        return lane.limits.cycle - self.passed

    def went(self, messages: int) -> None:
        """So many were begun; at the end of the cycle it is the next one's turn."""
        self.passed += messages
        if self.passed >= self.lanes[self.at].limits.cycle:
            self.at, self.passed = (self.at + 1) % len(self.lanes), 0


class Ready:
    """The ways with their queues."""

    def __init__(self) -> None:
        self.apart: deque[Item] = deque()
        """What must wait for another message to end first; not counted as ready."""
        self.routing = NO_ROUTES
        self._lanes: dict[str, Lane] = {}
        self._routes: dict[str, Way] = {}
        self._alone: dict[tuple[str, ...], Way] = {}
        self._ways: list[Way] = []
        self._first = 0

    def __iter__(self) -> Iterator[Item]:
        for way in self._ways:
            yield from way.turns
        yield from self.apart

    def __bool__(self) -> bool:
        return any(way.turns for way in self._ways)

    def route(self, lanes: Sequence[Lane], routing: Routing) -> None:
        """Go these ways from now on, also what waits."""
        items = [item for way in self._ways for item in way.turns]
        self.routing = routing
        self._lanes = {lane.name: lane for lane in lanes}
        self._routes = {
            route.name: Way(tuple(self._lanes[name] for name in route.upstreams), route.strategy)
            for route in routing.routes.values()
        }
        self._alone = {}
        self._ways = list(self._routes.values())
        self.add(items)

    def by_digest(self) -> dict[int, Sequence[Lane]]:
        """The lanes of each way by what stands for it in a turn, the one first whose turn it is."""
        found = {way_digest(name): way.in_turn for name, way in self._routes.items()}
        found |= {way_digest(f"={name}"): (lane,) for name, lane in self._lanes.items()}
        return {way_digest(""): self.lanes_of(None), **found}

    def counts(self) -> Iterator[tuple[Sequence[Lane], int]]:
        """How many wait for each way, with its lanes."""
        return ((way.in_turn, way.turns.urgent.count + way.turns.ordinary.count) for way in self._ways)

    def waiting(self) -> list[Way]:
        """The ways for which something waits; each time another one is the first."""
        ways = [way for way in self._ways if way.turns]
        if len(ways) < 2:
            return ways
        self._first = (self._first + 1) % len(ways)
        return ways[self._first :] + ways[: self._first]

    def add(self, items: Iterable[Item]) -> None:
        """Behind the others of their turn; one whose recipients take several ways goes on in parts."""
        for item in items:
            item.unfit = frozenset()
            named = self._named(item)
            if named is not None:
                self.add_for((named,), item)
                continue
            if not self.routing.by_recipient:
                recipient = item.message.envelope.recipients[0]
                self._append(self._routes[self.routing.route_of(item.message, recipient.address).name], item)
                continue
            first, *others = self.routing.split(item.message)
            for name, positions in others:
                part = item.only(positions)
                part.octets = 0  # the first one carries the weight
                self._append(self._routes[name], part)
            if others:
                item.message = item.only(first[1]).message
            self._append(self._routes[first[0]], item)

    def put_back(self, item: Item) -> None:
        """In front: it was under way."""
        way = item.way
        if way is None or all(way is not each for each in self._ways):
            self.add([item])
        else:
            way.turns.put_back(item)

    def add_for(self, lanes: Sequence[Lane], item: Item) -> None:
        """Behind the others that only these may have; the first of them that is usable takes it."""
        names = tuple(lane.name for lane in lanes)
        way = self._alone.get(names)
        if way is None:
            way = self._alone[names] = Way(tuple(lanes))
            self._ways.append(way)
        self._append(way, item)

    def lanes_of(self, message_of: Item | None) -> Sequence[Lane]:
        """The lanes of an item's route, the one first whose turn it is; None: of what has no other route."""
        if message_of is None:
            return self._routes[self.routing.default.name].in_turn if self._routes else ()
        named = self._named(message_of)
        if named is not None:
            return (named,)
        message = message_of.message
        return self._routes[self.routing.route_of(message, message.envelope.recipients[0].address).name].in_turn

    def without(self, condition: Callable[[Item], bool]) -> list[Item]:
        """Take out and return what meets ``condition``."""
        taken = [item for item in self if condition(item)]
        if taken:
            self.apart = deque(item for item in self.apart if not condition(item))
            for way in self._ways:
                kept = [item for item in way.turns if not condition(item)]
                way.turns = Turns()
                for item in kept:
                    way.turns.append(item)
        return taken

    def _named(self, item: Item) -> Lane | None:
        message = item.message
        if message.upstream is None or (message.is_notification and self.routing.has_bounces):
            return None
        return self._lanes.get(message.upstream)

    @staticmethod
    def _append(way: Way, item: Item) -> None:
        item.way = way
        way.turns.append(item)


def next_fit(lanes: Sequence[Lane], lane: Lane, item: Item) -> Sequence[Lane]:
    """The upstreams of the route that may have what ``lane`` can't, the next one first; none where the application
    named this.
    """
    if item.message.upstream == lane.name:
        return ()
    names = [each.name for each in lanes]
    at = names.index(lane.name) + 1 if lane.name in names else 0
    unfit = item.unfit | {lane.name}
    return tuple(each for each in (*lanes[at:], *lanes[:at]) if each.name not in unfit)
