"""Whose turn it is among what waits: urgent mail first, then normal and bulk by weight, sources in turns. Pure.

A *turn* is a number that stands for a priority and a source: the higher half is the priority's rank, the lower one
a digest of who sends and which way it takes. What has the same turn goes in its own order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, Generic, Protocol, TypeVar
from zlib import crc32

from relay.mail import Message, Priority

RANK_SHIFT: Final = 32
WAY_SHIFT: Final = 20
"""Bits of a turn below which the source stands; between them and the rank stands the way."""
NORMAL_PER_BULK: Final = 9
"""Normal messages that go before a bulk one has its turn, where both wait: bulk has a tenth then."""

_RANKS: Final = {Priority.URGENT: 0, Priority.NORMAL: 1, Priority.BULK: 2}
_USER: Final = ", sasl_username="
_KNOWN: Final = 1024
"""Sources whose turn is remembered: most mail is of few."""


class Waiting(Protocol):
    """What stands in a queue."""

    @property
    def turn(self) -> int:
        """The number of its turn."""
        ...


T = TypeVar("T", bound=Waiting)


def source_of(message: Message) -> str:
    """Who sends: X-Relay-Tag, else the user that logged in, else the sender.

    A sender whose local part holds "+" or "=" differs by recipient or message (VERP, BATV): there the domain counts,
    lest a newsletter is as many sources as it has readers.
    """
    return _source(message.tag, message.client, message.envelope.sender)


def user_of(message: Message) -> str:
    """Who logged in to submit it; "" where nobody did."""
    return _user(message.client)


def turn_of(message: Message, way: str = "") -> int:
    """The turn of a message that takes ``way``, a route's or an upstream's name ("": the only one)."""
    lower = _lower_half(message.tag, message.client, message.envelope.sender, way)
    return _RANKS[message.priority] << RANK_SHIFT | lower


def _user(client: str) -> str:
    return client.rpartition(_USER)[2] if _USER in client else ""


def _source(tag: str | None, client: str, sender: str) -> str:
    if tag is not None:
        return f"tag {tag}"
    user = _user(client)
    if user:
        return f"user {user}"
    local, _, domain = sender.lower().rpartition("@")
    return f"@{domain}" if "+" in local or "=" in local else sender.lower()


@lru_cache(_KNOWN)
def _lower_half(tag: str | None, client: str, sender: str, way: str) -> int:
    source = crc32(f"{_source(tag, client, sender)}\n{way}".encode("utf-8", "replace")) & ((1 << WAY_SHIFT) - 1)
    return way_digest(way) << WAY_SHIFT | source


def way_digest(way: str) -> int:
    """What stands in a turn for ``way``: :func:`way_of` has it."""
    return crc32(way.encode()) & 0xFFF


def way_of(turn: int) -> int:
    """A digest of the way that it takes."""
    return turn >> WAY_SHIFT & 0xFFF


def is_urgent(turn: int) -> bool:
    """Whether it overtakes all others."""
    return turn >> RANK_SHIFT == 0


class Sources(Generic[T]):
    """A queue of one priority in which each source has one message per round."""

    __slots__ = ("_queues", "_round", "count")

    def __init__(self) -> None:
        self._queues: dict[int, deque[T]] = {}
        self._round: deque[int] = deque()
        self.count = 0
        """How many wait."""

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[T]:
        for queue in self._queues.values():
            yield from queue

    @property
    def head(self) -> T:
        """What :meth:`pop` would give."""
        return self._queues[self._round[0]][0]

    def append(self, item: T) -> None:
        """Behind what its source has waiting; a new source is the last of the round."""
        self.count += 1
        queue = self._queues.get(item.turn)
        if queue is None:
            self._queues[item.turn] = deque((item,))
            self._round.append(item.turn)
        else:
            queue.append(item)

    def pop(self) -> T:
        """Take the next one; its source goes behind the others."""
        turn = self._round[0]
        queue = self._queues[turn]
        item = queue.popleft()
        self.count -= 1
        if queue:
            self._round.rotate(-1)
        else:
            self._round.popleft()
            del self._queues[turn]
        return item

    def put_back(self, item: T) -> None:
        """To be the next one again."""
        turn = item.turn
        self.count += 1
        queue = self._queues.get(turn)
        if queue is None:
            self._queues[turn] = deque((item,))
        else:
            queue.appendleft(item)
            if self._round[0] == turn:
                return
            self._round.remove(turn)
        self._round.appendleft(turn)


class Ordinary(Generic[T]):
    """Normal and bulk mail by weight."""

    __slots__ = ("_bulk", "_normal", "_passed")

    def __init__(self) -> None:
        self._normal = Sources[T]()
        self._bulk = Sources[T]()
        self._passed = 0

    @property
    def count(self) -> int:
        """How many wait."""
        return self._normal.count + self._bulk.count

    def __len__(self) -> int:
        return self._normal.count + self._bulk.count

    def __iter__(self) -> Iterator[T]:
        yield from self._normal
        yield from self._bulk

    @property
    def head(self) -> T:
        """What :meth:`pop` would give."""
        return self._next().head

    def append(self, item: T) -> None:
        """Behind the others of its kind."""
        self._of(item).append(item)

    def pop(self) -> T:
        """Take the next one."""
        queue = self._next()
        self._passed = 0 if queue is self._bulk else self._passed + 1
        return queue.pop()

    def put_back(self, item: T) -> None:
        """To be the next one of its kind again."""
        queue = self._of(item)
        self._passed = NORMAL_PER_BULK if queue is self._bulk else max(0, self._passed - 1)
        queue.put_back(item)

    def _of(self, item: T) -> Sources[T]:
        return self._bulk if item.turn >> RANK_SHIFT > 1 else self._normal

    def _next(self) -> Sources[T]:
        if self._bulk.count and (self._passed >= NORMAL_PER_BULK or not self._normal.count):
            return self._bulk
        return self._normal


class Turns(Generic[T]):
    """All that waits for one way: :attr:`urgent` and :attr:`ordinary`, each a queue."""

    __slots__ = ("ordinary", "urgent")

    def __init__(self) -> None:
        self.urgent = Sources[T]()
        self.ordinary = Ordinary[T]()

    def __bool__(self) -> bool:
        return self.urgent.count + self.ordinary.count > 0

    def __iter__(self) -> Iterator[T]:
        yield from self.urgent
        yield from self.ordinary

    def append(self, item: T) -> None:
        """Behind the others of its priority and source."""
        if item.turn >> RANK_SHIFT:
            self.ordinary.append(item)
        else:
            self.urgent.append(item)

    def put_back(self, item: T) -> None:
        """In front of them."""
        if item.turn >> RANK_SHIFT:
            self.ordinary.put_back(item)
        else:
            self.urgent.put_back(item)
