"""Going out: rescue, claim and lease. Each function runs inside the writer's transaction.

A lease belongs to the process that holds the spool's lock, so it is a state and no time: what is leased when a process
starts was leased by one that ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from relay.mail import Signatures
from relay.spool import Claimed
from relay.spool.rows import MESSAGE_COLUMNS, RECIPIENT_COLUMNS, message_of, recipient_of
from relay.spool.schema import CONTENT_SHIFT
from relay.spool.transaction import Transaction

CLAIMED_RECIPIENTS: Final = 5000
"""Recipients after which a claim takes no further message, whatever its limit: it must stay short."""

RESCUE: Final = (
    "UPDATE recipient SET state = 'waiting', due = min(due, ?)"
    " WHERE state = 'leased' AND due IS NOT NULL AND begun IS NULL"
)
# In the order of recipient_open, so that it reads no more than it returns.
DUE: Final = "SELECT message FROM recipient WHERE state = 'waiting' AND due <= ? ORDER BY due LIMIT ?"
_MESSAGE: Final = (
    f"SELECT {MESSAGE_COLUMNS}, message.nrcpt, message.parts, {RECIPIENT_COLUMNS}"  # noqa: S608  (names of columns)
    " FROM recipient CROSS JOIN message ON message.id = recipient.message WHERE recipient.message = ?"
)
# The unary + keeps the planner on the primary key: recipient_open would be read from its start.
MESSAGE: Final = f"{_MESSAGE} AND +recipient.state = 'waiting' AND +recipient.due <= ? ORDER BY recipient.n"
NAMED: Final = f"{_MESSAGE} AND +recipient.state IN ('waiting', 'held') ORDER BY recipient.n"
LEASE: Final = "UPDATE recipient SET state = 'leased', begun = NULL WHERE message = ? AND n = ?"
SIGNATURES: Final = (
    "SELECT message, fields, profile, body_hash FROM signature WHERE message IN (SELECT value FROM json_each(?))"
)
CONTENT: Final = "SELECT octets FROM content WHERE id = ?"
NEXT_DUE: Final = "SELECT due FROM recipient WHERE state = 'waiting' AND due IS NOT NULL ORDER BY due LIMIT 1"

_MESSAGE_WIDTH: Final = MESSAGE_COLUMNS.count(",") + 1


def rescue(tx: Transaction, now: int) -> int:
    """Leased recipients become waiting and due, those that waited longest first; how many. What was begun stays."""
    rescued = tx.execute(RESCUE, (now,)).rowcount
    if tx.fault is not None:
        tx.fault("rescue.recipients")
    return rescued


def claim(tx: Transaction, now: int, limit: int, octets: int) -> list[Claimed]:
    """Lease whole messages: all due recipients of each, the longest due first; O(claimed), whatever is queued."""
    numbers: dict[int, None] = {}
    # A message with many recipients fills the page by itself: its rows lie side by side in the index.
    for (number,) in tx.execute(DUE, (now, max(limit, CLAIMED_RECIPIENTS))).fetchall():
        numbers[number] = None
        if len(numbers) == limit:
            break
    claimed: list[Claimed] = []
    leases: list[tuple[int, int]] = []
    for number in numbers:
        if claimed and len(leases) >= CLAIMED_RECIPIENTS:
            break
        rows = tx.execute(MESSAGE, (number, now)).fetchall()
        entry = _claimed(tx, rows, octets)
        if entry.content is not None:
            octets -= len(entry.content)
        claimed.append(entry)
        leases.extend((number, row[_MESSAGE_WIDTH + 2]) for row in rows)
    tx.executemany(LEASE, leases)
    if tx.fault is not None:
        tx.fault("claim.recipients")
    return _signed(tx, claimed)


def _signed(tx: Transaction, claimed: list[Claimed]) -> list[Claimed]:
    """With the signatures that are kept; what has none is as nobody had looked at it."""
    listed = f"[{','.join(str(each.message.number) for each in claimed)}]"
    found = {row[0]: Signatures(bytes(row[1]), row[2], row[3]) for row in tx.execute(SIGNATURES, (listed,)).fetchall()}
    if not found:
        return claimed
    return [
        replace(each, message=replace(each.message, signatures=signatures))
        if (signatures := found.get(each.message.number)) is not None
        else each
        for each in claimed
    ]


def lease(tx: Transaction, numbers: Sequence[int]) -> list[Claimed]:
    """Lease what waits or is held of these messages, due or not, without contents."""
    claimed: list[Claimed] = []
    for number in numbers:
        if rows := tx.execute(NAMED, (number,)).fetchall():
            tx.executemany(LEASE, [(number, row[_MESSAGE_WIDTH + 2]) for row in rows])
            claimed.append(_claimed(tx, rows, -1))
    if tx.fault is not None:
        tx.fault("lease.recipients")
    return claimed


def _claimed(tx: Transaction, rows: list[Any], octets: int) -> Claimed:
    head = rows[0]
    message = message_of(head, [recipient_of(row[_MESSAGE_WIDTH + 2 :]) for row in rows])
    nrcpt, parts = head[_MESSAGE_WIDTH : _MESSAGE_WIDTH + 2]
    content = None
    if parts == 1 and message.size <= octets:
        found = tx.execute(CONTENT, (message.number << CONTENT_SHIFT,)).fetchone()
        content = None if found is None else bytes(found[0])
    return Claimed(message, nrcpt, content, parts)
