"""Reading back from the spool what fell due or did not fit into memory.

Wakes by a bell or a due time; never polls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from relay.clock import Clock
from relay.delivery.items import Item, Window, weight
from relay.events import Emit, Requeued
from relay.spool import PART_SIZE, Claimed, Spool, SpoolBroken, SpoolError

_log = logging.getLogger(__name__)
CLAIM: Final = 500
"""Messages leased from the spool at a time."""
RETRY: Final = 1.0
"""Seconds until a spool that could not be read is asked again."""


class Supply:
    """Leases due messages into ``window`` whenever there is some mail and room; ``take`` gets them."""

    def __init__(
        self, spool: Spool, window: Window, clock: Clock, emit: Emit, take: Callable[[Sequence[Item]], None]
    ) -> None:
        self._spool = spool
        self._window = window
        self._clock = clock
        self._emit = emit
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._bell = asyncio.Event()
        self._claims = asyncio.Lock()
        self._backlog = True
        self._stopped = False
        self._pauses = 0
        self._next_due: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def ring(self) -> None:
        """Something in the spool is due now."""
        self._backlog = True
        self._bell.set()

    def room_grew(self) -> None:
        """There may be room for what had to stay in the spool."""
        if self._backlog:
            self._bell.set()

    def due_at(self, due: float) -> None:
        """Something in the spool falls due at ``due`` (Unix seconds)."""
        if self._stopped or (self._timer is not None and self._next_due is not None and self._next_due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._next_due = due
        self._timer = self._loop.call_later(max(0.0, due - self._clock.now()), self._fallen_due)

    def stop(self) -> None:
        """Lease nothing more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    async def run(self) -> None:
        """Serve until cancelled."""
        self._bell.set()
        while True:
            await self._bell.wait()
            self._bell.clear()
            try:
                async with self._claims:
                    await self._claim()
            except SpoolBroken:
                raise
            except SpoolError as error:
                _log.warning("due mail can't be read from the spool: %s", error)
                self._loop.call_later(RETRY, self.ring)

    def leased(self, claimed: Claimed) -> Item:
        """An item for what was leased, counted in the window."""
        message = claimed.message
        octets = weight(message.size)
        self._window.messages += 1
        self._window.octets += octets
        waited = max(0.0, self._clock.now() - message.arrived)
        return Item(message, claimed.nrcpt, claimed.content, claimed.parts, self._loop.time(), waited, octets)

    def _report(self, item: Item) -> None:
        """Tell of what is active again; what is tried for the first time was told of when it came."""
        message = item.message
        recipients = message.envelope.recipients
        if any(recipient.attempts for recipient in recipients):
            sender = message.envelope.sender
            self._emit(Requeued(self._clock.now(), message.queue_id, sender, message.size, len(recipients)))

    def pause(self) -> None:
        """Lease nothing until as many :meth:`resume`: an operator is changing what waits."""
        self._pauses += 1

    async def quiet(self) -> None:
        """Return once no claim is under way: with :meth:`pause`, none will be."""
        async with self._claims:
            pass

    def resume(self) -> None:
        """Lease again; something may have fallen due meanwhile."""
        self._pauses -= 1
        self.ring()

    def _fallen_due(self) -> None:
        self._timer = self._next_due = None
        self.ring()

    async def _claim(self) -> None:
        while self._backlog and not self._stopped and not self._pauses:
            messages, octets = self._window.room
            # A claim for a handful while the window is nearly full would cost more than it brings.
            if messages < CLAIM // 4 or octets < PART_SIZE:
                return
            self._backlog = False
            limit = min(messages, CLAIM)
            claimed = await self._spool.claim(self._clock.now(), limit, octets)
            if len(claimed) == limit:
                self._backlog = True
            items = [self.leased(each) for each in claimed]
            for item in items:
                self._report(item)
            self._take(items)
        if not self._backlog:
            due = await self._spool.next_due(self._clock.now())
            if due is not None:
                self.due_at(due)
