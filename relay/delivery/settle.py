"""Settling: outcomes become rows, bounces and log events, in batches, each event after its commit.

:func:`settled` is pure. :class:`Settler` is the one place that calls ``spool.settle`` for attempts, and it never
forgets a batch: where the spool can't record it now, it waits and tries again, and delivery pauses meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from relay.bounce import RecipientReport, wants
from relay.clock import Clock
from relay.delivery.backoff import next_due
from relay.delivery.doubt import decided, is_held
from relay.delivery.items import Item
from relay.delivery.notifying import OFF, Notifier, told
from relay.events import (
    Attempted,
    Emit,
    Event,
    Expired,
    Notice,
    Notification,
    Removed,
    Status,
    spell_delays,
)
from relay.mail import Message, Recipient, RecipientState, queue_id
from relay.outcome import Outcome, Verdict
from relay.settings import InDoubt, QueueSettings
from relay.spool import Arrival, Settled, Settlement, Spool, SpoolBroken, SpoolError
from relay.value import dataclass

_log = logging.getLogger(__name__)
RETRY: Final = 1.0
"""Seconds between tries to record a batch that the spool could not take."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """How and where the outcomes came about; ``upstream`` is "" where nothing was attempted.

    ``in_doubt`` is that upstream's policy; ``passes_dsn``: the server heard what the application asked of RFC 3461.
    """

    upstream: str
    relay: str
    conn_use: int
    delays: tuple[float, float, float, float]
    in_doubt: InDoubt = "retry"
    passes_dsn: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """An item with one outcome per recipient of its envelope. ``by_operator``: it was decided, not tried. ``held``: it
    was not tried either, and waits for an operator.
    """

    item: Item
    outcomes: Sequence[Outcome]
    attempt: Attempt
    status: Status | None = None
    by_operator: bool = False
    held: bool = False


def settled(
    recipient: Recipient,
    outcome: Outcome,
    attempt: Attempt,
    status: Status,
    due: float,
    *,
    dead: bool = False,
    stopped: bool = False,
) -> Settled:
    """The row of one recipient after ``outcome``; ``due`` is used where it was deferred. ``dead``: it failed and nobody
    can be told, so an operator has it. ``stopped``: nothing was tried, and an operator has it.
    """
    held = dead or stopped or is_held(outcome, attempt.in_doubt)
    state = RecipientState.HELD if held else _STATE[outcome.verdict]
    return Settled(
        n=recipient.n,
        address=recipient.address,
        state=state,
        attempts=recipient.attempts + (not stopped),
        due=due if state is RecipientState.WAITING else None,
        upstream=attempt.upstream,
        relay=attempt.relay,
        status=status.value,
        dsn=outcome.dsn,
        detail=f"dead letter: {outcome.detail}" if dead else outcome.detail,
        delays=spell_delays(attempt.delays),
    )


def returned(item: Item, now: float) -> Settlement:
    """An item given back to the spool, due now, as if it had never been leased."""
    rows = tuple(
        Settled(r.n, r.address, RecipientState.WAITING, r.attempts, due=now, charged=False)
        for r in item.message.envelope.recipients
    )
    return Settlement(item.number, item.nrcpt, now, rows)


def expires(message: Message, settings: QueueSettings) -> float:
    """Unix seconds from which on it isn't tried any more: its lifetime's end, or the application's own deadline."""
    end = message.arrived + (settings.lifetime if message.envelope.sender else settings.bounce_lifetime)
    return end if message.not_after is None else min(end, message.not_after)


