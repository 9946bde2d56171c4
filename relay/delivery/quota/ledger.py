"""The permits of one upstream: every limit at once, pacing, pauses, and what is known on disk of them. Pure.

No permit is given that the disk does not know of: permits are *granted* in small blocks, each written before the first
of it is used, and what was answered is written with the next block. So what a crash leaves unknown is at the most what
had been granted; at the restart it counts as used from then on.

At any time: in flight + allowance + answered since the last write <= what the disk has as granted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from relay.delivery.quota.pace import Pace
from relay.delivery.quota.window import Window
from relay.settings import Limit, Pause

BLOCK_MAX: Final = 500
BLOCK_SHARE: Final = 100
"""A block is one part in so many of a limit, or what goes in BLOCK_SECONDS where that is more: what a crash costs."""
BLOCK_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Kept:
    """What the disk has of one upstream: ``granted`` permits of unknown fate, and the uses of each window by bucket.

    ``boot`` names the boot whose clock ``at`` and the buckets are of; ``wall`` is Unix seconds at that moment.
    """

    granted: int
    boot: str
    at: float
    wall: float
    windows: Mapping[float, Sequence[tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class Writing:
    """What to write next: ``granted`` from then on, uses of buckets that changed, and what to forget: all that stood
    there where ``anew``, else in each window the buckets below ``oldest``. ``block`` permits become usable by it.
    """

    granted: int
    block: int
    anew: bool
    windows: Mapping[float, Sequence[tuple[int, int]]]
    oldest: Mapping[float, int]


@dataclass(frozen=True, slots=True)
class Use:
    """A limit as people see it. ``free_at`` is when its next permit is free, None: once something is answered."""

    limit: Limit
    used: int
    left: int
    free_at: float | None


def share(count: int, reserve: float) -> int:
    """What of ``count`` is left to mail that is not urgent; what is reserved rounds down: one of a few is never all."""
    return count - int(count * reserve)


class Ledger:
    """Counts units: messages, or recipients. ``reserve`` is the share of each limit that only urgent mail may use."""

    def __init__(
        self, limits: Sequence[Limit], *, even: bool = False, pause: Pause | None = None, reserve: float = 0.0
    ) -> None:
        self.in_flight = 0
        self.allowance = 0
        """Permits that may be taken as far as the disk goes."""
        self._windows: dict[float, Window] = {}
        self._past: dict[float, float] = {}  # windows of no limit any more, and until when they are remembered
        self._pace = Pace()
        self._changed: dict[float, set[int]] = {}
        self._anew = True
        self._since_pause = 0
        self._paused_until = -math.inf
        self._limits: tuple[Limit, ...] = ()
        self.configure(limits, now=0.0, even=even, pause=pause, reserve=reserve)

    def configure(
        self,
        limits: Sequence[Limit],
        *,
        now: float,
        even: bool = False,
        pause: Pause | None = None,
        reserve: float = 0.0,
    ) -> None:
        """Hold to these limits from now on. Use stays counted; a new window begins with what the longest one knows.

        A window that is no limit's any more is counted on until it is a whole window ago: the limit may come back.
        """
        before = self._windows
        longest = max(before.values(), key=lambda window: window.seconds, default=None)
        self._limits = tuple(limits)
        self._even, self._pause, self._reserve = even, pause, reserve
        counted = {limit.window for limit in limits}
        self._past = {each: self._past.get(each, now + each) for each in before if each not in counted}
        self._windows = {seconds: before[seconds] for seconds in self._past}
        for limit in limits:
            window = before.get(limit.window)
            if window is None:
                window = Window(limit.count, limit.window)
                window.copy_from(() if longest is None else longest.uses(), now)
                self._anew = True
            window.count = limit.count
            window.slot = window.slot if even else -math.inf
            self._windows[limit.window] = window
        self._counted = [self._windows[limit.window] for limit in limits]
        self._anew |= before.keys() != self._windows.keys()
        self._changed = {seconds: self._changed.get(seconds, set()) for seconds in self._windows}
        counts = [self._block_of(limit) for limit in limits]
        self._block = min(counts, default=BLOCK_MAX)

    def restore(self, kept: Kept, boot: str, now: float, wall: float) -> None:
        """Begin with what an ended process left; to be called once, before anything is taken.

        On the same boot the clock is the same. Over a reboot as much time went by as the wall clock says, and no less
        than this boot has lasted.
        """
        elapsed = max(0.0, now - kept.at) if boot and boot == kept.boot else max(now, wall - kept.wall)
        shift = now - elapsed - kept.at
        left: dict[float, Window] = {}
        # Where no window has any use left, what was granted counts for those of now.
        for seconds, buckets in (kept.windows or {limit.window: () for limit in self._limits}).items():
            window = Window(0, seconds)
            window.copy_from((((number + 1) * window.grain + shift, used) for number, used in buckets), now)
            # What was granted may have been used until now.
            window.add(kept.granted, now)
            window.forget(now)
            left[seconds] = window
        limits, self._windows, self._past = self._limits, left, {}
        self.configure(limits, now=now, even=self._even, pause=self._pause, reserve=self._reserve)
        self._anew = True

    # -- permits ----------------------------------------------------------------------------------------------------
    def room(self, now: float, *, urgent: bool = False) -> int:
        """How many units the limits have left now, whatever the allowance."""
        if self._paused_until > now:
            return 0
        room = BLOCK_MAX * BLOCK_SHARE
        for window in self._counted:
            if self._slot(window, urgent=urgent) > now:
                return 0
            window.forget(now)
            room = min(room, self._share(window, urgent=urgent) - window.used - self.in_flight)
        return max(0, room)

    def free_at(self, now: float, *, urgent: bool = False) -> float | None:
        """When the next unit may be taken: ``now``, later, or None: not before something in flight is answered."""
        when = max(now, self._paused_until)
        for window in self._counted:
            free = self._free_at(window, now, urgent=urgent)
            if free is None:
                return None
            when = max(when, free)
        return when

    def take(self, units: int, now: float, transactions: int = 1) -> None:
        """Transactions start, one where not said otherwise, of ``units`` in all; no more than there is room and
        allowance for.
        """
        self.in_flight += units
        self.allowance -= units
        if self._even:
            for window in self._counted:
                interval = self._interval(window, urgent=False)
                # What is urgent may have gone before its turn.
                turn = max(min(window.slot, now), now - self._pace.slack(interval))
                window.slot = turn + units * interval
        if self._pause is not None:
            self._since_pause += transactions
            if self._since_pause >= self._pause.after:
                self._since_pause = 0
                self._paused_until = now + self._pause.seconds

    def answered(self, units: int, now: float, took: float | None = None) -> None:
        """A transaction had its reply, or will have none: it leaves the window by ``now``. It ``took`` so many seconds,
        where that is to count for the pace.
        """
        self.in_flight -= units
        if took is not None and self._even:
            self._pace = self._pace.after(took)
        for seconds, window in self._windows.items():
            self._changed[seconds].add(window.add(units, now))

    def used_here(self, seconds: float, now: float) -> int:
        """What was answered within the window of a limit of so many seconds, by ourselves."""
        window = self._windows[seconds]
        window.forget(now)
        return window.used - window.elsewhere

    def used_elsewhere(self, seconds: float, units: int, until: float) -> None:
        """Others have used ``units`` of the limit with that window, as far as is known ``until`` then."""
        self._windows[seconds].heard(units, until)

    def given_back(self, units: int) -> None:
        """A transaction ended before any content was sent: as if it had not started."""
        self.in_flight -= units
        self.allowance += units
        self._since_pause = max(0, self._since_pause - 1)

    # -- the disk ---------------------------------------------------------------------------------------------------
    @property
    def is_short(self) -> bool:
        """Whether the next block should be written."""
        return self.allowance <= self._block // 2

    @property
    def is_unwritten(self) -> bool:
        """Whether something was answered that the disk does not know of."""
        return self._anew or any(self._changed.values())

    def write(self, now: float, need: int = 0) -> Writing:
        """What to write now, so that a block, or ``need`` units where that is more, can be taken once it is written.

        Without ``need`` what is known is written, and no more is granted.
        """
        if not need:
            self.allowance = min(self.allowance, self._block)  # given back permits pile up
        block = max(0, max(need, self._block) - self.allowance) if need else 0
        self._drop_past(now)
        windows: dict[float, Sequence[tuple[int, int]]] = {}
        oldest: dict[float, int] = {}
        for seconds, window in self._windows.items():
            window.forget(now)
            if self._anew:
                windows[seconds] = tuple(window)
            else:
                windows[seconds] = tuple((number, window.use_at(number)) for number in sorted(self._changed[seconds]))
            oldest[seconds] = window.bucket_of(now) if window.oldest is None else window.oldest
            self._changed[seconds] = set()
        writing = Writing(self.in_flight + self.allowance + block, block, self._anew, windows, oldest)
        self._anew = False
        return writing

    def written(self, writing: Writing) -> None:
        """It is on disk."""
        self.allowance += writing.block

    def not_written(self) -> None:
        """It may be on disk or not: all is to be written anew."""
        self._anew = True

    def close(self) -> None:
        """Nothing more will be taken."""
        self.allowance = 0

    def remembers(self, now: float) -> bool:
        """Whether a window is remembered that is no limit's any more."""
        return any(until > now for until in self._past.values())

    # -- what people see --------------------------------------------------------------------------------------------
    def uses(self, now: float) -> Iterable[Use]:
        """Each limit with its use."""
        for limit in self._limits:
            window = self._windows[limit.window]
            window.forget(now)
            used = window.used + self.in_flight
            free = self._free_at(window, now, urgent=True)
            yield Use(limit, used, max(0, limit.count - used), None if free is None else max(now, free))

    def share_left(self, now: float, rates: float) -> float:
        """The least share that is left of a window longer than ``rates`` seconds, or of any where none is: 1.0 where
        nothing is used.
        """
        windows = [window for window in self._counted if window.seconds > rates] or self._counted
        least = 1.0
        for window in windows:
            window.forget(now)
            least = min(least, 1.0 - (window.used + self.in_flight) / window.count)
        return max(0.0, least)

    # -- what a rehearsal asks --------------------------------------------------------------------------------------
    @property
    def terms(self) -> tuple[tuple[Limit, ...], bool, Pause | None, float]:
        """What it holds to: limits, even, pause, reserve."""
        return self._limits, self._even, self._pause, self._reserve

    def interval(self, limit: Limit, took: float) -> float:
        """Seconds from one start to the next where it is even; replies take ``took`` where none came yet."""
        pace = self._pace if self._pace.mean is not None else Pace(took)
        return pace.interval(limit.window, share(limit.count, self._reserve))

    @property
    def until_pause(self) -> float:
        """Transactions that may start until it pauses; infinity where it never does."""
        return math.inf if self._pause is None else self._pause.after - self._since_pause

    def obstacle(self, now: float) -> Limit | Pause | None:
        """What forbids mail that is not urgent now and longest; None: nothing does."""
        found: tuple[float, Limit | Pause] | None = None
        if self._pause is not None and self._paused_until > now:
            found = self._paused_until, self._pause
        for limit in self._limits:
            free = self._free_at(self._windows[limit.window], now, urgent=False)
            when = math.inf if free is None else free
            if when > now and (found is None or when > found[0]):
                found = when, limit
        return None if found is None else found[1]

    def copy(self, *, unused: bool = False) -> Ledger:
        """Another one with the same terms and, unless ``unused``, the same use; the disk is this one's alone."""
        other = Ledger(self._limits, even=self._even, pause=self._pause, reserve=self._reserve)
        if not unused:
            other.in_flight = self.in_flight
            other._since_pause = self._since_pause
            other._paused_until = self._paused_until
            other._pace = self._pace
            for window in self._counted:
                twin = other._windows[window.seconds]
                twin.slot = window.slot
                for number, used in window:
                    twin.add(used, (number + 0.5) * window.grain)
                # Nobody will hear more of it there: it is as if they went on like this.
                twin.heard(window.elsewhere, window.elsewhere_until + window.seconds)
        return other

    # -- inside -----------------------------------------------------------------------------------------------------
    def _drop_past(self, now: float) -> None:
        """Forget what is a whole window ago."""
        for seconds in [seconds for seconds, until in self._past.items() if until <= now]:
            del self._past[seconds], self._windows[seconds], self._changed[seconds]
            self._anew = True

    def _interval(self, window: Window, *, urgent: bool) -> float:
        return self._pace.interval(window.seconds, self._share(window, urgent=urgent))

    def _slot(self, window: Window, *, urgent: bool) -> float:
        """When the next one has its turn; as close upon the last one as the whole limit lets it, where it is urgent."""
        if not urgent or not self._reserve or not self._even:
            return window.slot
        return window.slot - self._interval(window, urgent=False) + self._interval(window, urgent=True)

    def _share(self, window: Window, *, urgent: bool) -> int:
        return window.count if urgent else share(window.count, self._reserve)

    def _free_at(self, window: Window, now: float, *, urgent: bool) -> float | None:
        window.forget(now)
        over = window.used + self.in_flight + 1 - self._share(window, urgent=urgent)
        slot = self._slot(window, urgent=urgent)
        if over <= 0:
            return slot
        left_at = window.left_at(over)
        return None if left_at is None else max(left_at, slot)

    @staticmethod
    def _block_of(limit: Limit) -> int:
        goes = limit.count * min(1.0, BLOCK_SECONDS / limit.window)
        return max(1, min(BLOCK_MAX, math.floor(max(limit.count / BLOCK_SHARE, goes))))
