"""What upstreams taught us, read at the start and written when it changes: it is knowledge, and may be lost."""

from __future__ import annotations

import asyncio
import logging

from relay.clock import Clock
from relay.delivery.backoff import LOGINS, Circuit
from relay.delivery.lane import Lane
from relay.delivery.regulator import Regulator
from relay.lessons import LearnedRecord
from relay.settings import UpstreamSettings
from relay.spool import Spool, SpoolError

_log = logging.getLogger(__name__)


class Remembered:
    """All upstreams' lessons, by name: they outlive a lane that a reload replaces."""

    def __init__(self, spool: Spool, clock: Clock) -> None:
        self._spool = spool
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._kept: dict[str, LearnedRecord] = {}
        self._refused: dict[str, tuple[float, ...]] = {}
        self._watched: dict[str, tuple[Lane, tuple[float, ...]]] = {}
        self._changed: set[str] = set()
        self._logins: set[str] = set()
        self._writing: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Read what an ended process learned; to be awaited once, before anything is sent."""
        self._kept = await self._spool.learned()
        self._refused = await self._spool.refused_logins()

    def teach(self, lane: Lane, settings: UpstreamSettings) -> None:
        """Have a new lane begin with what is known of its upstream."""
        lane.taught(self.regulator(settings))
        now, ahead = self._loop.time(), self._loop.time() - self._clock.now()
        # Where the wall clock was set back meanwhile, it is as if they were refused just now.
        lane.circuit = Circuit(refused=tuple(min(now, at + ahead) for at in self._refused.get(lane.name, ())))
        lane.circuit = lane.circuit.inherited(now)
        if not lane.circuit.closed:
            lane.last_error = f"{LOGINS} logins were refused before the last start"
        self._watched[lane.name] = lane, lane.circuit.refused

    def look(self, lane: Lane) -> None:
        """Write which logins its upstream refused last, where that has changed."""
        refused = lane.circuit.refused
        watched, before = self._watched.get(lane.name, (None, ()))
        if refused is before or watched is not lane:
            return
        self._watched[lane.name] = lane, refused
        ahead = self._clock.now() - self._loop.time()
        times = tuple(at + ahead for at in refused)
        if times != self._refused.get(lane.name, ()):
            self._refused[lane.name] = times
            self._logins.add(lane.name)
            self._write_soon()

    def regulator(self, settings: UpstreamSettings) -> Regulator:
        """What regulates the upstream of these settings, with what is known of it."""
        return Regulator(
            settings.name,
            limits=settings.limits,
            by_recipient=settings.limit_unit == "recipients",
            kept=self._kept.get(settings.name),
            keep=self._keep,
            wall=self._clock.now,
            now=self._loop.time(),
        )

    async def close(self) -> None:
        """Write what is not written yet."""
        if self._writing is not None:
            await self._writing

    def _keep(self, record: LearnedRecord) -> None:
        self._kept[record.upstream] = record
        self._changed.add(record.upstream)
        self._write_soon()

    def _write_soon(self) -> None:
        if self._writing is None:
            self._writing = self._loop.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._logins or self._changed:
                if self._logins:
                    name = self._logins.pop()
                    await self._spool.record_refused_logins(name, self._refused[name])
                else:
                    await self._spool.record_learned(self._kept[self._changed.pop()])
        except SpoolError as error:
            _log.warning("what was learned of an upstream can't be recorded: %s", error)
        finally:
            self._writing = None
