"""Settling: outcomes become rows, bounces and log events, in batches, each event after its commit.

:func:`settled` is pure. :class:`Settler` is the one place that calls ``spool.settle`` for attempts, and it never
forgets a batch: where the spool can't record it now, it waits and tries again, and delivery pauses meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from relay.bounce import RecipientReport, wants
from relay.clock import Clock
from relay.delivery.backoff import next_due
from relay.delivery.doubt import decided, is_held
from relay.delivery.items import Item
from relay.delivery.notifying import OFF, Notifier, told
from relay.delivery.steps import Steps
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
LAST_TRY: Final = 600.0
"""Seconds from the start in which mail that was too old by then is tried nevertheless: twice or more, as it is due."""
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
    was not tried either, and waits for an operator. ``suppressed``: its recipients get no mail, and the sender hears of
    it unless it is ``untold``.
    """

    item: Item
    outcomes: Sequence[Outcome]
    attempt: Attempt
    status: Status | None = None
    by_operator: bool = False
    held: bool = False
    suppressed: bool = False
    untold: bool = False


def settled(
    recipient: Recipient,
    outcome: Outcome,
    attempt: Attempt,
    status: Status,
    due: float,
    *,
    dead: bool = False,
    stopped: bool = False,
    suppressed: bool = False,
) -> Settled:
    """The row of one recipient after ``outcome``; ``due`` is used where it was deferred. ``dead``: it failed and nobody
    can be told, so an operator has it. ``stopped``: nothing was tried, and an operator has it. ``suppressed``: nothing
    was tried, nor will be.
    """
    held = dead or stopped or is_held(outcome, attempt.in_doubt)
    state = RecipientState.SUPPRESSED if suppressed else RecipientState.HELD if held else _STATE[outcome.verdict]
    return Settled(
        n=recipient.n,
        address=recipient.address,
        state=state,
        attempts=recipient.attempts + (not (stopped or suppressed)),
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

    def events(self, now: float, name: str) -> Iterator[Event]:
        """It was recorded by ``now``; ``name`` is the message's queue id."""
        attempt, message, status = self.ended.attempt, self.ended.item.message, self.ended.status
        if status is Status.EXPIRED:
            yield Expired(now, name, message.envelope.sender)
        for recipient, outcome in zip(message.envelope.recipients, self.outcomes, strict=True):
            yield Attempted(
                now,
                name,
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
            yield Notice(now, "bounce", f"{name}: {_DEAD}", warning=True)
        for kind, arrival in self.notifications:
            yield from told(kind, arrival, now)


class SettlerOwner(Protocol):
    """The engine, as the settler sees it."""

    def committed(self, ended: Sequence[Ended], done: frozenset[int], next_due: float | None) -> None:
        """These are recorded, and the messages of these numbers ``done`` with it; the earliest of what was deferred is
        due then (Unix seconds).
        """
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
        self._steps = Steps(clock)
        self._started = clock.now()
        self._emit = emit
        self._owner = owner
        self._portion = portion
        self._notifier = Notifier(spool, reporter)
        self._chance = chance
        self._waiting: list[Ended] = []
        self._recording = 0
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

    @property
    def pending(self) -> int:
        """How many are not recorded yet."""
        return len(self._waiting) + self._recording

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
            self._recording = len(batch)
            if batch:
                await self._record(batch)
            self._recording = 0
            if self._waiting:
                self._bell.set()
            else:
                self._idle.set()

    async def _record(self, batch: list[Ended]) -> None:
        self._steps.ahead(self.settings.lifetime)  # so that a step is noticed when it happens
        now = self._clock.now()
        settlements: list[Settlement] = []
        news: list[_News] = []
        soonest: float | None = None
        for ended in batch:
            policy = ended.attempt.in_doubt
            outcomes = ended.outcomes if policy == "retry" else [decided(each, policy) for each in ended.outcomes]
            reports = self._reports(ended, outcomes, now)
            notifications = await self._notifications(ended.item, reports, now) if reports else ()
            rows, dead, due = self._rows(ended, outcomes, now)
            if due is not None:
                soonest = due if soonest is None else min(soonest, due)
            bounces = tuple(arrival for _, arrival in notifications)
            settlements.append(Settlement(ended.item.message.number, ended.item.nrcpt, now, rows, bounces))
            news.append(_News(ended, outcomes, notifications, dead))
        done = await self._commit(settlements)
        now = self._clock.now()
        # Parts of one message may be settled together: it is removed behind the lines of the last one.
        last = {settlement.number: settlement for settlement in settlements}
        emit = self._emit
        for settlement, its_news in zip(settlements, news, strict=True):
            number = settlement.number
            name = queue_id(number)
            for event in its_news.events(now, name):
                emit(event)
            if number in done and settlement is last[number]:
                emit(Removed(now, name))
        if any(settlement.bounces for settlement in settlements):
            soonest = now
        self._owner.committed(batch, done, soonest)

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

    def _rows(
        self, ended: Ended, outcomes: Sequence[Outcome], now: float
    ) -> tuple[tuple[Settled, ...], bool, float | None]:
        """A row for each recipient; whether nobody can be told of a failure; when the first of them is due again."""
        attempt, message = ended.attempt, ended.item.message
        end = self.expires(message)
        rows: list[Settled] = []
        dead = False
        soonest: float | None = None
        for recipient, outcome in zip(message.envelope.recipients, outcomes, strict=True):
            verdict = outcome.verdict
            due = end
            if verdict is Verdict.DEFERRED:
                due = next_due(recipient.attempts + 1, now, end, self.settings.backoff, self._chance())
            # A notification that fails has nobody left to tell, unless it was an operator who failed it.
            decided_here = ended.by_operator or ended.suppressed
            dies = verdict is Verdict.FAILED and message.is_notification and not decided_here
            status, stopped, suppressed = ended.status or _STATUS[verdict], ended.held, ended.suppressed
            row = settled(recipient, outcome, attempt, status, due, dead=dies, stopped=stopped, suppressed=suppressed)
            rows.append(row)
            dead = dead or dies
            if row.due is not None:
                soonest = row.due if soonest is None else min(soonest, row.due)
        return tuple(rows), dead, soonest

    def _reports(
        self, ended: Ended, outcomes: Sequence[Outcome], now: float
    ) -> Mapping[Notification, list[RecipientReport]]:
        """What the sender is to be told of this settlement, in one notification of each kind."""
        item, attempt = ended.item, ended.attempt
        envelope = item.message.envelope
        reports: dict[Notification, list[RecipientReport]] = {}
        if not envelope.sender or self.settings.bounces == OFF or ended.untold:
            return reports
        for recipient, outcome in zip(envelope.recipients, outcomes, strict=True):
            kind = _TOLD[outcome.verdict]
            if kind is None or not wants(kind, envelope, recipient):
                continue
            # RFC 3461 §5.2.1: a server that offers DSN heard the same request, and tells by itself.
            if kind is Notification.SUCCESS and attempt.passes_dsn:
                continue
            at = now if attempt.upstream else None
            reports.setdefault(kind, []).append(RecipientReport(recipient, outcome, attempt.relay, at))
        return reports

    async def _notifications(
        self, item: Item, reports: Mapping[Notification, list[RecipientReport]], now: float
    ) -> list[tuple[Notification, Arrival]]:
        return [
            (kind, await self._notifier.arrival(kind, item.message, item.content, each, self.settings, now=now))
            for kind, each in reports.items()
        ]

    def expires(self, message: Message) -> float:
        """Unix seconds from which on it isn't tried any more: its lifetime's end, or the application's own deadline.

        A lifetime is lived through: where the wall clock was set ahead it ends as much later; and what was over before
        anybody could try it, in a relay that was off for days, is tried first. A deadline is a date.
        """
        end = expires(message, self.settings)
        if end > self._clock.now() or end == message.not_after:
            return end
        if end < self._started:
            end = self._started + min(LAST_TRY, end - message.arrived)
        end += self._steps.ahead(self.settings.lifetime)
        return end if message.not_after is None else min(end, message.not_after)


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
