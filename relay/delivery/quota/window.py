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

    __slots__ = ("_uses", "count", "grain", "seconds", "slot", "used")

    def __init__(self, count: int, seconds: float) -> None:
        self.count = count
        self.seconds = seconds
        self.grain = seconds / GRAINS
        self.used = 0
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

    def forget(self, now: float) -> None:
        """Let go what has left the window."""
        uses = self._uses
        while uses and self._leaves(uses[0][0]) <= now:
            self.used -= uses.popleft()[1]

    def left_at(self, units: int) -> float | None:
        """When ``units`` of what is used will have left; None where it isn't as much."""
        for number, used in self._uses:
            units -= used
            if units <= 0:
                return self._leaves(number)
        return None

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
