"""What operators see: counts, lists, stories. Each function reads on a connection that can't write.

A read that may be long is cut: first the numbers in one statement, then their rows SLICE messages at a time, so that
no snapshot pins the write-ahead log while a million messages are listed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import Any, Final

from relay.spool import AttemptRecord, QueuedMessage, QueuedRecipient, Selector, SpoolError, Story
from relay.spool.imprints import repeated
from relay.spool.leasing import CONTENT, DUE_TURNS, NEXT_DUE
from relay.spool.library import sqlite3
from relay.spool.rows import MESSAGE_COLUMNS, RECIPIENT_COLUMNS, message_of, recipient_of
from relay.spool.schema import CONTENT_SHIFT

SLICE: Final = 200
"""Messages whose rows are read in one statement."""

STATES: Final = ("leased", "waiting", "deferred", "held")
"""A message's state is the first of these that one of its recipients has."""

DEAD: Final = "dead"
"""A selector's word for held notifications that could not be delivered."""

_RANK: Final = "CASE recipient.state WHEN 'leased' THEN 0 WHEN 'waiting' THEN 1 + (recipient.due > :now) ELSE 3 END"
# A message with one open recipient counts as that one's row; only those with several need grouping.
_OPEN: Final = "FROM recipient INDEXED BY recipient_open WHERE due IS NOT NULL"
COUNTS: Final = f"""
WITH several AS (SELECT DISTINCT message {_OPEN} AND n > 0)
SELECT total(rank = 0), total(rank = 1), total(rank = 2), total(rank = 3) FROM (
    SELECT {_RANK} AS rank {_OPEN} AND message NOT IN several
    UNION ALL
    SELECT min({_RANK}) {_OPEN} AND message IN several GROUP BY message
)
"""  # noqa: S608  (fixed text; sums, as grouping by rank would sort a million rows)
OLDEST: Final = (
    "SELECT arrived FROM message WHERE id ="
    " (SELECT min(message) FROM recipient INDEXED BY recipient_open WHERE due IS NOT NULL)"
)
NUMBERS_OF: Final = "SELECT id FROM message WHERE message_id = ? ORDER BY id"
LISTED: Final = (
    f"SELECT {MESSAGE_COLUMNS}, {RECIPIENT_COLUMNS}, recipient.state, recipient.due, recipient.upstream,"  # noqa: S608
    " recipient.detail, recipient.at, recipient.relay, recipient.status, recipient.dsn, recipient.delays,"
    " recipient.begun"
    " FROM message CROSS JOIN recipient ON recipient.message = message.id"
    " WHERE message.id IN (SELECT value FROM json_each(?)) ORDER BY message.id, recipient.n"
)
ATTEMPTS: Final = (
    "SELECT at, address, upstream, relay, status, dsn, detail, delays FROM attempt WHERE message = ? ORDER BY at, id"
)

_MESSAGE_WIDTH: Final = MESSAGE_COLUMNS.count(",") + 1
_RECIPIENT_WIDTH: Final = RECIPIENT_COLUMNS.count(",") + 1


def counts(connection: sqlite3.Connection, now: int) -> dict[str, int]:
    """Open messages by state."""
    found = connection.execute(COUNTS, {"now": now}).fetchone()
    return {state: int(count) for state, count in zip(STATES, found, strict=True)}


def oldest(connection: sqlite3.Connection) -> float | None:
    """Arrival of the open message with the lowest number."""
    row = connection.execute(OLDEST).fetchone()
    return None if row is None else row[0] / 1000


def next_due(connection: sqlite3.Connection, after: int | None = None) -> float | None:
    """The earliest due time of a waiting recipient, of those later than ``after`` where that is given."""
    row = connection.execute(NEXT_DUE, (-1 if after is None else after,)).fetchone()
    return None if row is None else row[0] / 1000


def due_turns(connection: sqlite3.Connection, now: int, after: int, limit: int) -> list[int]:
    """Turns above ``after`` with something due, of the next ``limit`` that wait."""
    values = {"now": now, "after": after, "limit": limit}
    return [turn for (turn,) in connection.execute(DUE_TURNS, values).fetchall()]


def content(connection: sqlite3.Connection, number: int, part: int) -> bytes:
    """One part of a message; SpoolError where it is not there (any more)."""
    row = connection.execute(CONTENT, ((number << CONTENT_SHIFT) + part,)).fetchone()
    if row is None:
        raise SpoolError(f"part {part} of message {number:X} is not in the spool")
    return bytes(row[0])


def numbers_of(connection: sqlite3.Connection, message_id: str) -> list[int]:
    """Reads all messages: an index of random strings would cost each accept a page, for a question people ask."""
    return [number for (number,) in connection.execute(NUMBERS_OF, (message_id,)).fetchall()]


