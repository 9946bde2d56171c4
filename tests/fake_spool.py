"""The spool's port in memory, for tests that need one and not its durability."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from relay.backlog import Dues
from relay.lessons import BrakeRecord, LearnedRecord, Source, held_by
from relay.mail import Message, RecipientState, next_queue_number
from relay.spool import (
    ORDINARY,
    Arrival,
    AttemptRecord,
    Begun,
    Claimed,
    Delayed,
    Duplicate,
    QueuedMessage,
    QueuedRecipient,
    QuotaRecord,
    Selector,
    Settled,
    Settlement,
    Story,
    Totals,
    Warned,
)
from relay.suppression import Entry, Suppression, SuppressionQuery, digest_of, outlasts

_ORDER = ("leased", "waiting", "deferred", "held")


@dataclass
class _Row:
    n: int
    address: str
    state: str
    due: float | None
    attempts: int = 0
    upstream: str | None = None
    detail: str | None = None
    begun: str | None = None
    warned: float | None = None

    def shown(self, now: float) -> str:
        return "deferred" if self.state == "waiting" and self.due is not None and self.due > now else self.state


@dataclass
class _Kept:
    message: Message
    rows: list[_Row]
    parts: dict[int, bytes]
    attempts: list[AttemptRecord] = field(default_factory=list)
    turn: int = ORDINARY

    def state(self, now: float) -> str | None:
        states = {row.shown(now) for row in self.rows}
        return next((state for state in _ORDER if state in states), None)

    def queued(self, now: float) -> QueuedMessage:
        return QueuedMessage(
            self.message,
            tuple(
                QueuedRecipient(
                    r.n, r.address, r.shown(now), r.attempts, r.due, r.upstream, r.detail, r.begun is not None
                )
                for r in self.rows
            ),
        )


class FakeSpool:
    """Implements :class:`relay.spool.Spool`; ``error`` is raised by every verb where it is set."""

    def __init__(self) -> None:
        self.kept: dict[int, _Kept] = {}
        self.staged: dict[int, dict[int, bytes]] = {}
        self.sent: dict[str, int] = {}
        self.imprints: dict[bytes, tuple[int, float]] = {}
        self.error: Exception | None = None
        self.quota_gate: asyncio.Event | None = None
        self.quota_error: Exception | None = None
        self.quota: dict[str, QuotaRecord] = {}
        """The latest record of each upstream, which holds only what changed."""
        self.lessons: dict[str, LearnedRecord] = {}
        self.logins: dict[str, tuple[float, ...]] = {}
        self.stopped: dict[Source, BrakeRecord] = {}
        self.listed: dict[int, Suppression] = {}
        self.closed = False
        self._last = 0

    def allocate(self, now: float) -> int:
        self._last = next_queue_number(self._last, now)
        return self._last

    def check_room(self, size: int) -> None:
        self._check()

    async def stage(self, number: int, part: int, octets: bytes) -> None:
        self._check()
        self.staged.setdefault(number, {})[part] = octets

    async def discard(self, number: int) -> None:
        self.staged.pop(number, None)

    async def accept(self, arrival: Arrival) -> Duplicate | None:
        self._check()
        message = arrival.message
        for imprint in arrival.imprints:
            first, until = self.imprints.get(imprint.digest, (0, 0.0))
            if until > message.arrived:
                self.staged.pop(message.number, None)
                return Duplicate(first, imprint.kind)
        for imprint in arrival.imprints:
            self.imprints[imprint.digest] = (message.number, message.arrived + imprint.window)
        state = "leased" if arrival.leased else "waiting"
        rows = [_Row(r.n, r.address, state, message.arrived, r.attempts) for r in message.envelope.recipients]
        staged = self.staged.pop(message.number, {})
        parts = staged if arrival.content is None else {0: arrival.content}
        self.kept[message.number] = _Kept(message, rows, parts, turn=arrival.turn)
        return None

    async def forget_imprints(self, now: float) -> int:
        over = [digest for digest, (_, until) in self.imprints.items() if until <= now]
        for digest in over:
            del self.imprints[digest]
        return len(over)

    async def rescue(self, now: float) -> int:
        return sum(
            self._move(kept, {"leased"}, "waiting", now)
            for kept in self.kept.values()
            if not any(row.begun for row in kept.rows)
        )

    async def begun(self) -> list[Begun]:
        self._check()
        return [
            Begun(claimed=self._lease(kept, rows, None), where=where)
            for kept in self._open()
            if (rows := [r for r in kept.rows if r.state == "leased" and r.begun]) and (where := rows[0].begun)
        ]

    async def begin(self, number: int, recipients: Sequence[int], where: str) -> None:
        self._check()
        for n in recipients:
            self.kept[number].rows[n].begun = where

    async def delayed(self, after: int, before: float, limit: int) -> list[Delayed]:
        self._check()
        found = []
        for kept in sorted(self._open(), key=lambda k: k.message.number):
            message = kept.message
            rows = [r for r in kept.rows if r.state in {"waiting", "leased"} and r.warned is None]
            if rows and message.number > after and message.arrived < before and message.envelope.sender:
                of = {r.n for r in rows}
                recipients = tuple(r for r in message.envelope.recipients if r.n in of)
                envelope = replace(message.envelope, recipients=recipients)
                last = tuple(
                    next((a for a in reversed(kept.attempts) if a.address == r.address), None) for r in recipients
                )
                found.append(Delayed(replace(message, envelope=envelope), last))
        return found[:limit]

    async def waiting_since(self, before: float) -> float | None:
        self._check()
        waiting = [k for k in self._open() if any(r.state in {"waiting", "leased"} for r in k.rows)]
        return min((k.message.arrived for k in waiting if k.message.arrived >= before), default=None)

    async def warn(self, warned: Sequence[Warned]) -> frozenset[int]:
        self._check()
        for each in warned:
            for n in each.recipients:
                self.kept[each.number].rows[n].warned = each.at
            await self.accept(each.notification)
        return frozenset(each.number for each in warned)

    async def quotas(self) -> dict[str, QuotaRecord]:
        return dict(self.quota)

    async def learned(self) -> dict[str, LearnedRecord]:
        return dict(self.lessons)

    async def record_learned(self, record: LearnedRecord) -> None:
        self._check()
        self.lessons[record.upstream] = record

    async def refused_logins(self) -> dict[str, tuple[float, ...]]:
        return dict(self.logins)

    async def record_refused_logins(self, upstream: str, times: Sequence[float]) -> None:
        self._check()
        if times:
            self.logins[upstream] = tuple(times)
        else:
            self.logins.pop(upstream, None)

    async def brakes(self) -> list[BrakeRecord]:
        return list(self.stopped.values())

    async def brake(self, record: BrakeRecord) -> None:
        self._check()
        self.stopped[record.source] = record

    async def unbrake(self, source: Source, now: float) -> int:
        self._check()
        self.stopped.pop(source, None)
        released = 0
        for kept in self.kept.values():
            held = [r for r in kept.rows if r.state == "held" and (r.detail or "").startswith(held_by(source))]
            for row in held:
                row.state, row.due = "waiting", now
            released += bool(held)
        return released

    async def record_quota(self, record: QuotaRecord, *, lazy: bool = False) -> None:
        self._check()
        if self.quota_gate is not None:
            await self.quota_gate.wait()
        if self.quota_error is not None:
            raise self.quota_error
        self.quota[record.upstream] = record

    async def due_turns(self, now: float, after: int, limit: int) -> list[int]:
        self._check()
        due = {kept.turn for kept in self._open() if any(r.shown(now) == "waiting" for r in kept.rows)}
        return sorted(turn for turn in due if turn > after)[:limit]

    async def claim(self, now: float, limit: int, octets: int, turns: Mapping[int, int] | None = None) -> list[Claimed]:
        self._check()
        claimed: list[Claimed] = []
        for kept in sorted(self._open(), key=lambda k: min(r.due for r in k.rows if r.due is not None)):
            rows = [r for r in kept.rows if r.shown(now) == "waiting"]
            taken = sum(each.turn == kept.turn for each in claimed)
            if rows and len(claimed) < limit and (turns is None or taken < turns.get(kept.turn, 0)):
                content = kept.parts[0] if len(kept.parts) == 1 and len(kept.parts[0]) <= octets else None
                octets -= len(content or b"")
                claimed.append(self._lease(kept, rows, content))
        return claimed

    async def lease(self, numbers: Sequence[int]) -> list[Claimed]:
        self._check()
        kept_rows = [(kept, [r for r in kept.rows if r.state in {"waiting", "held"}]) for kept in self._of(numbers)]
        return [self._lease(kept, rows, None) for kept, rows in kept_rows if rows]

    async def settle(self, settlements: Sequence[Settlement]) -> frozenset[int]:
        self._check()
        done = set()
        for settlement in settlements:
            kept = self.kept[settlement.number]
            for settled in settlement.recipients:
                row = kept.rows[settled.n]
                if row.state == "leased":
                    self._settle(kept, row, settled, settlement.at)
            for upstream in {s.upstream for s in settlement.recipients if s.state is RecipientState.RELAYED}:
                self.sent[upstream] = self.sent.get(upstream, 0) + 1
            for bounce in settlement.bounces:
                await self.accept(bounce)
            if all(row.due is None for row in kept.rows):
                kept.parts.clear()
                done.add(settlement.number)
        return frozenset(done)

    async def next_due(self, now: float, *, ahead: bool = False) -> float | None:
        dues = [r.due for k in self._open() for r in k.rows if r.state == "waiting" and r.due is not None]
        dues = [due for due in dues if not ahead or due > now]
        return min(dues, default=None)

    async def content(self, number: int, part: int) -> bytes:
        return self.kept[number].parts[part]

    async def totals(self) -> Totals:
        self._check()
        sizes = [kept.message.size for kept in self._open()]
        return Totals(len(sizes), sum(sizes), dict(self.sent))

    async def counts(self, now: float) -> dict[str, int]:
        self._check()
        states = [kept.state(now) for kept in self._open()]
        return {state: states.count(state) for state in _ORDER}

    async def dues(self, now: float, grain: float) -> list[Dues]:
        self._check()
        found: dict[tuple[float, int], list[_Kept]] = {}
        for kept in self._open():
            due = min((row.due for row in kept.rows if row.state in {"waiting", "leased"} and row.due), default=None)
            if due is not None:
                slots = max(0, math.ceil((due - now) / grain)) if kept.state(now) != "leased" else 0
                found.setdefault((now + slots * grain, kept.turn), []).append(kept)
        return [
            Dues(turn, due, len(each), sum(len(kept.rows) for kept in each), each[0].message.number)
            for (due, turn), each in sorted(found.items())
        ]

    async def oldest(self) -> float | None:
        return min((kept.message.arrived for kept in self._open()), default=None)

    async def find(self, selector: Selector, now: float, limit: int | None = None) -> list[QueuedMessage]:
        self._check()
        if selector == Selector():
            return []
        found = [kept for kept in self._open() if self._matches(kept, selector, now)]
        return [kept.queued(now) for kept in sorted(found, key=lambda k: k.message.number)[:limit]]

    async def story(self, number: int) -> Story | None:
        self._check()
        kept = self.kept.get(number)
        return None if kept is None else Story(kept.queued(kept.message.arrived), tuple(kept.attempts))

    async def numbers_of(self, message_id: str) -> list[int]:
        return sorted(n for n, kept in self.kept.items() if kept.message.message_id == message_id)

    async def hold(self, numbers: Sequence[int]) -> int:
        return self._each(numbers, {"waiting"}, "held", None)

    async def release(self, numbers: Sequence[int], now: float) -> int:
        return self._each(numbers, {"held"}, "waiting", now)

    async def retry(self, numbers: Sequence[int], now: float) -> int:
        touched = [row for kept in self._of(numbers) for row in kept.rows if row.shown(now) == "deferred"]
        messages = sum(any(r in touched for r in kept.rows) for kept in self._of(numbers))
        for row in touched:
            row.due = now
        return messages

    async def remove(self, numbers: Sequence[int], at: float) -> int:
        touched = self._each(numbers, {"waiting", "held"}, "failed", None)
        for kept in self._of(numbers):
            for row in kept.rows:
                row.due = None if row.state == "failed" else row.due
        return touched

    async def sweep(self, before: float) -> int:
        old = [n for n, k in self.kept.items() if k.message.arrived < before and all(r.due is None for r in k.rows)]
        for number in old:
            del self.kept[number]
        return len(old)

    async def suppressed(self, after: int, limit: int) -> list[tuple[int, Entry]]:
        self._check()
        entries = [Entry(each.digest, each.cause, each.until) for each in self.listed.values()]
        return list(enumerate(entries, 1))[after : after + limit]

    async def suppressions(self, query: SuppressionQuery, limit: int) -> list[tuple[int, Suppression]]:
        self._check()
        wanted = {digest_of(address) for address in query.addresses}
        return [
            (row, each)
            for row, each in enumerate(self.listed.values(), 1)
            if row > query.after
            and (not wanted or each.digest in wanted)
            and (query.domain is None or each.address.lower().endswith(f"@{query.domain.lower()}"))
            and query.cause in {None, each.cause}
            and (query.since is None or each.at >= query.since)
        ][:limit]

    async def suppress(self, found: Sequence[Suppression]) -> int:
        self._check()
        new = 0
        for each in found:
            there = self.listed.get(each.digest)
            new += there is None
            if there is None or outlasts(each.until, there.until):
                self.listed[each.digest] = each
        return new

    async def unsuppress(self, digests: Sequence[int]) -> int:
        self._check()
        return sum(self.listed.pop(digest, None) is not None for digest in digests)

    async def forget_suppressions(self, now: float) -> int:
        over = [digest for digest, each in self.listed.items() if each.until is not None and each.until <= now]
        return await self.unsuppress(over)

    async def beat(self) -> None:
        """It is alive."""

    async def close(self) -> None:
        self.closed = True

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    def _open(self) -> list[_Kept]:
        return [kept for kept in self.kept.values() if any(row.due is not None for row in kept.rows)]

    def _of(self, numbers: Iterable[int]) -> list[_Kept]:
        return [self.kept[number] for number in numbers if number in self.kept]

    def _each(self, numbers: Sequence[int], states: set[str], to: str, due: float | None) -> int:
        self._check()
        return sum(self._move(kept, states, to, due) > 0 for kept in self._of(numbers))

    @staticmethod
    def _lease(kept: _Kept, rows: list[_Row], content: bytes | None) -> Claimed:
        for row in rows:
            row.state, row.begun = "leased", None
        by_n = {row.n: row for row in rows}
        recipients = tuple(
            replace(r, attempts=by_n[r.n].attempts, last=by_n[r.n].detail or "")
            for r in kept.message.envelope.recipients
            if r.n in by_n
        )
        message = replace(kept.message, envelope=replace(kept.message.envelope, recipients=recipients))
        return Claimed(message, len(kept.rows), content, len(kept.parts), kept.turn)

    @staticmethod
    def _move(kept: _Kept, states: set[str], to: str, due: float | None) -> int:
        rows = [row for row in kept.rows if row.state in states]
        for row in rows:
            row.state = to
            row.due = row.due if due is None else due
        return len(rows)

    @staticmethod
    def _settle(kept: _Kept, row: _Row, settled: Settled, at: float) -> None:
        row.state, row.due = str(settled.state), settled.due
        if not settled.charged:
            return
        row.attempts, row.upstream, row.detail = settled.attempts, settled.upstream, settled.detail
        kept.attempts.append(
            AttemptRecord(
                at,
                settled.address,
                settled.upstream,
                settled.relay,
                settled.status,
                settled.dsn,
                settled.detail,
                settled.delays,
            )
        )

    @staticmethod
    def _matches(kept: _Kept, selector: Selector, now: float) -> bool:
        if kept.message.number <= selector.after:
            return False
        if selector.numbers and kept.message.number not in selector.numbers:
            return False
        if selector.sender is not None and kept.message.envelope.sender.lower() != selector.sender.lower():
            return False
        if selector.arrived_before is not None and kept.message.arrived >= selector.arrived_before:
            return False
        if selector.state == "dead":
            if not any(row.state == "held" and (row.detail or "").startswith("dead letter") for row in kept.rows):
                return False
        elif selector.state is not None and kept.state(now) != selector.state:
            return False
        return any(
            (selector.recipient is None or row.address.lower() == selector.recipient.lower())
            and (selector.domain is None or row.address.lower().endswith(f"@{selector.domain.lower()}"))
            and (selector.upstream is None or row.upstream == selector.upstream)
            for row in kept.rows
            if row.due is not None
        )
