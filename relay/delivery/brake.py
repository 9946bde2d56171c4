"""When too much of a source's mail bounces or is deferred: its shares, counted over a window. Pure.

A source is an upstream, a sender's address or a tag. What was counted lies in slices of the window, so that old mail is
forgotten bit by bit; a source that has been silent for a whole window is forgotten altogether.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from typing import Final

from relay.lessons import BrakeRecord, Source
from relay.mail import Message
from relay.settings import BrakeSettings

SLICES: Final = 60
"""Slices to a window."""
SOURCES: Final = 10_000
"""Sources that are counted at a time; the one that was silent longest goes first: senders may be of one use each."""

ENDED, BOUNCED, DEFERRED, COMPLAINED = range(4)


class Tally:
    """What became of the recipients of one source lately."""

    __slots__ = ("_slices", "sums")

    def __init__(self) -> None:
        self.sums = [0, 0, 0, 0]
        self._slices: deque[tuple[int, list[int]]] = deque()

    def add(self, counts: tuple[int, int, int, int], number: int) -> None:
        """Count in the slice of that number, no lower than those before."""
        slices = self._slices
        if not slices or slices[-1][0] < number:
            slices.append((number, [0, 0, 0, 0]))
        for n, count in enumerate(counts):
            slices[-1][1][n] += count
            self.sums[n] += count
        while slices[0][0] <= number - SLICES:
            for n, count in enumerate(slices.popleft()[1]):
                self.sums[n] -= count


class Brake:
    """``stopped`` are the sources whose bulk mail is held."""

    def __init__(self, settings: BrakeSettings, stopped: Iterable[BrakeRecord] = ()) -> None:
        self.settings = settings
        self.stopped = {record.source: record for record in stopped}
        self._tallies: OrderedDict[Source, Tally] = OrderedDict()

    @property
    def is_set(self) -> bool:
        """Whether there is a share to look at."""
        shares = (self.settings.bounces, self.settings.complaints, self.settings.deferrals)
        return any(share is not None for share in shares)

    def count(
        self,
        sources: Iterable[Source],
        *,
        now: float,
        ended: int = 0,
        bounced: int = 0,
        deferred: int = 0,
        complained: int = 0,
    ) -> list[BrakeRecord]:
        """So many recipients of these sources' mail were tried, or were heard of later, at ``now`` (Unix seconds); the
        sources to be stopped for it, which are from now on.
        """
        number = int(now / self.settings.window * SLICES)
        found = []
        for source in sources:
            tally = self._tallies.get(source)
            if tally is None:
                tally = self._tallies[source] = Tally()
                if len(self._tallies) > SOURCES:
                    self._tallies.popitem(last=False)
            self._tallies.move_to_end(source)
            tally.add((ended, bounced, deferred, complained), number)
            reason = self._reason(tally.sums)
            if reason and source not in self.stopped:
                self.stopped[source] = BrakeRecord(source, now, reason)
                found.append(self.stopped[source])
        return found

    def stops(self, sources: Iterable[Source]) -> BrakeRecord | None:
        """The first of ``sources`` that is stopped."""
        return next((self.stopped[source] for source in sources if source in self.stopped), None)

    def release(self, source: Source) -> bool:
        """Let it go again, counted anew; whether it was stopped."""
        self._tallies.pop(source, None)
        return self.stopped.pop(source, None) is not None

    def _reason(self, sums: list[int]) -> str:
        ended = sums[ENDED]
        if ended < self.settings.minimum:
            return ""
        shares: Mapping[str, tuple[int, float | None]] = {
            "bounced": (sums[BOUNCED], self.settings.bounces),
            "complained": (sums[COMPLAINED], self.settings.complaints),
            "were deferred": (sums[DEFERRED], self.settings.deferrals),
        }
        for word, (count, most) in shares.items():
            if most is not None and count > most * ended:
                share = f"{100 * count / ended:.3g} %, above {100 * most:.3g} %"
                return f"{count} of {ended} recipients {word} ({share})"
        return ""


def sources_of(message: Message, upstreams: Iterable[str]) -> list[Source]:
    """The sources of a message that goes by ``upstreams``. A notification of our own has none: it is nobody's bulk."""
    found = [Source("upstream", name) for name in upstreams]
    if message.envelope.sender:
        found.append(Source("sender", message.envelope.sender.lower()))
    if message.tag:
        found.append(Source("tag", message.tag))
    return found
