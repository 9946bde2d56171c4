"""Going out: rescue, claim and lease. Each function runs inside the writer's transaction.

A lease belongs to the process that holds the spool's lock, so it is a state and no time: what is leased when a process
starts was leased by one that ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from relay.mail import Signatures
from relay.spool import CLAIMED_RECIPIENTS, Claimed
from relay.spool.rows import MESSAGE_COLUMNS, RECIPIENT_COLUMNS, message_of, recipient_of
from relay.spool.schema import CONTENT_SHIFT
from relay.spool.transaction import Transaction

RESCUE: Final = (
    "UPDATE recipient SET state = 'waiting', due = min(due, ?)"
    " WHERE state = 'leased' AND due IS NOT NULL AND begun IS NULL"
)
# In the order of recipient_open, so that it reads no more than it returns.
DUE: Final = "SELECT message FROM recipient WHERE state = 'waiting' AND due <= ? ORDER BY due LIMIT ?"
DUE_IN_TURN: Final = (
    "SELECT message FROM recipient INDEXED BY recipient_waiting"
    " WHERE state = 'waiting' AND turn = ? AND due <= ? ORDER BY due LIMIT ?"
)
# The interpreter's lock is let go of for each row: many numbers come as one.
_TOGETHER: Final = "SELECT json_group_array(message) FROM ({})"
_NEXT_TURN: Final = (
    "SELECT turn FROM recipient INDEXED BY recipient_waiting"
    " WHERE state = 'waiting' AND turn > {} ORDER BY turn LIMIT 1"
)
# From turn to turn by a search each, whatever waits in them.
DUE_TURNS: Final = (
    f"WITH RECURSIVE step(turn) AS (SELECT ({_NEXT_TURN.format(':after')}) UNION ALL"  # noqa: S608
    f" SELECT ({_NEXT_TURN.format('step.turn')}) FROM step WHERE step.turn IS NOT NULL LIMIT :limit)"
    " SELECT turn FROM step WHERE EXISTS (SELECT 1 FROM recipient INDEXED BY recipient_waiting"
    " WHERE state = 'waiting' AND recipient.turn = step.turn AND due <= :now)"
)
_COLUMNS: Final = f"{MESSAGE_COLUMNS}, message.nrcpt, message.parts, recipient.turn, {RECIPIENT_COLUMNS}"
# The unary + keeps the planner on the primary key: recipient_open would be read from its start.
NAMED: Final = (
    f"SELECT {_COLUMNS} FROM recipient CROSS JOIN message ON message.id = recipient.message"  # noqa: S608
    " WHERE recipient.message = ? AND +recipient.state IN ('waiting', 'held') ORDER BY recipient.n"
)
MESSAGES: Final = (
    f"SELECT {_COLUMNS} FROM json_each(?) AS wanted CROSS JOIN recipient ON recipient.message = wanted.value"  # noqa: S608
    " CROSS JOIN message ON message.id = recipient.message WHERE +recipient.state = 'waiting' AND +recipient.due <= ?"
)
CONTENTS: Final = "SELECT id, octets FROM content WHERE id IN (SELECT value FROM json_each(?))"
LEASE_ALL: Final = (
    "UPDATE recipient SET state = 'leased', begun = NULL"
    " WHERE message IN (SELECT value FROM json_each(?)) AND +state = 'waiting' AND +due <= ?"
)
LEASE: Final = "UPDATE recipient SET state = 'leased', begun = NULL WHERE message = ? AND n = ?"
SIGNATURES: Final = (
    "SELECT message, fields, profile, body_hash FROM signature WHERE message IN (SELECT value FROM json_each(?))"
)
CONTENT: Final = "SELECT octets FROM content WHERE id = ?"
NEXT_DUE: Final = "SELECT due FROM recipient WHERE state = 'waiting' AND due > ? ORDER BY due LIMIT 1"

_MESSAGE_WIDTH: Final = MESSAGE_COLUMNS.count(",") + 1
_SIZE: Final = MESSAGE_COLUMNS.split(", ").index("message.size")


def rescue(tx: Transaction, now: int) -> int:
    """Leased recipients become waiting and due, those that waited longest first; how many. What was begun stays."""
    rescued = tx.execute(RESCUE, (now,)).rowcount
    if tx.fault is not None:
        tx.fault("rescue.recipients")
    return rescued


def claim(tx: Transaction, now: int, limit: int, octets: int, turns: Mapping[int, int] | None = None) -> list[Claimed]:
    """Lease whole messages: all due recipients of each, the longest due first; O(claimed), whatever is queued."""
    numbers: dict[int, None] = {}
    if turns is None:
        _choose(numbers, tx, DUE, (now,), limit, limit)
    else:
        for turn, count in turns.items():
            _choose(numbers, tx, DUE_IN_TURN, (turn, now), count, min(limit, len(numbers) + count))
    found: dict[int, list[Any]] = {}
    for before, row in enumerate(tx.execute(MESSAGES, (_listed(numbers), now)).fetchall()):
        of_message = found.get(row[0])
        if of_message is not None:
            of_message.append(row)
        elif before < CLAIMED_RECIPIENTS:
            found[row[0]] = [row]
        else:
            break
    tx.execute(LEASE_ALL, (_listed(found), now))
    if tx.fault is not None:
        tx.fault("claim.recipients")
    contents = _contents(tx, found.values(), octets)
    return _signed(tx, [_claimed(of_message, contents) for of_message in found.values()])


def _contents(tx: Transaction, messages: Iterable[list[Any]], octets: int) -> dict[int, bytes]:
    """The contents of those messages that have one part, the first ones up to so many ``octets``; by number."""
    wanted = []
    for head, *_ in messages:
        size, parts = head[_SIZE], head[_MESSAGE_WIDTH + 1]
        if parts == 1 and size <= octets:
            octets -= size
            wanted.append(head[0] << CONTENT_SHIFT)
    if not wanted:
        return {}
    return {row[0] >> CONTENT_SHIFT: bytes(row[1]) for row in tx.execute(CONTENTS, (_listed(wanted),)).fetchall()}


def _choose(
    numbers: dict[int, None], tx: Transaction, statement: str, values: tuple[int, ...], count: int, limit: int
) -> None:
    """Add ``count`` numbers that ``statement`` finds, until there are ``limit``."""
    # The rows of a message lie side by side in the index: where they fill the first page, a larger one is read.
    for page in (min(count, CLAIMED_RECIPIENTS), CLAIMED_RECIPIENTS):
        (found,) = tx.execute(_TOGETHER.format(statement), (*values, page)).fetchone()
        listed = json.loads(found)
        for number in listed:
            if len(numbers) >= limit:
                return
            numbers[number] = None
        if len(listed) < page or len(numbers) >= limit:
            return


def _listed(numbers: Iterable[int]) -> str:
    return f"[{','.join(map(str, numbers))}]"


def _signed(tx: Transaction, claimed: list[Claimed]) -> list[Claimed]:
    """With the signatures that are kept; what has none is as nobody had looked at it."""
    listed = _listed(each.message.number for each in claimed)
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
            tx.executemany(LEASE, [(number, row[_MESSAGE_WIDTH + 3]) for row in rows])
            claimed.append(_claimed(rows, {}))
    if tx.fault is not None:
        tx.fault("lease.recipients")
    return claimed


def _claimed(rows: list[Any], contents: Mapping[int, bytes]) -> Claimed:
    head = rows[0]
    message = message_of(head, [recipient_of(row[_MESSAGE_WIDTH + 3 :]) for row in rows])
    nrcpt, parts, turn = head[_MESSAGE_WIDTH : _MESSAGE_WIDTH + 3]
    return Claimed(message, nrcpt, contents.get(message.number), parts, turn)
