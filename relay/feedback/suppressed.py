"""The suppressed addresses in memory: some 16 octets each, found in a microsecond. Pure.

Sorted arrays of digests, a thousand of them by their leading bits, so that also among millions one more address moves a
few kilobytes only. A digest of 63 bits stands for its address (relay/suppression.py).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import Final

from relay.suppression import Cause, Entry, outlasts

_SHIFT: Final = 53
SHARDS: Final = 1 << (63 - _SHIFT)
"""Arrays that there are."""
_CAUSES: Final = tuple(Cause)
_CAUSE_BITS: Final = 2
"""Of a mark: the cause; the rest is the end in whole seconds, 0 for none."""


class Suppressed:
    """Which addresses are suppressed; ``len()`` of it counts also those that ended and are not forgotten yet."""

    __slots__ = ("_count", "_digests", "_marks")

    def __init__(self) -> None:
        self._digests = [array("Q") for _ in range(SHARDS)]
        self._marks = [array("Q") for _ in range(SHARDS)]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, entry: Entry) -> bool:
        """Enter an address; whether that changed anything: an earlier end than it has does not."""
        shard = entry.digest >> _SHIFT
        digests, marks = self._digests[shard], self._marks[shard]
        at = bisect_left(digests, entry.digest)
        if at < len(digests) and digests[at] == entry.digest:
            if not outlasts(entry.until, _until(marks[at])):
                return False
            marks[at] = _mark(entry)
        else:
            digests.insert(at, entry.digest)
            marks.insert(at, _mark(entry))
            self._count += 1
        return True

    def remove(self, digest: int) -> bool:
        """Take an address out; whether it was there."""
        digests, marks = self._digests[digest >> _SHIFT], self._marks[digest >> _SHIFT]
        at = bisect_left(digests, digest)
        if at == len(digests) or digests[at] != digest:
            return False
        del digests[at], marks[at]
        self._count -= 1
        return True

    def find(self, digest: int, now: float) -> Entry | None:
        """Why and until when it is suppressed at ``now`` (Unix seconds)."""
        digests = self._digests[digest >> _SHIFT]
        at = bisect_left(digests, digest)
        if at == len(digests) or digests[at] != digest:
            return None
        mark = self._marks[digest >> _SHIFT][at]
        until = _until(mark)
        if until is not None and until <= now:
            return None
        return Entry(digest, _CAUSES[mark & ((1 << _CAUSE_BITS) - 1)], until)

    def forget(self, shard: int, now: float) -> None:
        """Let go of those in one array that have ended by ``now``: with millions, all at once takes too long."""
        digests, marks = self._digests[shard], self._marks[shard]
        kept = [n for n, mark in enumerate(marks) if not 0 < mark >> _CAUSE_BITS <= now]
        if len(kept) < len(marks):
            self._count -= len(marks) - len(kept)
            self._digests[shard] = array("Q", [digests[n] for n in kept])
            self._marks[shard] = array("Q", [marks[n] for n in kept])


def _mark(entry: Entry) -> int:
    end = 0 if entry.until is None else max(1, int(entry.until))
    return end << _CAUSE_BITS | _CAUSES.index(entry.cause)


def _until(mark: int) -> float | None:
    end = mark >> _CAUSE_BITS
    return float(end) if end else None
