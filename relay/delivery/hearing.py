"""What is done with feedback: it is logged, it feeds the brake, and it suppresses addresses.

A report that shows our queue id tells through the message itself by which upstream it went, who sent it and under which
tag, for as long as the history knows it; else what the report says is gone by.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from relay.clock import Clock
from relay.delivery.brake import sources_of
from relay.delivery.engine import Engine
from relay.events import Emit, Reported
from relay.feedback import Feedback, Said, Unbelievable
from relay.feedback.arf import read_report
from relay.lessons import Source
from relay.mail import queue_number
from relay.spool import Spool, SpoolError, Story

_log = logging.getLogger(__name__)


class Hearing:
    """Takes feedback for one engine."""

    def __init__(self, spool: Spool, clock: Clock, emit: Emit, engine: Engine) -> None:
        self._spool = spool
        self._clock = clock
        self._emit = emit
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._reports: set[asyncio.Task[None]] = set()

    def report(self, octets: bytes, upstream: str) -> None:
        """An abuse report that ``upstream`` sends; read and acted on soon."""
        try:
            said = read_report(octets, upstream)
        except Unbelievable as error:
            _log.warning("a report of %s can't be read: %s", upstream, error)
            return
        task = self._loop.create_task(self.take(said, upstream))
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def take(self, said: Sequence[Feedback], upstream: str = "") -> None:
        """Act on these; ``upstream`` names the one that they came by, "" where that is not known."""
        for each in said:
            await self._take(each, upstream)

    async def _take(self, said: Feedback, upstream: str) -> None:
        story = await self._story(said)
        queue_id = "" if story is None else story.queued.message.queue_id
        self._emit(Reported(self._clock.now(), queue_id, said.recipient, said.said, said.provider, said.detail))
        is_complaint = said.said is Said.COMPLAINT
        sources = _sources(said, story, upstream)
        braking = self._engine.braking
        if braking is not None and braking.heard(
            sources, bounced=said.hard and not is_complaint, complained=is_complaint
        ):
            self._engine.hold_stopped(braking)
        suppressing = self._engine.suppressing
        if suppressing is None:
            return
        if is_complaint:
            suppressing.complained(said.recipient, said.detail, queue_id)
        elif said.hard:
            suppressing.bounced(said.recipient, said.detail, queue_id)

    async def _story(self, said: Feedback) -> Story | None:
        """The message's own, if it ever went to that recipient: anybody can write our ids into a report."""
        number = queue_number(said.queue_id)
        if number is None:
            return None
        try:
            story = await self._spool.story(number)
        except SpoolError as error:
            _log.warning("what is known of %s can't be read: %s", said.queue_id, error)
            return None
        address = said.recipient.lower()
        if story is None or all(each.address.lower() != address for each in story.queued.recipients):
            return None
        return story


def _sources(said: Feedback, story: Story | None, upstream: str) -> list[Source]:
    if story is None:
        found = [Source("upstream", upstream)] if upstream else []
        return [*found, Source("sender", said.sender.lower())] if said.sender else found
    address = said.recipient.lower()
    by = next((r.upstream for r in story.queued.recipients if r.address.lower() == address and r.upstream), upstream)
    return sources_of(story.queued.message, (by,) if by else ())