def find(connection: sqlite3.Connection, selector: Selector, now: int, limit: int | None) -> list[QueuedMessage]:
    """Open messages that meet all conditions, lowest number first."""
    query = selection(selector, now)
    if query is None or limit == 0:
        return []
    statement, values = query
    found = connection.execute(statement, {**values, "limit": -1 if limit is None else limit}).fetchall()
    messages: list[QueuedMessage] = []
    for start in range(0, len(found), SLICE):
        messages += _load(connection, [number for (number,) in found[start : start + SLICE]], now)
    # Between the two reads a message may have been done.
    return [queued for queued in messages if any(recipient.due is not None for recipient in queued.recipients)]


def story(connection: sqlite3.Connection, number: int, now: int) -> Story | None:
    """A message, open or done, with every attempt in the order of their ends, in one snapshot."""
    with _snapshot(connection):
        rows = connection.execute(LISTED, (f"[{number}]",)).fetchall()
        attempts = [_attempt(row) for row in connection.execute(ATTEMPTS, (number,)).fetchall()]
        repetitions = repeated(connection, number)
    if not rows:
        return None
    # The last attempt of a recipient that is done stands in its own row.
    for row in rows:
        address = row[_MESSAGE_WIDTH + 1]
        _, due, upstream, detail, at, relay, status, dsn, delays, _ = row[_MESSAGE_WIDTH + _RECIPIENT_WIDTH :]
        if due is None:
            attempts.append(_attempt((at, address, upstream, relay, status, dsn, detail, delays)))
    attempts.sort(key=lambda attempt: attempt.at)
    return Story(_queued(rows, now), tuple(attempts), *repetitions)


def selection(selector: Selector, now: int) -> tuple[str, dict[str, Any]] | None:
    """The statement that gives a selector's numbers, with its values; None where it selects nothing."""
    if replace(selector, after=0) == Selector() or selector.state not in {None, DEAD, *STATES}:
        return None
    terms = ["recipient.due IS NOT NULL", "recipient.message > :after"]
    values: dict[str, Any] = {"after": selector.after}
    if selector.numbers:
        terms.append("recipient.message IN (SELECT value FROM json_each(:numbers))")
        values["numbers"] = json.dumps(selector.numbers)
    if selector.sender is not None:
        terms.append("lower(message.sender) = lower(:sender)")
        values["sender"] = selector.sender
    if selector.recipient is not None:
        terms.append("lower(recipient.address) = lower(:recipient)")
        values["recipient"] = selector.recipient
    if selector.domain is not None:
        terms.append("substr(lower(recipient.address), -length(:domain)) = lower(:domain)")
        values["domain"] = f"@{selector.domain}"
    if selector.upstream is not None:
        terms.append("recipient.upstream = :upstream")
        values["upstream"] = selector.upstream
    if selector.arrived_before is not None:
        terms.append("message.arrived < :before")
        values["before"] = round(selector.arrived_before * 1000)
    state = selector.state
    if state == DEAD:
        state = "held"
        terms.append("message.bounce_of IS NOT NULL AND recipient.status IN ('bounced', 'expired')")
    if state is not None:
        # Few are leased or held: recipient_open finds them. Many wait: in the order of their numbers (hence the +),
        # as sorting a million would take longer than it takes to find the first hundred.
        few = state in {"leased", "held"}
        terms.append(f"recipient.state = '{state}'" if few else "+recipient.state = 'waiting'")
        terms.append(f"{_RANK} = :rank")
        # And no other recipient of the message outranks this one.
        terms.append(
            f"NOT EXISTS (SELECT 1 FROM recipient AS other WHERE other.message = recipient.message"  # noqa: S608
            f" AND +other.due IS NOT NULL AND {_RANK.replace('recipient.', '+other.')} < :rank)"
        )
        values.update(rank=STATES.index(state), now=now)
    statement = (
        "SELECT DISTINCT recipient.message FROM recipient CROSS JOIN message ON message.id = recipient.message"  # noqa: S608
        f" WHERE {' AND '.join(terms)} ORDER BY recipient.message LIMIT :limit"
    )
    return statement, values


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def _load(connection: sqlite3.Connection, numbers: list[int], now: int) -> list[QueuedMessage]:
    rows = connection.execute(LISTED, (json.dumps(numbers),)).fetchall()
    return [_queued(list(group), now) for _, group in groupby(rows, key=lambda row: row[0])]


def _queued(rows: Sequence[Any], now: int) -> QueuedMessage:
    start = _MESSAGE_WIDTH
    message = message_of(rows[0], [recipient_of(row[start:]) for row in rows])
    recipients = []
    for row in rows:
        n, address, _, _, attempts, _, state, due, upstream, detail = row[start : start + _RECIPIENT_WIDTH + 4]
        shown = "deferred" if state == "waiting" and due > now else state
        next_attempt = None if due is None else due / 1000
        begun = row[-1] is not None
        recipients.append(QueuedRecipient(n, address, shown, attempts, next_attempt, upstream, detail, begun))
    return QueuedMessage(message, tuple(recipients))


def _attempt(row: Sequence[Any]) -> AttemptRecord:
    at, address, upstream, relay, status, dsn, detail, delays = row
    return AttemptRecord(at / 1000, address, upstream, relay, status, dsn, detail, delays)
