"""The brake at work: outcomes are counted, what is to be stopped is held in the spool, an operator lets it go again.

Urgent and normal mail is counted too, and goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from relay.clock import Clock
from relay.delivery.brake import Brake, sources_of
from relay.delivery.expiry import HERE
from relay.delivery.items import Item
from relay.delivery.settle import Ended
from relay.events import Emit, Notice
from relay.lessons import BrakeRecord, Source, held_by
from relay.mail import Priority
from relay.outcome import Outcome, Scope, Verdict
from relay.settings import BrakeSettings
from relay.spool import Spool, SpoolError

_log = logging.getLogger(__name__)
_RESUME: Final = "relay brake release"


class Braking:
    """``upstreams_of`` names the upstreams that an item may go by."""

    def __init__(
        self,
        spool: Spool,
        clock: Clock,
        emit: Emit,
        settings: BrakeSettings,
        upstreams_of: Callable[[Item], Iterable[str]],
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._emit = emit
        self._brake = Brake(settings)
        self._upstreams_of = upstreams_of
        self._loop = asyncio.get_running_loop()
        self._unwritten: list[BrakeRecord] = []
        self._writing: asyncio.Task[None] | None = None
        self._holding: set[Item] = set()
        self._recorded = asyncio.Event()

    async def load(self) -> None:
        """Read what was stopped when a process ended; to be awaited once, before anything is sent."""
        self._brake = Brake(self._brake.settings, await self._spool.brakes())

    def configure(self, settings: BrakeSettings) -> None:
        """Look at these shares from now on; what is stopped stays so."""
        self._brake = Brake(settings, self._brake.stopped.values())

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to count and nothing stopped."""
        return not self._brake.is_set and not self._brake.stopped

    def counted(self, ended: Sequence[Ended]) -> bool:
        """These are recorded; whether something is to be stopped for it."""
        if self._holding:
            self._holding.difference_update(each.item for each in ended)
            self._recorded.set()
        if not self._brake.is_set:
            return False
        found: list[BrakeRecord] = []
        now = self._clock.now()
        for each in ended:
            message = each.item.message
            if each.by_operator or each.held or not each.attempt.upstream or message.is_notification:
                continue
            verdicts = [outcome.verdict for outcome in each.outcomes]
            found += self._brake.count(
                sources_of(message, (each.attempt.upstream,)),
                ended=len(verdicts),
                bounced=verdicts.count(Verdict.FAILED),
                deferred=verdicts.count(Verdict.DEFERRED),
                now=now,
            )
        self._stop(found)
        return bool(found)

    def heard(self, sources: Iterable[Source], *, bounced: int = 0, complained: int = 0) -> bool:
        """Recipients complained of these sources' mail, or it bounced there after all; whether something is to be
        stopped for it.
        """
        if not self._brake.is_set:
            return False
        found = self._brake.count(sources, now=self._clock.now(), bounced=bounced, complained=complained)
        self._stop(found)
        return bool(found)

    def _stop(self, found: Sequence[BrakeRecord]) -> None:
        now = self._clock.now()
        for record in found:
            text = (
                f"brake: bulk mail of {record.source} is held: {record.reason}; other mail goes on;"
                f" {_RESUME} {record.source} resumes it"
            )
            self._emit(Notice(now, "qmgr", text, warning=True))
            self._unwritten.append(record)
        if found and self._writing is None:
            self._writing = self._loop.create_task(self._write())

    def sift(self, items: Sequence[Item], end: Callable[[Ended], None]) -> Sequence[Item]:
        """What is to go out of ``items``; ``end`` takes what is held."""
        if self.is_idle:
            return items
        kept: list[Item] = []
        for item in items:
            if self.stops(item):
                self._holding.add(item)
                end(self.held(item))
            else:
                kept.append(item)
        return kept

    def stops(self, item: Item) -> bool:
        """Whether it is bulk mail of something that is stopped."""
        return self._reason(item) is not None

    def held(self, item: Item) -> Ended:
        """The end that has it held."""
        record = self._reason(item)
        assert record is not None
        detail = f"{held_by(record.source)}: {record.reason}; held until {_RESUME} {record.source}"
        outcome = Outcome(Verdict.DEFERRED, Scope.RECIPIENT, "4.7.0", detail)
        return Ended(item, [outcome] * len(item.message.envelope.recipients), HERE, held=True)

    def standing(self) -> Sequence[BrakeRecord]:
        """What is stopped."""
        return list(self._brake.stopped.values())

    async def release(self, source: Source) -> int | None:
        """Let it go again; how many messages were held for it, None: it is not stopped."""
        if source not in self._brake.stopped:
            return None
        await self.written()
        released = await self._spool.unbrake(source, self._clock.now())
        self._brake.release(source)
        if await self._settled():
            released += await self._spool.unbrake(source, self._clock.now())
        self._emit(Notice(self._clock.now(), "qmgr", f"brake: bulk mail of {source} goes again, {released} messages"))
        return released

    async def written(self) -> None:
        """Wait until all that is stopped is written."""
        if self._writing is not None:
            await self._writing

    async def _settled(self) -> bool:
        """Wait until what is being held now is recorded; whether there was something."""
        awaited = set(self._holding)
        while awaited & self._holding:
            self._recorded.clear()
            await self._recorded.wait()
        return bool(awaited)

    def _reason(self, item: Item) -> BrakeRecord | None:
        message = item.message
        if message.priority is not Priority.BULK or not self._brake.stopped or message.is_notification:
            return None
        return self._brake.stops(sources_of(message, self._upstreams_of(item)))

    async def _write(self) -> None:
        try:
            while self._unwritten:
                await self._spool.brake(self._unwritten.pop(0))
        except SpoolError as error:
            _log.warning("what is stopped can't be recorded: %s", error)
        finally:
            self._writing = None
