"""Items that wait for a session: one queue for whichever upstream takes mail now, and one for each upstream whose
predecessors in the route can't have a message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

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

    def add(self, items: Iterable[Item]) -> None:
        """Behind all others."""
        self.any.extend(items)

    def put_back(self, item: Item, lane: str) -> None:
        """In front: it was under way, with ``lane`` where no other may have it."""
        if item.unfit:
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
