"""The use of one limit, in coarse buckets: what left flight within the last window. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

GRAINS: Final = 1000
"""Buckets to a window."""


class Window:
    """How much of ``count`` in ``seconds`` was used. A bucket has left once its end and one bucket more lie a whole
    window back: the receiver's clock may run slower than ours by a thousandth.
    """

    __slots__ = ("_uses", "count", "elsewhere", "elsewhere_until", "grain", "seconds", "slot", "used")

    def __init__(self, count: int, seconds: float) -> None:
        self.count = count
        self.seconds = seconds
        self.grain = seconds / GRAINS
        self.used = 0
        self.elsewhere = 0
        """What of ``used`` others have used, as was heard; nobody knows when it leaves."""
        self.elsewhere_until = -math.inf
        """When that is no longer believed."""
        self.slot = -math.inf
        """When the next one may start where they are spread evenly."""
        self._uses: deque[list[int]] = deque()  # number of the bucket, what was used in it

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Buckets that count, oldest first: number and use."""
        return ((number, used) for number, used in self._uses)

    @property
    def oldest(self) -> int | None:
        """The number of the oldest bucket that counts."""
        return self._uses[0][0] if self._uses else None

    def bucket_of(self, at: float) -> int:
        """The number of the bucket that ``at`` falls into."""
        return math.floor(at / self.grain)

    def add(self, count: int, at: float) -> int:
        """Count what was answered at ``at``, no earlier than what was counted before; its bucket's number."""
        number = self.bucket_of(at)
        uses = self._uses
        if uses and uses[-1][0] >= number:
            uses[-1][1] += count
            number = uses[-1][0]
        else:
            uses.append([number, count])
        self.used += count
        return number

    def heard(self, elsewhere: int, until: float) -> None:
        """Others have used so many of it, as far as is known ``until`` then."""
        self.used += elsewhere - self.elsewhere
        self.elsewhere, self.elsewhere_until = elsewhere, until

    def forget(self, now: float) -> None:
        """Let go what has left the window."""
        uses = self._uses
        while uses and self._leaves(uses[0][0]) <= now:
            self.used -= uses.popleft()[1]
        if self.elsewhere and self.elsewhere_until <= now:
            self.heard(0, -math.inf)

    def left_at(self, units: int) -> float | None:
        """When ``units`` of what is used will have left; None where it isn't as much."""
        elsewhere = self.elsewhere
        for number, used in self._uses:
            leaves = self._leaves(number)
            if elsewhere and self.elsewhere_until <= leaves:
                units -= elsewhere
                elsewhere = 0
                if units <= 0:
                    return self.elsewhere_until
            units -= used
            if units <= 0:
                return leaves
        return self.elsewhere_until if units <= elsewhere else None

    def use_at(self, number: int) -> int:
        """What is used in one bucket."""
        return next((used for each, used in reversed(self._uses) if each == number), 0)

    def copy_from(self, uses: Iterable[tuple[float, int]], now: float) -> None:
        """Take over uses, each with the latest time that it can be of, in order; none is later than ``now``."""
        for at, count in uses:
            self.add(count, min(at, now))

    def uses(self) -> Iterator[tuple[float, int]]:
        """Uses, oldest first, each with the end of its bucket."""
        return (((number + 1) * self.grain, used) for number, used in self._uses)

    def _leaves(self, number: int) -> float:
        return (number + 2) * self.grain + self.seconds
