"""Permits of upstreams with limits: the ledger, kept on disk ahead of use.

A permit is taken when a transaction starts and ends with it. Blocks of permits are written before the first of a block
is taken; what was answered is written with the next block, or after a quiet second. Nothing polls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from math import inf
from typing import Final

from relay.clock import BootClock, Clock
from relay.delivery.account import AccountLimit, account_limits, tightened
from relay.delivery.quota.ledger import Kept, Ledger, Use
from relay.delivery.rehearsal import WARMUP
from relay.delivery.warmup import is_held_by, limits_on, until_midnight
from relay.settings import Limit, UpstreamSettings
from relay.spool import QuotaRecord, Spool, SpoolBroken, SpoolError
from relay.upstream import ServerLimit

_log = logging.getLogger(__name__)
BELIEVED: Final = 600.0
"""Seconds for which it is believed what others have used of the account, or two ages of a connection: the provider is
asked when one is opened.
"""
RATE_WINDOW: Final = 60.0
"""Seconds of a window up to which a limit is a rate, and no quota that may be used up at once."""
QUIET: Final = 1.0
"""Seconds after a reply until it is written, unless a block was written meanwhile; and between tries to write."""


class Permit:
    """The right to one transaction; to be ended once."""

    __slots__ = ("_permits", "_since", "_units")

    def __init__(self, permits: Permits, units: int, since: float) -> None:
        self._permits = permits
        self._units = units
        self._since = since

    def ended(self, *, content_sent: bool, deferred: bool = False) -> None:
        """The transaction is over: the permit leaves the window, or is free at once where no content was sent."""
        self._permits.ended(self._units, self._since, content_sent=content_sent, deferred=deferred)


class Permits:
    """The permits of one upstream; ``came`` is called where some became usable by a write."""

    def __init__(
        self, settings: UpstreamSettings, kept: QuotaRecord | None, quotas: Quotas, came: Callable[[], None]
    ) -> None:
        self._name = settings.name
        self._quotas = quotas
        self._clock = quotas.boot_clock
        self._came = came
        self._loop = asyncio.get_running_loop()
        self._ledger = Ledger(())
        self._writing: asyncio.Task[None] | None = None
        self._need = 0
        self._urgent = self._is_behind = False
        self._timer: asyncio.TimerHandle | None = None
        self._stuck = False
        self._held = 0 if kept is None else kept.held
        self._tried = self._deferred = 0  # today
        self._midnight: asyncio.TimerHandle | None = None
        self.configure(settings)
        if kept is not None:
            found = Kept(kept.granted, kept.boot, kept.at, kept.wall, kept.windows)
            self._ledger.restore(found, self._clock.boot, self._clock.boottime(), quotas.clock.now())

    def configure(self, settings: UpstreamSettings, account: Sequence[AccountLimit] = ()) -> None:
        """Hold to these limits from now on, and to those of the account."""
        self._settings = settings
        self._account = tuple(account)
        self.by_recipient = settings.limit_unit == "recipients"
        if self._midnight is not None:
            self._midnight.cancel()
            self._midnight = None
        limits = settings.limits
        if settings.warmup is not None:
            today = datetime.fromtimestamp(self._quotas.clock.now()).astimezone()
            limits = limits_on(limits, settings.warmup, self._held, today)
            self._midnight = self._loop.call_later(until_midnight(today), self._next_day)
        self._ledger.configure(
            tightened(limits, self._account),
            now=self._clock.boottime(),
            even=settings.pacing == "even",
            pause=settings.pause,
            reserve=settings.reserve,
        )

    def told(self, limits: Sequence[ServerLimit]) -> bool:
        """Hold also to what the provider says of the account, of which others may use a part; whether it allows another
        number than was known.
        """
        before = {each.limit for each in self._account}
        account = account_limits(limits)
        self.configure(self._settings, account)  # now each has its window, with what is known of our own use
        now = self._clock.boottime()
        until = now + max(BELIEVED, 2 * self._settings.max_connection_age)
        account = [each.shared(self._ledger.used_here(each.limit.window, now)) for each in account]
        self.configure(self._settings, account)
        for limit in self._ledger.terms[0]:
            elsewhere = next((each.elsewhere for each in account if each.limit is limit), 0)
            self._ledger.used_elsewhere(limit.window, elsewhere, until)
        self._came()
        return before != {each.limit for each in account}

    @property
    def limits(self) -> Sequence[Limit]:
        """Those in force."""
        return self._ledger.terms[0]

    def _next_day(self) -> None:
        self._held += is_held_by(self._tried, self._deferred)
        self._tried = self._deferred = 0
        self.configure(self._settings, self._account)
        if self._writing is None:
            self._writing = self._loop.create_task(self._write())
        self._came()

    # -- taking -----------------------------------------------------------------------------------------------------
    def recipients(self, wanted: int, *, urgent: bool = False) -> int:
        """How many of ``wanted`` recipients a transaction may have now: none, all, or what a limit has left of them.

        Where only the disk is behind it is none: that is seen to, and ``came`` is called.
        """
        ledger = self._ledger
        room = ledger.room(self._clock.boottime(), urgent=urgent)
        if not room:
            return 0
        units = min(room, wanted) if self.by_recipient else 1
        self._is_behind = ledger.allowance < units
        if self._is_behind:
            self._urgent = True
            self._want(units)
            return 0
        return units if self.by_recipient else wanted

    def connections(self, wanted: int, *, urgent: bool = False) -> int:
        """How many of ``wanted`` transactions might start now, each with one recipient."""
        return min(wanted, self._ledger.room(self._clock.boottime(), urgent=urgent))

    @property
    def is_spent(self) -> bool:
        """Whether a limit, the pace or a pause forbids another transaction now, but for what is reserved."""
        return self.forbids()

    def forbids(self, *, urgent: bool = False) -> bool:
        """Whether a limit, the pace or a pause forbids another transaction now; ``urgent`` may use what is reserved."""
        return not self._ledger.room(self._clock.boottime(), urgent=urgent)

    @property
    def free(self) -> float:
        """The share of the quota nearest to its end that is left now: 1.0 where nothing is used. A rate, which is free
        again in a moment, counts where there is no quota.
        """
        return self._ledger.share_left(self._clock.boottime(), RATE_WINDOW)

    @property
    def is_behind_disk(self) -> bool:
        """Whether only a write that is under way keeps the next transaction back."""
        return self._is_behind and self._writing is not None

    def free_at(self, *, urgent: bool = False) -> float:
        """When the next one may start, in loop time; infinity: not before one in flight is answered."""
        now = self._clock.boottime()
        free_at = self._ledger.free_at(now, urgent=urgent)
        return float("inf") if free_at is None else self._loop.time() + free_at - now

    def take(self, recipients: int) -> Permit:
        """A transaction with so many recipients starts."""
        units = recipients if self.by_recipient else 1
        now = self._clock.boottime()
        self._ledger.take(units, now)
        if self._ledger.is_short:
            self._want(1)  # ahead, so that nothing waits for the disk when the next one is free
        return Permit(self, units, now)

    def ended(self, units: int, since: float, *, content_sent: bool, deferred: bool = False) -> None:
        """A transaction that started at ``since`` is over; ``deferred``: the upstream said so."""
        self._tried += 1
        self._deferred += deferred
        if content_sent:
            now = self._clock.boottime()
            self._ledger.answered(units, now, now - since)
            if self._timer is None:
                self._timer = self._loop.call_later(QUIET, self._quiet)
        else:
            self._ledger.given_back(units)

    # -- what people see --------------------------------------------------------------------------------------------
    def uses(self) -> Iterable[tuple[Use, float]]:
        """Each limit with its use, and when its next permit is free, in Unix seconds."""
        now, wall = self._clock.boottime(), self._quotas.clock.now()
        for use in self._ledger.uses(now):
            free_at = now + use.limit.window if use.free_at is None else use.free_at
            yield use, min(wall + free_at - now, self._grown_at(use, wall))

    def _grown_at(self, use: Use, wall: float) -> float:
        """When the next day of a warm-up allows more than is used; infinity: no warm-up, or it doesn't."""
        warmup = self._settings.warmup
        if warmup is None or use.limit.text != WARMUP:
            return inf
        today = datetime.fromtimestamp(wall).astimezone()
        held = self._held + is_held_by(self._tried, self._deferred)
        grown = limits_on(self._settings.limits, warmup, held, today + timedelta(days=1))
        count = next((limit.count for limit in grown if limit.window == use.limit.window), inf)
        return wall + until_midnight(today) if count > use.used else inf

    @property
    def remembers(self) -> bool:
        """Whether it counts on for a limit that was taken away and may come back."""
        return self._ledger.remembers(self._clock.boottime())

    @property
    def held(self) -> int:
        """Days for which a warm-up was held up."""
        return self._held

    def rehearsal(self) -> Ledger:
        """A copy of the ledger as it stands, for a simulated clock."""
        return self._ledger.copy()

    @property
    def explanation(self) -> str:
        """What forbids another transaction now, and until when."""
        used_up = {use.limit.text: when for use, when in self.uses() if not use.left}
        free_at = self.free_at() - self._loop.time() + self._quotas.clock.now()
        if WARMUP in used_up:
            free_at = min(free_at, max(used_up.values()))
        what = " and ".join(used_up) or "its pace"
        if free_at == float("inf"):
            return what
        return f"{what}; the next is free at {datetime.fromtimestamp(free_at).astimezone().isoformat(' ', 'seconds')}"

    # -- the disk ---------------------------------------------------------------------------------------------------
    def _want(self, need: int) -> None:
        self._need = max(self._need, need)
        if self._writing is None and not self._stuck:
            self._writing = self._loop.create_task(self._write())

    def _quiet(self) -> None:
        self._timer = None
        if self._writing is None and self._ledger.is_unwritten:
            self._writing = self._loop.create_task(self._write())

    async def _write(self) -> None:
        need, self._need = self._need, 0
        ledger, clock = self._ledger, self._clock
        # Permits that are being waited for are written at once, others in company.
        lazy, self._urgent = not self._urgent, False
        writing = ledger.write(clock.boottime(), need)
        record = QuotaRecord(
            self._name,
            writing.granted,
            clock.boot,
            clock.boottime(),
            self._quotas.clock.now(),
            writing.windows,
            writing.anew,
            writing.oldest,
            self._held,
        )
        try:
            await self._quotas.spool.record_quota(record, lazy=lazy)
        except SpoolError as error:
            ledger.not_written()
            self._stuck = True
            if not isinstance(error, SpoolBroken):
                _log.warning("limits of upstream %s can't be recorded: %s; it waits", self._name, error)
                self._loop.call_later(QUIET, self._unstick)
        else:
            ledger.written(writing)
        finally:
            self._writing = None
        if self._need:
            self._want(self._need)  # somebody asked meanwhile
        if writing.block:
            self._came()

    def _unstick(self) -> None:
        self._stuck = False
        self._came()

    async def close(self) -> None:
        """Write what is known; nothing is taken any more."""
        for timer in (self._timer, self._midnight):
            if timer is not None:
                timer.cancel()
        while self._writing is not None:
            await self._writing
        self._ledger.close()
        await self._write()


