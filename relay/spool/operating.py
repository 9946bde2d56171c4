"""What operators change: hold, release, retry, remove, sweep. Each function runs inside the writer's transaction.

None of them touches a leased recipient: its outcome is on its way, and it is settled first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from relay.spool.settling import STILL_OPEN, finish
from relay.spool.transaction import Transaction

SLICE: Final = 500
"""Messages changed in one transaction: an operator who means a million must not keep mail waiting."""

# The unary + keeps the planner on the primary key.
HOLD: Final = "UPDATE recipient SET state = 'held' WHERE message = ? AND +state = 'waiting'"
RELEASE: Final = "UPDATE recipient SET state = 'waiting', due = ? WHERE message = ? AND +state = 'held'"
RETRY: Final = "UPDATE recipient SET due = ? WHERE message = ? AND +state = 'waiting' AND +due > ?"
REMOVE: Final = (
    "UPDATE recipient SET state = 'failed', due = NULL, status = 'removed', dsn = '5.7.0', upstream = '',"
    " relay = 'none', detail = 'removed by the operator', delays = '', at = ?"
    " WHERE message = ? AND +state IN ('waiting', 'held')"
)
# ids grow with time: the range keeps it to old messages, arrived makes it exact after a clock step.
OLD: Final = (
    "SELECT id FROM message WHERE id > ? AND id < ? AND arrived < ? AND NOT EXISTS"
    " (SELECT 1 FROM recipient WHERE recipient.message = message.id AND +recipient.due IS NOT NULL) ORDER BY id LIMIT ?"
)
FORGET: Final = (
    "DELETE FROM attempt WHERE message = ?",
    "DELETE FROM recipient WHERE message = ?",
    "DELETE FROM message WHERE id = ?",
)


def hold(tx: Transaction, numbers: Sequence[int]) -> int:
    """Waiting recipients become held; how many messages that touched."""
    return _change(tx, HOLD, [(number,) for number in numbers], "hold.recipients")


def release(tx: Transaction, numbers: Sequence[int], now: int) -> int:
    """Held recipients become waiting and due; how many messages that touched."""
    return _change(tx, RELEASE, [(now, number) for number in numbers], "release.recipients")


def retry(tx: Transaction, numbers: Sequence[int], now: int) -> int:
    """Deferred recipients become due; how many messages that touched."""
    return _change(tx, RETRY, [(now, number, now) for number in numbers], "retry.recipients")


def remove(tx: Transaction, numbers: Sequence[int], at: int) -> int:
    """Waiting and held recipients are failed; what is done with it loses its content; how many messages."""
    touched = [number for number in numbers if tx.execute(REMOVE, (at, number)).rowcount]
    if tx.fault is not None:
        tx.fault("remove.recipients")
    finished = [number for number in touched if tx.execute(STILL_OPEN, (number,)).fetchone() is None]
    if finished:
        finish(tx, finished)
    return len(touched)


def sweep(tx: Transaction, after: int, below: int, before: int) -> tuple[int, int]:
    """Forget up to SLICE done messages with numbers between ``after`` and ``below`` that arrived before ``before``;
    how many, and the last number looked at.
    """
    numbers = tx.execute(OLD, (after, below, before, SLICE)).fetchall()
    if numbers:
        for statement in FORGET:
            tx.executemany(statement, numbers)
            if tx.fault is not None:
                tx.fault("sweep.rows")
    return len(numbers), numbers[-1][0] if numbers else below


def _change(tx: Transaction, statement: str, rows: list[tuple[Any, ...]], name: str) -> int:
    touched = sum(1 for row in rows if tx.execute(statement, row).rowcount)
    if tx.fault is not None:
        tx.fault(name)
    return touched
