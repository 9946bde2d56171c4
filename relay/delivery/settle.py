"""Settling: outcomes become rows, bounces and log events, in batches, each event after its commit.

:func:`settled` is pure. :class:`Settler` is the one place that calls ``spool.settle`` for attempts, and it never
forgets a batch: where the spool can't record it now, it waits and tries again, and delivery pauses meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from relay.bounce import Failure, bounce, wants_bounce
from relay.clock import Clock
from relay.delivery.backoff import next_due
from relay.delivery.items import Item
from relay.events import Accepted, Attempted, Bounced, Emit, Event, Expired, Removed, Status, spell_delays
from relay.mail import Envelope, Message, Recipient, RecipientState, queue_id
from relay.outcome import Outcome, Verdict
from relay.settings import QueueSettings
from relay.spool import Arrival, Settled, Settlement, Spool, SpoolBroken, SpoolError

_log = logging.getLogger(__name__)
RETRY: Final = 1.0
"""Seconds between tries to record a batch that the spool could not take."""
_HEAD: Final = 65_536
"""Octets of the original that a bounce looks for header fields in."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """How and where the outcomes came about."""

    upstream: str
    relay: str
    conn_use: int
    delays: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Ended:
    """An item with one outcome per recipient of its envelope."""

    item: Item
    outcomes: Sequence[Outcome]
    attempt: Attempt
    status: Status | None = None


def settled(
    recipient: Recipient, outcome: Outcome, attempt: Attempt, status: Status, now: float, expires: float, due: float
) -> Settled:
    """The row of one recipient after ``outcome``; ``due`` is used where it was deferred."""
    state = _STATE[outcome.verdict]
    when = min(due, max(expires, now)) if state is RecipientState.WAITING else None
    return Settled(
        n=recipient.n,
        address=recipient.address,
        state=state,
        attempts=recipient.attempts + 1,
        due=when,
        upstream=attempt.upstream,
        relay=attempt.relay,
        status=status.value,
        dsn=outcome.dsn,
        detail=outcome.detail,
        delays=spell_delays(attempt.delays),
    )


def returned(item: Item, now: float) -> Settlement:
    """An item given back to the spool, due now, as if it had never been leased."""
    rows = tuple(
        Settled(r.n, r.address, RecipientState.WAITING, r.attempts, due=now, charged=False)
        for r in item.message.envelope.recipients
    )
    return Settlement(item.number, item.nrcpt, now, rows)


class SettlerOwner(Protocol):
    """The engine, as the settler sees it."""

    def committed(self, ended: Sequence[Ended], next_due: float | None) -> None:
        """These are recorded; the earliest of what was deferred is due then (Unix seconds)."""
        ...


class Settler:
    """``chance`` gives random numbers in [0, 1) for jitter; ``reporter`` names us in bounces."""

    def __init__(
        self,
        spool: Spool,
        settings: QueueSettings,
        clock: Clock,
        emit: Emit,
        owner: SettlerOwner,
        *,
        reporter: str,
        chance: Callable[[], float],
    ) -> None:
        self.settings = settings
        self._spool = spool
        self._clock = clock
        self._emit = emit
        self._owner = owner
        self._reporter = reporter
        self._chance = chance
        self._waiting: list[Ended] = []
        self._bell = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.stuck: str | None = None
        """Why outcomes can't be recorded now: delivery pauses."""

    def put(self, ended: Ended) -> None:
        """Have it recorded with the next batch."""
        self._waiting.append(ended)
        self._idle.clear()
        self._bell.set()

    async def drained(self) -> None:
        """Wait until all that was put is recorded."""
        await self._idle.wait()

    async def run(self) -> None:
        """Record batch after batch, until cancelled."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            batch, self._waiting = self._waiting, []
            if batch:
                await self._record(batch)
            if not self._waiting:
                self._idle.set()

    async def _record(self, batch: list[Ended]) -> None:
        now = self._clock.now()
        settlements: list[Settlement] = []
        events: list[list[Event]] = []
        soonest: float | None = None
        for ended in batch:
            settlement, its_events = await self._settlement(ended, now)
            settlements.append(settlement)
            events.append(its_events)
            for each in settlement.recipients:
                if each.due is not None:
                    soonest = each.due if soonest is None else min(soonest, each.due)
        done = await self._commit(settlements)
        now = self._clock.now()
        reported: set[int] = set()
        for settlement, its_events in zip(settlements, events, strict=True):
            for event in its_events:
                self._emit(event)
            if settlement.number in done and settlement.number not in reported:
                reported.add(settlement.number)
                self._emit(Removed(now, queue_id(settlement.number)))
        if any(settlement.bounces for settlement in settlements):
            soonest = now
        self._owner.committed(batch, soonest)

    async def _commit(self, settlements: list[Settlement]) -> frozenset[int]:
        while True:
            try:
                done = await self._spool.settle(settlements)
            except SpoolBroken:
                raise
            except SpoolError as error:
                if self.stuck is None:
                    _log.error("outcomes can't be recorded: %s; delivery pauses", error)
                self.stuck = str(error)
                await asyncio.sleep(RETRY)
            else:
                self.stuck = None
                return done

    async def _settlement(self, ended: Ended, now: float) -> tuple[Settlement, list[Event]]:
        item, attempt = ended.item, ended.attempt
        message = item.message
        expires = self.expires(message)
        rows: list[Settled] = []
        events: list[Event] = []
        failures: list[Failure] = []
        for recipient, outcome in zip(message.envelope.recipients, ended.outcomes, strict=True):
            status = ended.status or _STATUS[outcome.verdict]
            due = next_due(recipient.attempts + 1, now, expires, self.settings.backoff, self._chance())
            rows.append(settled(recipient, outcome, attempt, status, now, expires, due))
            events.append(
                Attempted(
                    now,
                    message.queue_id,
                    recipient.address,
                    attempt.upstream,
                    attempt.relay,
                    status,
                    outcome.dsn,
                    outcome.detail,
                    attempt.delays,
                    attempt.conn_use,
                    outcome.in_doubt,
                )
            )
            if outcome.verdict is Verdict.FAILED and wants_bounce(message.envelope, recipient):
                failures.append(Failure(recipient, outcome, attempt.relay))
        if ended.status is Status.EXPIRED:
            events.insert(0, Expired(now, message.queue_id, message.envelope.sender))
        bounces: tuple[Arrival, ...] = ()
        if failures and self.settings.bounces != "off":
            arrival = await self._bounce(item, failures, now)
            bounces = (arrival,)
            events.append(Bounced(now, message.queue_id, arrival.message.queue_id))
            events.append(_accepted(arrival, now))
        return Settlement(item.number, item.nrcpt, now, tuple(rows), bounces), events

    def expires(self, message: Message) -> float:
        """Unix seconds from which on it isn't tried any more: its lifetime's end, or the application's own deadline."""
        settings = self.settings
        end = message.arrived + (settings.lifetime if message.envelope.sender else settings.bounce_lifetime)
        return end if message.not_after is None else min(end, message.not_after)

    async def _bounce(self, item: Item, failures: list[Failure], now: float) -> Arrival:
        message = item.message
        head = item.content
        if head is None:
            try:
                head = await self._spool.content(message.number, 0)
            except SpoolBroken:
                raise
            except SpoolError:
                head = b""
        number = self._spool.allocate(now)
        content, message_id = bounce(
            message, head[:_HEAD], failures, reporter=self._reporter, bounce_id=queue_id(number), now=now
        )
        envelope = Envelope("", (Recipient(0, message.envelope.sender),), smtputf8=message.envelope.smtputf8)
        return Arrival(Message(number, envelope, len(content), now, message_id), content, bounce_of=message.queue_id)


def _accepted(arrival: Arrival, now: float) -> Accepted:
    message = arrival.message
    return Accepted(
        now,
        message.queue_id,
        None,
        message.message_id,
        message.envelope.sender,
        message.size,
        len(message.envelope.recipients),
        arrival.bounce_of,
    )


_STATUS: Final = {
    Verdict.RELAYED: Status.SENT,
    Verdict.DEFERRED: Status.DEFERRED,
    Verdict.FAILED: Status.BOUNCED,
}

_STATE: Final = {
    Verdict.RELAYED: RecipientState.RELAYED,
    Verdict.DEFERRED: RecipientState.WAITING,
    Verdict.FAILED: RecipientState.FAILED,
}