class Quotas:
    """All upstreams' permits, by name: they outlive a lane that a reload replaces."""

    def __init__(self, spool: Spool, clock: Clock, boot_clock: BootClock, came: Callable[[], None]) -> None:
        self.spool = spool
        self.clock = clock
        self.boot_clock = boot_clock
        self._came = came
        self._kept: dict[str, QuotaRecord] = {}
        self._permits: dict[str, Permits] = {}

    async def load(self) -> None:
        """Read what an ended process left; to be awaited once, before anything is sent."""
        self._kept = await self.spool.quotas()

    def of(self, settings: UpstreamSettings) -> Permits | None:
        """The permits of an upstream, with these limits from now on; None where it has none."""
        permits = self._permits.get(settings.name)
        if permits is not None:
            permits.configure(settings)
        elif _has_limits(settings):
            permits = Permits(settings, self._kept.get(settings.name), self, self._came)
            self._permits[settings.name] = permits
        return permits if permits is not None and (_has_limits(settings) or permits.remembers) else None

    def told(self, settings: UpstreamSettings, limits: Sequence[ServerLimit]) -> tuple[Permits | None, bool]:
        """The permits of an upstream whose provider says so of the account, and whether that is news."""
        permits = self._permits.get(settings.name)
        if permits is None:
            if not account_limits(limits):
                return None, False
            permits = self._permits[settings.name] = Permits(settings, self._kept.get(settings.name), self, self._came)
        return permits, permits.told(limits)

    async def close(self) -> None:
        """Write all that is known."""
        for permits in self._permits.values():
            await permits.close()


def _has_limits(settings: UpstreamSettings) -> bool:
    return bool(settings.limits) or settings.pause is not None or settings.warmup is not None
