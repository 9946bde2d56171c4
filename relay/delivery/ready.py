"""Items that wait for a session: one queue for whichever upstream takes mail now, and one for each upstream that alone
may have a message: the application named it, or its predecessors in the route can't have it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator

from relay.delivery.items import Item


class Ready:
    """The queues, by the name of the upstream; "" is the one for any."""

    def __init__(self) -> None:
        self.any: deque[Item] = deque()
        self.by_lane: dict[str, deque[Item]] = {}

    def __iter__(self) -> Iterator[Item]:
        yield from self.any
        for queue in self.by_lane.values():
            yield from queue

    def __bool__(self) -> bool:
        return bool(self.any or self.by_lane)

    def add(self, items: Iterable[Item], lanes: Collection[str]) -> None:
        """Behind all others; ``lanes`` are the upstreams there are."""
        for item in items:
            named = item.message.upstream
            if named is not None and named in lanes:
                self.add_for(named, item)
            else:
                self.any.append(item)

    def put_back(self, item: Item, lane: str) -> None:
        """In front: it was under way, with ``lane`` where no other may have it."""
        if item.unfit or item.message.upstream == lane:
            self.by_lane.setdefault(lane, deque()).appendleft(item)
        else:
            self.any.appendleft(item)

    def add_for(self, lane: str, item: Item) -> None:
        """Behind the others that only ``lane`` and its successors may have."""
        self.by_lane.setdefault(lane, deque()).append(item)

    def without(self, condition: Callable[[Item], bool]) -> list[Item]:
        """Take out and return what meets ``condition``."""
        taken = [item for item in self if condition(item)]
        if taken:
            self.any = deque(item for item in self.any if not condition(item))
            for name, queue in list(self.by_lane.items()):
                self.by_lane[name] = deque(item for item in queue if not condition(item))
            self.tidy()
        return taken

    def tidy(self) -> None:
        """Forget queues that are empty."""
        self.by_lane = {name: queue for name, queue in self.by_lane.items() if queue}
