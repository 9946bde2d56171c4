"""Delay warnings: after ``[queue] delay_warning`` a sender is told, once a recipient, that its mail still waits.

Sleeps until the oldest waiting message that nobody was told of is due, a minute at the least: a backlog is warned of in
pages, not one by one. What was told stands in the spool, so a restart tells nobody twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from relay.bounce import RecipientReport
from relay.clock import Clock
from relay.delivery.notifying import OFF, Notifier, told
from relay.delivery.settle import expires
from relay.delivery.steps import Steps
from relay.events import Emit, Notification
from relay.outcome import Outcome, Scope, Verdict, expired
from relay.settings import QueueSettings
from relay.spool import AttemptRecord, Delayed, Spool, SpoolError, Warned

_log = logging.getLogger(__name__)
PAGE: Final = 5000
"""Messages that are read at a time: each page passes over the open queue's index."""
TOGETHER: Final = 100
"""Messages that are warned of in one commit."""
LEAST: Final = 60.0
"""Seconds between two looks at the queue at the least; a tenth of a delay_warning that is shorter than ten minutes."""
UNTRIED: Final = "delivery was not attempted yet"


class DelayWarnings:
    """``settings`` gives the current ``[queue]``; ``ring`` is called when notifications wait in the spool; ``trouble``
    says why mail waits that was never attempted.
    """

    def __init__(
        self,
        spool: Spool,
        clock: Clock,
        emit: Emit,
        settings: Callable[[], QueueSettings],
        ring: Callable[[], None],
        trouble: Callable[[], str],
        *,
        reporter: str,
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._steps = Steps(clock)
        self._emit = emit
        self._settings = settings
        self._ring = ring
        self._trouble = trouble
        self._notifier = Notifier(spool, reporter)
        self._passed = 0
        self._from_start = 0.0
        self._bell = asyncio.Event()

    def look_again(self) -> None:
        """The settings changed."""
        self._bell.set()

    async def run(self) -> None:
        """Tell of delays until cancelled."""
        while True:
            pause: float | None
            try:
                pause = await self.look()
            except SpoolError as error:
                _log.warning("delays can't be told now: %s", error)
                pause = LEAST
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._bell.wait()
                    self._passed = 0
            self._bell.clear()

    async def look(self) -> float | None:
        """Tell of what has waited too long; seconds until there may be more, None where nobody is to be told."""
        settings = self._settings()
        after = settings.delay_warning
        if after is None or settings.bounces == OFF:
            return None
        now = self._clock.now()
        if not self._from_start <= now < self._from_start + after:
            # What an operator held meanwhile and let go lies below what was passed.
            self._passed, self._from_start = 0, now
        ahead = self._steps.ahead(after)
        before = now - ahead - after
        while found := await self._spool.delayed(self._passed, before, PAGE):
            for start in range(0, len(found), TOGETHER):
                some = found[start : start + TOGETHER]
                await self._tell(some, settings, now)
                self._passed = some[-1].message.number
        oldest = await self._spool.waiting_since(before)
        rest = after if oldest is None else oldest + after + ahead - self._clock.now()
        return max(rest, min(LEAST, after / 10))

    async def _tell(self, found: list[Delayed], settings: QueueSettings, now: float) -> None:
        warned = []
        for each in found:
            message = each.message
            recipients = message.envelope.recipients
            reports = [
                RecipientReport(r, self._outcome(last), last.relay if last else "none", last.at if last else None)
                for r, last in zip(recipients, each.last, strict=True)
            ]
            until = expires(message, settings)
            notification = await self._notifier.arrival(
                Notification.DELAY, message, None, reports, settings, now=now, until=until
            )
            warned.append(Warned(message.number, tuple(r.n for r in recipients), now, notification))
        told_of = await self._spool.warn(warned)
        for each_warned in warned:
            if each_warned.number in told_of:
                for event in told(Notification.DELAY, each_warned.notification, now):
                    self._emit(event)
        if told_of:
            self._ring()

    def _outcome(self, last: AttemptRecord | None) -> Outcome:
        """The last attempt again as an outcome; its reply is read back out of its words."""
        if last is None:
            # RFC 3463 §3.5: X.4.0, the network's trouble, where no server was reached to say more.
            return Outcome(Verdict.DEFERRED, Scope.RECIPIENT, "4.4.0", self._trouble() or UNTRIED)
        return Outcome(Verdict.DEFERRED, Scope.RECIPIENT, last.dsn, last.detail, expired(last.detail).reply)
