"""The spool on SQLite: one file, one writer thread, one commit for all that waits.

``open_spool`` takes the lock, makes or checks the file, starts the writer; :class:`SqliteSpool` offers the port's
verbs to the event loop. docs/spool.md tells why nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from relay.backlog import Dues
from relay.clock import Clock
from relay.lessons import BrakeRecord, LearnedRecord, Source
from relay.mail import arrived_of, next_queue_number
from relay.settings import SpoolSettings
from relay.spool import (
    Arrival,
    Begun,
    Claimed,
    Delayed,
    Duplicate,
    QueuedMessage,
    QuotaRecord,
    Selector,
    Settlement,
    SpoolBroken,
    SpoolError,
    SpoolFull,
    Story,
    Totals,
    Warned,
    accepting,
    delays,
    doubt,
    dues,
    imprints,
    leasing,
    lessons,
    operating,
    quota,
    reading,
    settling,
)
from relay.spool.lock import SpoolLock
from relay.spool.opening import Opened, make_folder, open_database
from relay.spool.operation import Change
from relay.spool.reader import Reader
from relay.spool.room import Ballast, Room
from relay.spool.suppression import SuppressionVerbs
from relay.spool.transaction import Transaction, milliseconds
from relay.spool.writer import Writer


async def open_spool(
    settings: SpoolSettings,
    *,
    clock: Clock,
    fault: Callable[[str], None] | None = None,
    on_broken: Callable[[str], None] | None = None,
    lock: bool = True,
) -> SqliteSpool:
    """Open the spool of ``settings``, made where there is none; the caller closes it.

    ``fault`` is called with a name between every two statements of the writer, in its thread; it may end the process,
    or raise before a commit. ``on_broken`` is called in the event loop, once, where the spool can't be trusted any
    more. ``lock`` is False only where the caller sees to it that nobody else has the spool open. Raises SpoolLocked,
    SpoolDamaged or SpoolError.
    """
    path = make_folder(settings.path)
    held = SpoolLock.take(path) if lock else None
    room = Room(path.parent, max_size=settings.max_size, min_free_disk=settings.min_free_disk, clock=clock)
    writer = Writer(Ballast(path), clock=clock, fault=fault, broken=on_broken)
    spool = SqliteSpool(path, writer, room, held, clock)
    try:
        await spool.start(partial(open_database, path, fault))
    except BaseException:
        # The lock outlives the thread, also where the caller was cancelled while it opened the file.
        await writer.close()
        if held is not None:
            held.release()
        raise
    return spool


class SqliteSpool(SuppressionVerbs):
    """The port's verbs; each is one transaction of the writer thread, except where it says that it goes in slices."""

    def __init__(self, path: Path, writer: Writer, room: Room, lock: SpoolLock | None, clock: Clock) -> None:
        self._writer = writer
        writer.committed = self._committed
        self._room = room
        self._lock = lock
        self._clock = clock
        self._last = 0
        self._totals = Totals()
        self._staged: dict[int, int] = {}
        # Contents are read for delivery, which must not wait for an operator's list.
        self._contents = Reader(path, "spool-contents")
        self._operators = Reader(path, "spool-operators")

    async def start(self, opening: Callable[[], Opened]) -> None:
        """Start the writer thread, in which ``opening`` runs; raises what that raises."""
        opened = await self._writer.start(opening)
        self._last = opened.last
        self._room.queued += opened.octets
        self._totals = Totals(opened.messages, opened.octets, opened.sent)

    # -- listener ---------------------------------------------------------------------------------------------------

    def allocate(self, now: float) -> int:
        """A queue number never given out before, also before a restart or a clock step."""
        self._last = next_queue_number(self._last, now)
        return self._last

    def check_room(self, size: int) -> None:
        """Raise SpoolFull where ``size`` more octets would not be taken now, SpoolError where nothing would."""
        self._check_writer()
        self._room.check(size)

    async def stage(self, number: int, part: int, octets: bytes) -> None:
        """Keep one part; its octets count as pending until the message is accepted or discarded."""
        size = len(octets)
        self._check_writer()
        self._room.reserve(size)
        self._staged[number] = self._staged.get(number, 0) + size
        work = partial(accepting.stage, number=number, part=part, octets=octets)
        await self._writer.submit(work, grows=True, promises=False, octets=size)

    async def discard(self, number: int) -> None:
        """Drop what was staged; may wait some 20 ms for company, and is swept at the next start at the latest."""
        finished = partial(self._unstage, number)
        work = partial(accepting.discard, number=number)
        await self._writer.submit(work, lazy=True, promises=False, finished=finished)

    async def accept(self, arrival: Arrival) -> Duplicate | None:
        """Durable on return; what is not staged needs room by max_size and min_free_disk."""
        self._check_writer()
        size = 0
        content = arrival.content
        if content is None:
            finished = partial(self._published, arrival.message.number)
        else:
            size = len(content)
            self._room.reserve(size)
            finished = partial(self._accepted, size)
        self._last = max(self._last, arrival.message.number)
        work = partial(accepting.accept, arrival=arrival)
        duplicate: Duplicate | None = await self._writer.submit(work, grows=True, octets=size, finished=finished)
        return duplicate

    # -- delivery ---------------------------------------------------------------------------------------------------

    async def rescue(self, now: float) -> int:
        """To be called once, before the first claim: every lease found then is of an ended process."""
        rescued: int = await self._writer.submit(partial(leasing.rescue, now=milliseconds(now)))
        return rescued

    async def quotas(self) -> dict[str, QuotaRecord]:
        """As of the last commit."""
        return await self._contents.read(quota.quotas)

    async def record_quota(self, record: QuotaRecord, *, lazy: bool = False) -> None:
        """One transaction; never refused for want of room."""
        await self._writer.submit(partial(quota.record, record=record), lazy=lazy)

    async def learned(self) -> dict[str, LearnedRecord]:
        """As of the last commit."""
        return await self._contents.read(lessons.learned)

    async def record_learned(self, record: LearnedRecord) -> None:
        """One transaction; never refused for want of room."""
        await self._writer.submit(partial(lessons.record, record=record), lazy=True)

    async def refused_logins(self) -> dict[str, tuple[float, ...]]:
        """As of the last commit."""
        return await self._contents.read(lessons.refused_logins)

    async def record_refused_logins(self, upstream: str, times: Sequence[float]) -> None:
        """One transaction; never refused for want of room."""
        await self._writer.submit(partial(lessons.record_refused_logins, upstream=upstream, times=times))

    async def brakes(self) -> list[BrakeRecord]:
        """As of the last commit."""
        return await self._contents.read(lessons.brakes)

    async def brake(self, record: BrakeRecord) -> None:
        """One transaction; never refused for want of room."""
        await self._writer.submit(partial(lessons.brake, record=record))

    async def unbrake(self, source: Source, now: float) -> int:
        """One transaction, as large as what is held."""
        released: int = await self._writer.submit(partial(lessons.unbrake, source=source, now=now))
        return released

    async def due_turns(self, now: float, after: int, limit: int) -> list[int]:
        """Jumps from turn to turn in their index, whatever waits in each."""
        return await self._contents.read(partial(reading.due_turns, now=milliseconds(now), after=after, limit=limit))

    async def claim(self, now: float, limit: int, octets: int, turns: Mapping[int, int] | None = None) -> list[Claimed]:
        """Fewer than ``limit`` also where messages have very many recipients: ask ``next_due`` for what is left."""
        if limit <= 0:
            return []
        work = partial(leasing.claim, now=milliseconds(now), limit=limit, octets=octets, turns=turns)
        claimed: list[Claimed] = await self._writer.submit(work)
        return claimed

    async def lease(self, numbers: Sequence[int]) -> list[Claimed]:
        """In slices of 500 messages, each a transaction."""
        claimed: list[Claimed] = []
        for part in _slices(numbers):
            claimed += await self._writer.submit(partial(leasing.lease, numbers=part))
        return claimed

    async def settle(self, settlements: Sequence[Settlement]) -> frozenset[int]:
        """Outcomes of many messages in one call share their statements; nothing is settled twice."""
        if not settlements:
            return frozenset()
        work = partial(settling.settle, settlements=settlements)
        rows = len(settlements)
        done: frozenset[int] = await self._writer.submit(work, lazy=rows < settling.COMPANY, rows=rows)
        return done

    async def begun(self) -> list[Begun]:
        """To be called once, after the rescue and before the first lease."""
        found: list[Begun] = await self._writer.submit(doubt.begun)
        return found

    async def begin(self, number: int, recipients: Sequence[int], where: str) -> None:
        """Shares its commit with all that wait at that moment."""
        await self._writer.submit(partial(doubt.begin, number=number, recipients=recipients, where=where))

    async def delayed(self, after: int, before: float, limit: int) -> list[Delayed]:
        """Passes over the open index from ``after`` on."""
        upto = next_queue_number(0, before) - 1
        return await self._operators.read(partial(delays.delayed, after=after, upto=upto, limit=limit))

    async def waiting_since(self, before: float) -> float | None:
        """Reads the whole index of open recipients: a fraction of a second per million."""
        number = await self._operators.read(partial(delays.waiting_since, after=next_queue_number(0, before) - 1))
        return None if number is None else arrived_of(number)

    async def warn(self, warned: Sequence[Warned]) -> frozenset[int]:
        """Notifications of delay need room by max_size and min_free_disk: nobody's mail is lost without them."""
        self._check_writer()
        size = sum(each.notification.message.size for each in warned)
        self._room.reserve(size)
        finished = partial(self._accepted, size)
        work = partial(delays.warn, warned=warned)
        told: frozenset[int] = await self._writer.submit(work, grows=True, octets=size, finished=finished)
        return told

    async def next_due(self, now: float, *, ahead: bool = False) -> float | None:
        """The earliest due time of a waiting recipient."""
        return await self._contents.read(partial(reading.next_due, after=milliseconds(now) if ahead else None))

    async def content(self, number: int, part: int) -> bytes:
        """One part; SpoolError where the message is done or the part never was."""
        return await self._contents.read(partial(reading.content, number=number, part=part))

    # -- operators --------------------------------------------------------------------------------------------------

    async def totals(self) -> Totals:
        """The kept sums as of the last commit; costs nothing."""
        return Totals(self._totals.messages, self._totals.octets, dict(self._totals.sent))

    async def counts(self, now: float) -> dict[str, int]:
        """Reads the whole index of open recipients: a fraction of a second per million."""
        return await self._operators.read(partial(reading.counts, now=milliseconds(now)))

    async def dues(self, now: float, grain: float) -> list[Dues]:
        """What waits, by turn and due time."""
        return await self._operators.read(partial(dues.dues, now=milliseconds(now), grain=milliseconds(grain)))

    async def oldest(self) -> float | None:
        """Arrival of the open message with the lowest number."""
        return await self._operators.read(reading.oldest)

    async def find(self, selector: Selector, now: float, limit: int | None = None) -> list[QueuedMessage]:
        """A selector that is empty, or names an unknown state, finds nothing."""
        return await self._operators.read(partial(reading.find, selector=selector, now=milliseconds(now), limit=limit))

    async def story(self, number: int) -> Story | None:
        """One message's whole story."""
        now = milliseconds(self._clock.now())
        return await self._operators.read(partial(reading.story, number=number, now=now))

    async def numbers_of(self, message_id: str) -> list[int]:
        """Reads the whole history."""
        return await self._operators.read(partial(reading.numbers_of, message_id=message_id))

    async def hold(self, numbers: Sequence[int]) -> int:
        """In slices of 500 messages, each a transaction."""
        return await self._in_slices(operating.hold, numbers)

    async def release(self, numbers: Sequence[int], now: float) -> int:
        """In slices of 500 messages, each a transaction."""
        return await self._in_slices(partial(operating.release, now=milliseconds(now)), numbers)

    async def retry(self, numbers: Sequence[int], now: float) -> int:
        """In slices of 500 messages, each a transaction."""
        return await self._in_slices(partial(operating.retry, now=milliseconds(now)), numbers)

    async def remove(self, numbers: Sequence[int], at: float) -> int:
        """In slices of 500 messages, each a transaction."""
        return await self._in_slices(partial(operating.remove, at=milliseconds(at)), numbers)

    async def sweep(self, before: float) -> int:
        """In slices of 500 messages, each a transaction."""
        arrived = milliseconds(before)
        below = next_queue_number(0, before)
        after = swept = 0
        while after < below:
            work = partial(operating.sweep, after=after, below=below, before=arrived)
            count, after = await self._writer.submit(work, lazy=True)
            swept += count
        return swept

    async def forget_imprints(self, now: float) -> int:
        """Looks for them where that keeps nobody waiting; forgets 500 in a transaction."""
        gone, at, after = 0, milliseconds(now), 0
        while ids := await self._operators.read(partial(imprints.over, after=after, now=at)):
            gone += await self._writer.submit(partial(imprints.forget, ids=ids, now=at), lazy=True)
            after = ids[-1]
        return gone

    async def beat(self) -> None:
        """An empty transaction behind what waits: no page is written, nothing is synced."""
        await self._writer.submit(_nothing)

    async def close(self) -> None:
        """Commit what waits and let the spool go; harmless when repeated."""
        if isinstance(self._writer.failure, SpoolBroken):
            # SQLite checkpoints when the last connection closes, which a broken spool must not: a reader stays open
            # until the writer is closed, and can't write.
            with suppress(SpoolError):
                await self._contents.read(reading.next_due)
            await self._writer.close()
        await self._contents.close()
        await self._operators.close()
        await self._writer.close()
        if self._lock is not None:
            self._lock.release()

    # -- sums, in the event loop ------------------------------------------------------------------------------------

    def _check_writer(self) -> None:
        if self._writer.failure is not None:
            raise self._writer.failure
        if not self._writer.ballast.held:
            raise SpoolFull("the disk is full")

    async def _in_slices(self, work: Callable[..., int], numbers: Sequence[int]) -> int:
        touched = 0
        for part in _slices(numbers):
            touched += await self._writer.submit(partial(work, numbers=part))
        return touched

    def _accepted(self, size: int, _done: bool) -> None:
        self._room.pending -= size

    def _published(self, number: int, done: bool) -> None:
        if done:
            self._unstage(number, done)

    def _unstage(self, number: int, _done: bool) -> None:
        self._room.pending -= self._staged.pop(number, 0)

    def _committed(self, change: Change) -> None:
        self._room.queued += change.octets
        sent = self._totals.sent
        for upstream, messages in change.sent.items():
            sent[upstream] = sent.get(upstream, 0) + messages
        self._totals = Totals(self._totals.messages + change.messages, self._totals.octets + change.octets, sent)


def _nothing(_tx: Transaction) -> None:
    """The verb that only asks whether verbs are run."""


def _slices(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    return (numbers[start : start + operating.SLICE] for start in range(0, len(numbers), operating.SLICE))
