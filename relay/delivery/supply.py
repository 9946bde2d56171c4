"""Reading back from the spool what fell due or did not fit into memory, in turns of its sources.

It knows which turns have something due in the spool, and leases of each what its share of the window lets in. Wakes by
a bell or a due time; never polls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from relay.clock import Clock
from relay.delivery.fairness import Window, shares, wanting
from relay.delivery.items import Item, weight
from relay.delivery.yielding import PATIENCE, QUIET, Yielding
from relay.events import Emit, Requeued
from relay.spool import CLAIMED_RECIPIENTS, Claimed, Spool, SpoolBroken, SpoolError

_log = logging.getLogger(__name__)
RETRY: Final = 1.0
"""Seconds until a spool that could not be read is asked again."""
MOST_TURNS: Final = 100_000
"""Turns that are looked at in the spool."""
PART_OF_TIME: Final = 10
"""Looking which turns have something due takes one part in so many of the time at the most."""
QUICK: Final = 0.02
"""Seconds of it that don't count: they are the event loop's."""
STEP: Final = 16
"""Messages that have left the window before it is asked again whether somebody's share is to be filled up."""
SOON: Final = 0.05
"""Seconds until that is asked where fewer have left it."""


class Supply:
    """Leases due messages into ``window`` whenever there is some mail and room, in portions between the applications'
    commits; ``take`` gets them.
    """

    def __init__(
        self,
        spool: Spool,
        window: Window,
        clock: Clock,
        emit: Emit,
        take: Callable[[Sequence[Item]], None],
        yielding: Yielding,
    ) -> None:
        self._spool = spool
        self._window = window
        self._clock = clock
        self._emit = emit
        self._take = take
        self._yielding = yielding
        self._loop = asyncio.get_running_loop()
        self._bell = asyncio.Event()
        self._claims = asyncio.Lock()
        self._left: dict[int, None] = {}  # turns with something due in the spool, those served last at the end
        self._unknown = True  # whether there may be others
        self._next_look = 0.0
        self._asked_at = 0
        self._stopped = False
        self._pauses = 0
        self._next_due: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._glance: asyncio.TimerHandle | None = None

    def ring(self, turn: int | None = None) -> None:
        """Something in the spool is due now; of that turn, if it is known."""
        if turn is None:
            self._unknown = True
        else:
            self._left[turn] = None
            if not self._window.wants(turn):
                return
        self._bell.set()

    @property
    def has_backlog(self) -> bool:
        """Whether something is known to be due in the spool."""
        return bool(self._left)

    def room_grew(self) -> None:
        """There may be room for what had to stay in the spool."""
        messages = self._window.messages
        if not self._left or self._stopped:
            return
        if messages <= self._asked_at - STEP or messages < STEP:
            self._use_room()
        elif self._glance is None:
            # Where others fill the window so many may never leave it.
            self._glance = self._loop.call_later(SOON, self._use_room)

    def _use_room(self) -> None:
        if self._glance is not None:
            self._glance.cancel()
            self._glance = None
        self._asked_at = self._window.messages
        if next(wanting(self._window, self._left, 1), None) is not None:
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
        for timer in (self._timer, self._glance):
            if timer is not None:
                timer.cancel()

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
        self._window.take(octets, claimed.turn)
        waited = max(0.0, self._clock.now() - message.arrived)
        how = (claimed.parts, self._loop.time(), waited, octets, claimed.turn)
        return Item(message, claimed.nrcpt, claimed.content, *how)

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

    def _rests(self) -> bool:
        return self._stopped or self._pauses > 0

    async def _claim(self) -> None:
        while not self._rests():
            if self._unknown:
                await self._look()
            await self._make_way()
            if self._rests():
                break
            turns = shares(self._window, self._left, self._yielding.portion(self._loop.time()))
            if not turns:
                break
            octets = max(0, self._window.max_octets - self._window.octets)
            for turn in turns:
                self._left.pop(turn)  # what arrives from now on rings again
            claimed = await self._spool.claim(self._clock.now(), sum(turns.values()), octets, turns)
            self._served(turns, claimed)
            items = [self.leased(each) for each in claimed]
            for item in items:
                self._report(item)
            self._take(items)
        self._asked_at = self._window.messages

    async def _make_way(self) -> None:
        """Begin nothing while an application is about to have something committed; but not for ever."""
        for _ in range(round(PATIENCE / QUIET)):
            if not self._yielding.is_busy(self._loop.time()):
                break
            await asyncio.sleep(QUIET)

    def _served(self, turns: dict[int, int], claimed: Sequence[Claimed]) -> None:
        """A turn that gave nothing has nothing more, unless the claim had enough before it came to it."""
        gave = {each.turn for each in claimed}
        cut = sum(len(each.message.envelope.recipients) for each in claimed) >= CLAIMED_RECIPIENTS
        self._left.update(dict.fromkeys(turn for turn in turns if turn in gave or cut))

    async def _look(self) -> None:
        """See which turns have something due, and when something else falls due."""
        started = self._loop.time()
        if started < self._next_look:
            self._loop.call_at(self._next_look, self._bell.set)
            return
        self._unknown = False
        now = self._clock.now()
        try:
            for turn in await self._spool.due_turns(now, -1, MOST_TURNS):
                self._left.setdefault(turn)
            due = await self._spool.next_due(now, ahead=True)
        except SpoolError:
            self._unknown = True
            raise
        if due is not None:
            self.due_at(due)
        ended = self._loop.time()
        self._next_look = ended + max(0.0, ended - started - QUICK) * PART_OF_TIME
