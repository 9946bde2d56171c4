"""Shares of the room in memory, so that no source's backlog takes the others' place. Pure.

A source may hold up to twice what is free (dynamic thresholds, Choudhury and Hahne 1998), and so may all the sources of
one way, whose upstreams may be down: whoever takes another way finds room. Urgent mail, by way too, may have all of it;
a tenth is kept for it. Way after way that fails with what is free then leaves hardly any: so a way that holds few has
room of its own beyond the rest, enough to go on by.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from relay.delivery.turns import RANK_SHIFT, WAY_SHIFT, is_urgent, way_of

MAX_MESSAGES: Final = 12_000
"""Messages held under lease at a time; all others stay in the spool."""
MAX_OCTETS: Final = 80_000_000
"""Octets of content held with them. Larger messages are read part by part and count nothing here."""
PER_FREE: Final = 2
"""What a source may hold for each one that is free."""
URGENT_PART: Final = 10
"""One part in so many is for urgent mail only."""
FEW_PART: Final = 200
"""A way holds few as long as it is less than one part in so many."""
BEYOND_PART: Final = 8
"""Room of so great a part is kept for these, beyond the rest: for some 25 ways."""
REFILL: Final = 4
"""A source's share is filled up again once one part in so many of it is free: a claim for a handful costs more than
it brings."""


@dataclass(slots=True)
class Window:
    """Counts messages and octets in all and by turn, so that a backlog stays on disk."""

    max_messages: int = MAX_MESSAGES
    max_octets: int = MAX_OCTETS
    messages: int = 0
    octets: int = 0
    held: dict[int, list[int]] = field(default_factory=dict)
    """By turn: messages, octets. Nothing is kept of a turn that holds none."""
    by_way: dict[int, list[int]] = field(default_factory=dict)
    """The same by way: one whose upstreams are down leaves a third to the others, however many sources it has."""

    def reserve(self, octets: int, turn: int) -> bool:
        """Take room for one message, or say no."""
        if not self._fits(octets, turn) and not self._fits_beyond(octets, turn):
            return False
        self.take(octets, turn)
        return True

    def _fits(self, octets: int, turn: int) -> bool:
        if self.messages >= self.max_messages or self.octets + octets > self.max_octets:
            return False
        # Where more than half is free, even one that holds all the rest may have more.
        ordinary, ordinary_octets = self._ordinary
        half_free = 2 * self.messages < ordinary and 2 * (self.octets + octets) <= ordinary_octets
        if half_free:
            return True
        if is_urgent(turn):
            free, free_octets = self.max_messages - self.messages, self.max_octets - self.octets
            return min(self._left_to(turn, free, free_octets)) > 0
        free, free_octets = self._left_to(turn, ordinary - self.messages, ordinary_octets - self.octets)
        if free <= 0 or octets > free_octets:
            return False
        held = self.held.get(turn)
        # One that holds nothing may have what there is.
        return held is None or (held[0] < PER_FREE * free and held[1] + octets <= PER_FREE * free_octets)

    def _fits_beyond(self, octets: int, turn: int) -> bool:
        """Whether its way holds few, and there is room that is kept for such."""
        few = self.few_more(turn)
        return few > 0 and self.octets + octets <= self.max_octets + self.max_octets // BEYOND_PART

    def few_more(self, turn: int) -> int:
        """How many messages more the turn's way may hold whatever the others hold."""
        held, octets = self.by_way.get(_way(turn), (0, 0))
        if octets > self.max_octets // FEW_PART or self.octets > self.max_octets + self.max_octets // BEYOND_PART:
            return 0
        return max(0, min(self.max_messages // FEW_PART - held, self.beyond))

    @property
    def beyond(self) -> int:
        """Messages that ways which hold few may still have."""
        return max(0, self.max_messages + self.max_messages // BEYOND_PART - self.messages)

    @property
    def _ordinary(self) -> tuple[int, int]:
        """Messages and octets that are for others than urgent mail."""
        return self.max_messages - self.max_messages // URGENT_PART, self.max_octets - self.max_octets // URGENT_PART

    def _left_to(self, turn: int, free: int, free_octets: int) -> tuple[int, int]:
        """What of the free room the turn's way may have, which holds no more than PER_FREE times what is free."""
        held, octets = self.by_way.get(_way(turn), (0, 0))
        return min(free, PER_FREE * free - held), min(free_octets, PER_FREE * free_octets - octets)

    def more_of_way(self, turn: int) -> int:
        """How many messages more the turn's way may hold."""
        held = self.by_way.get(_way(turn), (0, 0))[0]
        free = self.max_messages - self.max_messages // URGENT_PART - self.messages
        return max(0, (PER_FREE * free - held) // (PER_FREE + 1))  # as in wants()

    def take(self, octets: int, turn: int) -> None:
        """Count one message, room or not."""
        self.messages += 1
        self.octets += octets
        _count(self.held, turn, 1, octets)
        _count(self.by_way, _way(turn), 1, octets)

    def free(self, octets: int, turn: int) -> None:
        """Give one message's room back."""
        self.messages -= 1
        self.octets -= octets
        _count(self.held, turn, -1, -octets)
        _count(self.by_way, _way(turn), -1, -octets)

    def wants(self, turn: int) -> int:
        """How many messages of ``turn`` to bring in now; 0 also where it isn't worth a claim yet."""
        few = self.few_more(turn)
        return max(self._wants(turn), few if 2 * few >= self.max_messages // FEW_PART else 0)

    def _wants(self, turn: int) -> int:
        held, octets = self.held.get(turn, (0, 0))
        free, free_octets = self.max_messages - self.messages, self.max_octets - self.octets
        if is_urgent(turn):
            way = self.by_way.get(_way(turn), (0, 0))[0]
            left = self._left_to(turn, free, free_octets)
            return max(1, (PER_FREE * free - way) // (PER_FREE + 1)) if min(left) > 0 else 0
        free -= self.max_messages // URGENT_PART
        free_octets -= self.max_octets // URGENT_PART
        way = self.by_way.get(_way(turn), (0, 0))[0]
        if free <= 0 or self._left_to(turn, free, free_octets)[1] <= 0:
            return 0
        # With m more it holds as much as it may: held + m = PER_FREE * (free - m), where of the free room the way has
        # no more than PER_FREE * (free - m) - (way + m).
        by_way = (PER_FREE * (PER_FREE * free - way) - held) // (1 + PER_FREE + PER_FREE**2)
        more = min((PER_FREE * free - held) // (PER_FREE + 1), by_way)
        if not held:
            return max(1, more)
        if more * REFILL < held or octets * (REFILL + 1) > PER_FREE * free_octets * REFILL:
            return 0
        return more


def _way(turn: int) -> int:
    """A key for the turn's way; urgent mail has a share of its own there."""
    way = way_of(turn)
    return way if turn >> RANK_SHIFT else ~way


def _count(counts: dict[int, list[int]], key: int, messages: int, octets: int) -> None:
    held = counts.get(key)
    if held is None:
        counts[key] = [messages, octets]
        return
    held[0] += messages
    held[1] += octets
    if not held[0]:
        del counts[key]


def wanting(window: Window, turns: Iterable[int], most: int) -> Iterator[tuple[int, int]]:
    """Those of ``turns`` that want some now, and how many: the first ``most`` of each way and priority, as a crowd of
    sources wants much the same.
    """
    found: dict[int, int] = {}
    for turn in turns:
        kind = turn >> WAY_SHIFT
        if found.get(kind, 0) >= most:
            continue
        want = window.wants(turn)
        if want:
            found[kind] = found.get(kind, 0) + 1
            yield turn, want
        elif turn not in window.held:
            found[kind] = most  # where one that holds nothing wants none, none does


def shares(window: Window, turns: Iterable[int], limit: int) -> dict[int, int]:
    """How many messages of each of ``turns``, which have some in the spool, to bring in by a claim of ``limit``.

    Urgent ones first; the others alike, as far as each wants.
    """
    given: dict[int, int] = {}
    wanted: dict[int, int] = {}
    for turn, want in wanting(window, turns, limit):
        if is_urgent(turn):
            given[turn] = min(want, limit)
            limit -= given[turn]
        else:
            wanted[turn] = want
        if limit <= 0:
            return given
    # All of them want room that is there once.
    room = min(limit, max(0, window.max_messages - window.max_messages // URGENT_PART - window.messages))
    beyond = min(limit, window.beyond) - room
    ways = {_way(turn): window.more_of_way(turn) for turn in wanted}
    few = {_way(turn): window.few_more(turn) for turn in wanted}
    for count, turn in enumerate(sorted(wanted, key=wanted.__getitem__)):
        way = _way(turn)
        part = min(wanted[turn], max(1, room // (len(wanted) - count)), ways[way])
        if 0 < part <= room:
            room -= part
            ways[way] -= part
        else:
            part = max(0, min(wanted[turn], few[way], beyond))
            beyond -= part
        if part:
            given[turn] = part
            few[way] -= part
    return given
