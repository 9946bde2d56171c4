"""Known again: a message that comes a second time is met in the accepting transaction, so that of two which arrive at
the same moment just one is stored. Functions run inside the writer's transaction, or read.

What bears no imprint costs nothing here.
"""

from __future__ import annotations

from typing import Final

from relay.mail import Imprint, Message
from relay.spool import Duplicate
from relay.spool.library import sqlite3
from relay.spool.transaction import Transaction, milliseconds

SLICE: Final = 500
"""Imprints forgotten in one transaction."""

_KINDS: Final = ("Message-ID", "Idempotency-Key")
"""By the last bit of an imprint's id."""

_FIND: Final = "SELECT id FROM imprint WHERE digest = ? AND until > ?"
# An imprint with that digest that is still there is of a window that is over.
_REMEMBER: Final = "INSERT OR REPLACE INTO imprint (id, digest, until) VALUES (?, ?, ?)"
_REPEAT: Final = "UPDATE imprint SET repeated = repeated + 1, last = ? WHERE id = ?"
OVER: Final = "SELECT id FROM imprint WHERE id > ? AND until <= ? ORDER BY id LIMIT ?"
_FORGET: Final = "DELETE FROM imprint WHERE id = ? AND until <= ?"
REPEATED: Final = "SELECT total(repeated), max(last) FROM imprint WHERE id BETWEEN ? AND ?"


def known(tx: Transaction, message: Message, imprints: tuple[Imprint, ...]) -> Duplicate | None:
    """The message that one of ``imprints`` is of, which is told that it came again; else they are ``message``'s."""
    now = milliseconds(message.arrived)
    for imprint in imprints:
        found = tx.execute(_FIND, (imprint.digest, now)).fetchone()
        if found is not None:
            tx.execute(_REPEAT, (now, found[0]))
            if tx.fault is not None:
                tx.fault("accept.repeated")
            return Duplicate(found[0] >> 1, imprint.kind)
    for imprint in imprints:
        number = (message.number << 1) + _KINDS.index(imprint.kind)
        tx.execute(_REMEMBER, (number, imprint.digest, now + milliseconds(imprint.window)))
        if tx.fault is not None:
            tx.fault("accept.imprint")
    return None


def over(connection: sqlite3.Connection, after: int, now: int) -> list[int]:
    """Up to SLICE ids above ``after`` of imprints whose window is over."""
    return [number for (number,) in connection.execute(OVER, (after, now, SLICE)).fetchall()]


def forget(tx: Transaction, ids: list[int], now: int) -> int:
    """Forget those of ``ids`` that are over still."""
    gone = sum(tx.execute(_FORGET, (each, now)).rowcount for each in ids)
    if tx.fault is not None:
        tx.fault("forget.imprints")
    return gone


def repeated(connection: sqlite3.Connection, number: int) -> tuple[int, float | None]:
    """How often message ``number`` came again, and when last (Unix seconds)."""
    count, last = connection.execute(REPEATED, (number << 1, (number << 1) + 1)).fetchone()
    return int(count), None if last is None else last / 1000