@dataclass(frozen=True, slots=True)
class _News:
    """What is to be told of a settlement once it is recorded; ``dead``: nobody can be told of a failure."""

    ended: Ended
    outcomes: Sequence[Outcome]
    notifications: Sequence[tuple[Notification, Arrival]]
    dead: bool

    def events(self, now: float) -> Iterator[Event]:
        """It was recorded by ``now``."""
        attempt, message, status = self.ended.attempt, self.ended.item.message, self.ended.status
        if status is Status.EXPIRED:
            yield Expired(now, message.queue_id, message.envelope.sender)
        for recipient, outcome in zip(message.envelope.recipients, self.outcomes, strict=True):
            yield Attempted(
                now,
                message.queue_id,
                recipient.address,
                attempt.upstream,
                attempt.relay,
                status or _STATUS[outcome.verdict],
                outcome.dsn,
                outcome.detail,
                attempt.delays,
                attempt.conn_use,
                outcome.in_doubt,
            )
        if self.dead:
            yield Notice(now, "bounce", f"{message.queue_id}: {_DEAD}", warning=True)
        for kind, arrival in self.notifications:
            yield from told(kind, arrival, now)


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
        portion: Callable[[], int],
        *,
        reporter: str,
        chance: Callable[[], float],
    ) -> None:
        self.settings = settings
        self._spool = spool
        self._clock = clock
        self._emit = emit
        self._owner = owner
        self._portion = portion
        self._notifier = Notifier(spool, reporter)
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
            most = self._portion()
            batch, self._waiting = self._waiting[:most], self._waiting[most:]
            if batch:
                await self._record(batch)
            if self._waiting:
                self._bell.set()
            else:
                self._idle.set()

    async def _record(self, batch: list[Ended]) -> None:
        now = self._clock.now()
        settlements: list[Settlement] = []
        news: list[_News] = []
        soonest: float | None = None
        for ended in batch:
            settlement, its_news = await self._settlement(ended, now)
            settlements.append(settlement)
            news.append(its_news)
            for each in settlement.recipients:
                if each.due is not None:
                    soonest = each.due if soonest is None else min(soonest, each.due)
        done = await self._commit(settlements)
        now = self._clock.now()
        reported: set[int] = set()
        for settlement, its_news in zip(settlements, news, strict=True):
            for event in its_news.events(now):
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

    async def _settlement(self, ended: Ended, now: float) -> tuple[Settlement, _News]:
        item, attempt = ended.item, ended.attempt
        message = item.message
        outcomes = [decided(outcome, attempt.in_doubt) for outcome in ended.outcomes]
        end = self.expires(message)
        rows: list[Settled] = []
        dead = False
        for recipient, outcome in zip(message.envelope.recipients, outcomes, strict=True):
            status = ended.status or _STATUS[outcome.verdict]
            due = end
            if outcome.verdict is Verdict.DEFERRED:
                due = next_due(recipient.attempts + 1, now, end, self.settings.backoff, self._chance())
            # A notification that fails has nobody left to tell, unless it was an operator who failed it.
            dies = message.is_notification and outcome.verdict is Verdict.FAILED and not ended.by_operator
            rows.append(settled(recipient, outcome, attempt, status, due, dead=dies, stopped=ended.held))
            dead = dead or dies
        notifications = await self._notifications(ended, outcomes, now)
        bounces = tuple(arrival for _, arrival in notifications)
        settlement = Settlement(item.number, item.nrcpt, now, tuple(rows), bounces)
        return settlement, _News(ended, outcomes, notifications, dead)

    async def _notifications(
        self, ended: Ended, outcomes: Sequence[Outcome], now: float
    ) -> list[tuple[Notification, Arrival]]:
        """What the sender is told of this settlement: one notification of failures, one of successes."""
        item, attempt = ended.item, ended.attempt
        message = item.message
        if not message.envelope.sender or self.settings.bounces == OFF:
            return []
        reports: dict[Notification, list[RecipientReport]] = {}
        for recipient, outcome in zip(message.envelope.recipients, outcomes, strict=True):
            kind = _TOLD[outcome.verdict]
            if kind is None or not wants(kind, message.envelope, recipient):
                continue
            # RFC 3461 §5.2.1: a server that offers DSN heard the same request, and tells by itself.
            if kind is Notification.SUCCESS and attempt.passes_dsn:
                continue
            at = now if attempt.upstream else None
            reports.setdefault(kind, []).append(RecipientReport(recipient, outcome, attempt.relay, at))
        return [
            (kind, await self._notifier.arrival(kind, message, item.content, each, self.settings, now=now))
            for kind, each in reports.items()
        ]

    def expires(self, message: Message) -> float:
        """Unix seconds from which on it isn't tried any more: its lifetime's end, or the application's own deadline."""
        return expires(message, self.settings)


_DEAD: Final = "the notification can't be delivered and is kept as a dead letter (relay queue list --state dead)"

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

_TOLD: Final = {
    Verdict.RELAYED: Notification.SUCCESS,
    Verdict.DEFERRED: None,
    Verdict.FAILED: Notification.FAILURE,
}
