"""Suppression at work: who is suppressed hears of it at the door or gets nothing, hard bounces add to the list.

The list stands in memory as digests, loaded at the start: no message asks the spool. What is added counts at once and
is written a moment later; a crash in between forgets it until the address bounces again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from relay.clock import Clock
from relay.delivery.expiry import HERE
from relay.delivery.items import Item
from relay.delivery.settle import Ended
from relay.events import Emit, Status
from relay.events import Suppressed as SuppressedEvent
from relay.feedback import is_hard
from relay.feedback.suppressed import SHARDS, Suppressed
from relay.outcome import Outcome, Reply, Scope, Verdict
from relay.settings import SuppressionSettings
from relay.spool import Spool, SpoolError
from relay.suppression import Cause, Entry, Suppression, digest_of

_log = logging.getLogger(__name__)
PAGE: Final = 20_000
"""Entries read at a time at the start."""
CODE: Final = "5.1.1"
"""RFC 3463 §3.2, as providers answer for what is on their lists: an application that minds hard bounces stops."""
_WORDS: Final = {
    Cause.BOUNCE: "after a hard bounce",
    Cause.COMPLAINT: "after a complaint",
    Cause.OPERATOR: "by an operator",
}


class Suppressing:
    """``settings`` None: nobody is suppressed, whatever the list says."""

    def __init__(self, spool: Spool, clock: Clock, emit: Emit, settings: SuppressionSettings | None) -> None:
        self._spool = spool
        self._clock = clock
        self._emit = emit
        self._settings = settings
        self._list = Suppressed()
        self._loop = asyncio.get_running_loop()
        self._grew_at = float("-inf")  # loop time
        self._unwritten: list[tuple[Suppression, SuppressedEvent | None]] = []
        self._writing: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Read the list; to be awaited once, before anything is taken or sent."""
        after = 0
        while page := await self._spool.suppressed(after, PAGE):
            for _, entry in page:
                self._list.add(entry)
            after = page[-1][0]

    def configure(self, settings: SuppressionSettings | None) -> None:
        """Go by these from now on; the list stays."""
        self._settings = settings
        self._grew_at = self._loop.time()

    # -- at the door ------------------------------------------------------------------------------------------------
    def refusal(self, address: str) -> Reply | None:
        """What an application hears that names ``address`` as a recipient; None: it is taken."""
        if self._settings is None or self._settings.at_the_door != "refuse":
            return None
        entry = self._find(address)
        return None if entry is None else Reply(550, f"<{address}>: Recipient address rejected: {_why(entry)}", CODE)

    # -- in delivery ------------------------------------------------------------------------------------------------
    def sift(self, items: Sequence[Item], end: Callable[[Ended], None]) -> Sequence[Item]:
        """What is to go out of ``items``; ``end`` takes what is not."""
        if self._settings is None or not self._list:
            return items
        kept: list[Item] = []
        for item in items:
            recipients = item.message.envelope.recipients
            found = {n: entry for n, r in enumerate(recipients) if (entry := self._find(r.address)) is not None}
            if not found:
                kept.append(item)
                continue
            outcomes = [Outcome(Verdict.FAILED, Scope.RECIPIENT, CODE, _why(entry)) for entry in found.values()]
            stopped = item
            if len(found) < len(recipients):
                kept.append(item.only([n for n in range(len(recipients)) if n not in found]))
                stopped = item.only(list(found))
                stopped.octets = 0  # the part that goes on carries the weight
            # Who wants to be refused at the door wants to hear of what slipped past it too.
            untold = self._settings.at_the_door == "accept"
            here = replace(HERE, delays=(item.waited, max(0.0, self._loop.time() - item.active), 0.0, 0.0))
            end(Ended(stopped, outcomes, here, Status.BOUNCED, suppressed=True, untold=untold))
        return kept

    def late(self, item: Item, end: Callable[[Ended], None]) -> Item | None:
        """What is still to go out of an item that was sifted when it came, hours ago perhaps; None: nothing."""
        return item if item.active > self._grew_at else next(iter(self.sift((item,), end)), None)

    def counted(self, ended: Sequence[Ended]) -> None:
        """These are recorded: what bounced for good in a way that tells of its address suppresses it."""
        settings = self._settings
        if settings is None or not settings.hard_bounces:
            return
        for each in ended:
            if not each.attempt.upstream or each.by_operator:
                continue
            for recipient, outcome in zip(each.item.message.envelope.recipients, each.outcomes, strict=True):
                if outcome.verdict is Verdict.FAILED and outcome.scope is Scope.RECIPIENT and is_hard(outcome.dsn):
                    self.bounced(recipient.address, outcome.detail, each.item.message.queue_id)

    def bounced(self, address: str, detail: str, queue_id: str = "") -> None:
        """A hard bounce, be it told in reply to RCPT or later."""
        settings = self._settings
        if settings is None or not settings.hard_bounces:
            return
        now = self._clock.now()
        until = None if settings.ttl is None else now + settings.ttl
        self._add(Suppression(address, Cause.BOUNCE, now, until, detail), queue_id)

    def complained(self, address: str, detail: str, queue_id: str = "") -> None:
        """Somebody does not want our mail: not again until an operator says so."""
        if self._settings is not None:
            self._add(Suppression(address, Cause.COMPLAINT, self._clock.now(), None, detail), queue_id)

    # -- operators --------------------------------------------------------------------------------------------------
    async def suppress(self, found: Sequence[Suppression]) -> int:
        """Durable on return; how many addresses were not suppressed before."""
        await self.written()
        new = await self._spool.suppress(found)
        for each in found:
            self._list.add(Entry(each.digest, each.cause, each.until))
        self._grew_at = self._loop.time()
        return new

    async def unsuppress(self, digests: Sequence[int]) -> int:
        """Durable on return; how many of them were suppressed."""
        await self.written()
        gone = await self._spool.unsuppress(digests)
        for digest in digests:
            self._list.remove(digest)
        return gone

    async def forget(self) -> None:
        """Let go of those whose time is over."""
        now = self._clock.now()
        await self._spool.forget_suppressions(now)
        for shard in range(SHARDS):
            self._list.forget(shard, now)
            await asyncio.sleep(0)

    async def written(self) -> None:
        """Wait until all that was added is written."""
        while self._writing is not None:
            await self._writing

    # -- inside -----------------------------------------------------------------------------------------------------
    def _find(self, address: str) -> Entry | None:
        return self._list.find(digest_of(address), self._clock.now()) if self._list else None

    def _add(self, found: Suppression, queue_id: str) -> None:
        is_new = self._find(found.address) is None
        if not self._list.add(Entry(found.digest, found.cause, found.until)):
            return
        self._grew_at = self._loop.time()
        ends = None if found.until is None else _iso(found.until)
        told = SuppressedEvent(found.at, queue_id, found.address, found.cause.value, ends, found.detail)
        self._unwritten.append((found, told if is_new else None))
        if self._writing is None:
            self._writing = self._loop.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._unwritten:
                some, self._unwritten = self._unwritten, []
                await self._spool.suppress([found for found, _ in some])
                for _, told in some:
                    if told is not None:
                        self._emit(replace(told, at=self._clock.now()))
        except SpoolError as error:
            _log.warning("suppressed addresses can't be recorded: %s", error)
        finally:
            self._writing = None


def _why(entry: Entry) -> str:
    until = "" if entry.until is None else f", until {_iso(entry.until)}"
    return f"suppressed {_WORDS[entry.cause]}{until}"


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
