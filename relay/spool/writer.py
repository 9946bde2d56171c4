"""The one writer: a thread that owns the writing connection and commits together all that waits at a moment.

Operations are eager (accepts, claims, an operator's changes) or lazy (settlements): a batch of lazy ones waits up to
20 ms for an eager one to share its fsync, a lone eager one waits for nobody. Where a batch fails, each of its
operations is run again alone, so that a bad one hurts nobody else. Nothing is polled: an idle writer sleeps in get().

After an I/O error or a failed fsync nothing is written any more, not even a checkpoint: the kernel may have dropped
the pages and would answer the next fsync with success (the reason why OpenSMTPD ends there, too).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final

from relay.clock import Clock
from relay.spool import SpoolBroken, SpoolError, SpoolFull
from relay.spool.accepting import write
from relay.spool.checkpointing import RECOVERY_PAUSE, Checkpointer, Disk
from relay.spool.errors import SpoolBusy, translate
from relay.spool.filling import LogFiller
from relay.spool.library import sqlite3
from relay.spool.opening import Opened, open_reader
from relay.spool.operation import Change, Ended, Operation, finish, ignore, refuse, resolve
from relay.spool.room import Ballast
from relay.spool.transaction import Transaction

COMPANY_WAIT: Final = 0.020
"""Seconds that settlements wait for an accept to share their fsync; a crash in them relays what was settled again."""

RIDERS: Final = 16
"""Settlements that go with an accept which finds them waiting; of more, all go right behind it."""

MAX_OPERATIONS: Final = 1000
MAX_OCTETS: Final = 8 * 1024 * 1024
"""What one batch takes at the most, so that the first in it does not wait long for the last."""

_log = logging.getLogger(__name__)

_TOTALS: Final = "UPDATE totals SET messages = messages + ?, octets = octets + ?, last = max(last, ?) WHERE one = 1"
_SENT: Final = (
    "INSERT INTO sent (upstream, messages) VALUES (?, ?)"
    " ON CONFLICT (upstream) DO UPDATE SET messages = messages + excluded.messages"
)


class Writer:
    """The thread and its queue. ``submit`` and ``close`` belong to the event loop that ``start`` ran in."""

    def __init__(
        self,
        ballast: Ballast,
        *,
        clock: Clock,
        fault: Callable[[str], None] | None = None,
        broken: Callable[[str], None] | None = None,
    ) -> None:
        self.ballast = ballast
        self.failure: SpoolError | None = None
        """Why nothing is taken any more: SpoolBroken, or closed."""
        self.committed: Callable[[Change], None] = ignore
        """Called in the event loop after each batch, before its callers go on."""
        self.commits = 0
        """Commits so far."""
        self._clock = clock
        self._fault = fault
        self._broken = broken
        self._queue: SimpleQueue[Operation | None] = SimpleQueue()
        self._closing = False
        self._aside: list[Operation] = []
        self._connection: sqlite3.Connection
        self._checkpointer: Checkpointer
        self._disk: Disk
        self._filler: LogFiller
        self._recovery_due = 0.0
        self._durable = True
        self._loop: asyncio.AbstractEventLoop
        self._ended: asyncio.Future[None]

    async def start(self, opening: Callable[[], Opened]) -> Opened:
        """Start the thread, which calls ``opening``; raises what that raises."""
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        opened: asyncio.Future[Opened] = self._loop.create_future()
        # A daemon, so that a process that must end at once is not kept; what was promised is on disk.
        threading.Thread(target=self._run, args=(opening, opened), name="spool-writer", daemon=True).start()
        return await opened

    def submit(self, work: Callable[[Transaction], Any], **traits: Any) -> asyncio.Future[Any]:
        """Queue a verb; ``traits`` are Operation's. The future may be cancelled: the verb happens all the same."""
        if self.failure is not None:
            raise self.failure
        operation = Operation(work, self._loop.create_future(), **traits)
        self._queue.put(operation)
        return operation.future

    async def close(self) -> None:
        """Commit what waits, bring the log into the database, end the thread; harmless when repeated."""
        if not self._closing:
            self._closing = True
            self.failure = self.failure or SpoolError("the spool is closed")
            self._queue.put(None)
        await asyncio.shield(self._ended)

    # -- in the writer's thread -------------------------------------------------------------------------------------

    def _run(self, opening: Callable[[], Opened], started: asyncio.Future[Opened]) -> None:
        try:
            opened = opening()
            self._connection = opened.connection
            self._checkpointer = Checkpointer(opened.connection, opened.path)
            self._disk = Disk(opened.path, self.ballast, self._checkpointer, say=partial(self._tell, _log.warning))
            self._filler = LogFiller(opened.path)
            if not self.ballast.take():
                self._disk.note_full()
                self._recover()
        except BaseException as error:  # noqa: BLE001  (it belongs to the one who waits for the start)
            self._tell(refuse, started, error)
            self._tell(resolve, self._ended, None)
            return
        self._tell(resolve, started, opened)
        try:
            while (batch := self._gather()) is not None:
                if batch:
                    self._serve(batch)
                if self._disk.full and self._clock.monotonic() >= self._recovery_due:
                    self._recover()
        except Exception as error:  # noqa: BLE001
            # A bug of ours: nobody would be answered any more, and the relay would seem to live.
            _log.exception("the spool's writer ended in an unforeseen way")
            self._give_in(SpoolBroken(f"the spool's writer ended by {type(error).__name__}"))
        finally:
            try:
                self._end()
            finally:
                self._tell(resolve, self._ended, None)

    def _gather(self) -> list[Operation] | None:
        """What to commit next: empty after a quiet moment, None when closed."""
        take = self._queue.get
        batch, self._aside = self._aside, []
        octets = rows = 0
        deadline: float | None = 0.0 if batch else None
        timeout = RECOVERY_PAUSE if self._disk.full else self._checkpointer.patience
        if batch:
            timeout = 0.0
        while len(batch) < MAX_OPERATIONS and octets < MAX_OCTETS:
            try:
                operation = take(timeout=timeout) if timeout is None or timeout > 0 else self._queue.get_nowait()
            except Empty:
                break
            if operation is None:
                # Nothing can follow it: what came before is served, then the end is met again.
                if not batch:
                    return None
                self._queue.put(None)
                break
            if deadline and rows > RIDERS and not operation.lazy:
                # It would wait for them longer than for its own fsync.
                batch, self._aside = [], batch
            batch.append(operation)
            octets += operation.octets
            rows += operation.rows
            if not operation.lazy:
                timeout = deadline = 0.0
            elif deadline is None:
                deadline = self._clock.monotonic() + COMPANY_WAIT
            if deadline:
                timeout = max(0.0, min(COMPANY_WAIT, deadline - self._clock.monotonic()))
        if not batch:
            self._checkpoint(idle=True)
        return batch

    def _serve(self, batch: list[Operation]) -> None:
        change = Change()
        if isinstance(self.failure, SpoolBroken):
            ended: list[Ended] = [(operation, None, self.failure) for operation in batch]
        else:
            done = self._attempt(batch, change)
            ended = self._apart(batch, done, change) if isinstance(done, SpoolError) else done
        self._tell(finish, ended, change, self.committed)
        if not self._disk.full:
            self._filler.keep_ahead()
        self._checkpoint(idle=False)

    def _attempt(self, batch: list[Operation], change: Change, *, alone: bool = False) -> list[Ended] | SpoolError:
        """Run a batch in one transaction: durable on return where promised, or the error says why none of it is."""
        # An outcome that isn't recorded is a duplicate: for it room is made, for a new message it isn't.
        grows = any(operation.grows for operation in batch)
        reliefs = iter(() if grows else (self._write_back, self._give_up))
        while True:
            try:
                if grows:
                    self._checkpointer.check_more()
                self._promise(durable=any(operation.promises for operation in batch))
                results = self._transact([operation.work for operation in batch], change, alone=alone)
            except Exception as error:  # noqa: BLE001  (any failure of a verb is its caller's to hear)
                failure = self._judge(error)
            else:
                return [(operation, result, None) for operation, result in zip(batch, results, strict=True)]
            relief = next(reliefs, None)
            if not isinstance(failure, SpoolFull) or relief is None:
                return failure
            relief()

    def _apart(self, batch: list[Operation], failure: SpoolError, change: Change) -> list[Ended]:
        """A batch failed and was rolled back: let each of its operations stand or fall alone."""
        ended: list[Ended] = []
        if isinstance(failure, SpoolFull):
            # Outcomes first and together: each commit of its own would take some of the little room.
            outcomes = [operation for operation in batch if not operation.grows]
            done = self._attempt(outcomes, change) if 0 < len(outcomes) < len(batch) else failure
            if not isinstance(done, SpoolError):
                ended = done
                batch = [operation for operation in batch if operation.grows]
        for operation in batch:
            if isinstance(failure, SpoolBroken | SpoolBusy):
                # Nobody's own fault, and the same for the rest.
                ended.append((operation, None, failure))
                continue
            done = self._attempt([operation], change, alone=True)
            if isinstance(done, SpoolError):
                failure = done
                ended.append((operation, None, failure))
            else:
                ended += done
        return ended

    def _write_back(self) -> None:
        # A log that was written back is filled from its start again and takes no new blocks.
        self._checkpoint(idle=True)

    def _give_up(self) -> None:
        self.ballast.give_up()
        self._disk.note_full()

    def _recover(self) -> None:
        if not isinstance(self.failure, SpoolBroken):
            try:
                self._disk.recover(self._queue.empty)
            except (sqlite3.Error, OSError) as error:
                self._judge(error)
        self._recovery_due = self._clock.monotonic() + RECOVERY_PAUSE

    def _transact(self, works: list[Callable[[Transaction], Any]], change: Change, *, alone: bool = False) -> list[Any]:
        """Run ``works`` in one transaction, durable on return where that was promised; or change nothing and raise."""
        connection = self._connection
        fault = self._fault
        tx = Transaction(connection, fault, alone=alone)
        try:
            connection.execute("BEGIN IMMEDIATE")
            if fault is not None:
                fault("begin.after")
            results = [work(tx) for work in works]
            if tx.new_messages:
                write(tx)
            if tx.messages or tx.octets or tx.last:
                connection.execute(_TOTALS, (tx.messages, tx.octets, tx.last))
                if fault is not None:
                    fault("totals.after")
            if tx.sent:
                connection.executemany(_SENT, tx.sent.items())
                if fault is not None:
                    fault("sent.after")
            if fault is not None:
                fault("commit.before")
            connection.execute("COMMIT")
        except BaseException:
            # After SQLITE_FULL and SQLITE_IOERR SQLite has rolled back by itself.
            if connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            raise
        self.commits += 1
        change.add(tx)
        if fault is not None:
            fault("commit.after")
        self._checkpointer.count(tx.written)
        return results

    def _promise(self, *, durable: bool) -> None:
        """Whether the next commit syncs the log. A sync is of the whole file, also of what was committed without one,
        and SQLite syncs the log before it goes into the database (sqlite.org/pragma.html#pragma_synchronous).
        """
        if durable is not self._durable:
            self._connection.execute("PRAGMA synchronous = FULL" if durable else "PRAGMA synchronous = NORMAL")
            self._durable = durable

    def _judge(self, error: Exception) -> SpoolError:
        failure = translate(error)
        # A transaction that can neither be committed nor rolled back would take the next one's rows along.
        if self._connection.in_transaction and not isinstance(failure, SpoolBroken):
            failure = SpoolBroken("a transaction could not be rolled back")
        if isinstance(failure, SpoolFull):
            self._disk.note_full()
        if isinstance(failure, SpoolBroken):
            self._give_in(failure)
        return failure

    def _give_in(self, failure: SpoolBroken) -> None:
        """Take nothing any more; said once."""
        if not isinstance(self.failure, SpoolBroken):
            self.failure = failure
            if self._broken is not None:
                self._tell(self._broken, str(failure))

    def _checkpoint(self, *, idle: bool) -> None:
        if isinstance(self.failure, SpoolBroken):
            return
        try:
            self._checkpointer.run(idle=idle, waiting=not self._queue.empty())
        except (sqlite3.Error, OSError, SpoolFull) as error:
            # A full disk or another program's lock leaves the log longer for a while; anything worse ends us.
            self._judge(error)

    def _end(self) -> None:
        self._filler.close()
        if isinstance(self.failure, SpoolBroken):
            # Not the last connection (the facade keeps a reading one): closing it writes nothing.
            self._connection.close()
            return
        reader = None
        try:
            if self._disk.full:
                self._disk.recover(lambda: True)
            self._checkpointer.empty(patient=True)
        except (sqlite3.Error, OSError, SpoolFull):
            # SQLite would try once more as the last connection closes, and take all that is left of a full disk.
            with suppress(sqlite3.Error):  # the file may be gone
                reader = open_reader(self._disk.spool)
                reader.execute("SELECT one FROM totals").fetchall()
        with suppress(sqlite3.Error):
            self._connection.close()
        if reader is not None:
            reader.close()

    def _tell(self, call: Callable[..., object], *values: object) -> None:
        # The loop may have ended before us, without close(): then nobody waits.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *values)
