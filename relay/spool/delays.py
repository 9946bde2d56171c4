"""Mail that has waited long and whose sender is to be told: read page by page, marked with its notification.

Only what an attempt or its turn keeps waiting counts: what an operator holds is the operator's to explain. Numbers grow
with time, so "arrived before" is a range of numbers, and most of the open index is passed over by them alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

from relay.spool import AttemptRecord, Delayed, Warned
from relay.spool.accepting import accept
from relay.spool.library import sqlite3
from relay.spool.rows import MESSAGE_COLUMNS, RECIPIENT_COLUMNS, message_of, recipient_of
from relay.spool.transaction import Transaction, milliseconds

# RFC 3461 §4.1: without NOTIFY an MTA may tell of delays; nobody is told where the reverse-path is null.
_TOLD: Final = (
    "recipient.due IS NOT NULL AND recipient.state IN ('waiting', 'leased') AND recipient.warned IS NULL"
    " AND (recipient.notify IS NULL OR recipient.notify LIKE '%delay%')"
)
DELAYED: Final = (
    f"SELECT {MESSAGE_COLUMNS}, recipient.at, recipient.upstream, recipient.relay, recipient.status,"  # noqa: S608
    f" recipient.dsn, recipient.delays, {RECIPIENT_COLUMNS}"
    " FROM message CROSS JOIN recipient ON recipient.message = message.id WHERE message.id IN ("
    "SELECT DISTINCT recipient.message FROM recipient INDEXED BY recipient_open"
    " CROSS JOIN message ON message.id = recipient.message"
    f" WHERE recipient.message > :after AND recipient.message <= :upto AND {_TOLD} AND message.sender != ''"
    " ORDER BY recipient.message LIMIT :limit"
    f") AND +{_TOLD} ORDER BY message.id, recipient.n"
)
WAITING_SINCE: Final = (
    "SELECT min(message) FROM recipient INDEXED BY recipient_open"
    " WHERE due IS NOT NULL AND state IN ('waiting', 'leased') AND message > ?"
)
WARNED: Final = (
    "UPDATE recipient SET warned = ? WHERE message = ? AND n = ? AND +state IN ('waiting', 'leased') AND warned IS NULL"
)

_WIDTH: Final = MESSAGE_COLUMNS.count(",") + 1


def delayed(connection: sqlite3.Connection, after: int, upto: int, limit: int) -> list[Delayed]:
    """Messages with numbers above ``after`` up to ``upto``, lowest first, with the recipients to tell of."""
    rows = connection.execute(DELAYED, {"after": after, "upto": upto, "limit": limit}).fetchall()
    found = []
    for _, group in groupby(rows, key=lambda row: row[0]):
        own = list(group)
        recipients = [recipient_of(row[_WIDTH + 6 :]) for row in own]
        last = tuple(
            _attempt(row[_WIDTH : _WIDTH + 6], r.address, r.last) for row, r in zip(own, recipients, strict=True)
        )
        found.append(Delayed(message_of(own[0], recipients), last))
    return found


def waiting_since(connection: sqlite3.Connection, after: int) -> int | None:
    """The lowest number above ``after`` of a message that waits; None: there is none."""
    (number,) = connection.execute(WAITING_SINCE, (after,)).fetchone()
    return None if number is None else int(number)


def warn(tx: Transaction, warned: Sequence[Warned]) -> frozenset[int]:
    """Mark recipients and accept the notifications that tell of them; the numbers of the messages where any waited."""
    told = set()
    for each in warned:
        rows = [(milliseconds(each.at), each.number, n) for n in each.recipients]
        if tx.executemany(WARNED, rows).rowcount > 0:
            if tx.fault is not None:
                tx.fault("warn.recipients")
            accept(tx, each.notification)
            told.add(each.number)
    return frozenset(told)


def _attempt(row: Sequence[Any], address: str, detail: str) -> AttemptRecord | None:
    at, upstream, relay, status, dsn, delays = row
    if at is None:
        return None
    return AttemptRecord(at / 1000, address, upstream, relay, status, dsn, detail, delays)
