"""What upstreams were found to bear, and whose bulk mail is stopped: a row each, written when it changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relay.lessons import BrakeRecord, LearnedRecord, Source, held_by
from relay.spool.library import sqlite3
from relay.spool.transaction import Transaction, milliseconds

_COLUMNS: Final = "upstream, rate, span, since, reason, connections, patience, crowded, crowded_reason"
LEARNED: Final = f"INSERT OR REPLACE INTO learned ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
BRAKED: Final = "INSERT OR IGNORE INTO brake (kind, name, at, reason) VALUES (?, ?, ?, ?)"
UNBRAKED: Final = "DELETE FROM brake WHERE kind = ? AND name = ?"
# What the brake stopped says so in its last words; the index over what is open finds what is held.
RELEASED: Final = (
    "UPDATE recipient SET state = 'waiting', due = ?, detail = '' WHERE state = 'held' AND due IS NOT NULL"
    " AND detail LIKE ? ESCAPE '!' RETURNING message"
)
FORGOTTEN: Final = "DELETE FROM learned WHERE upstream = ?"


def record(tx: Transaction, record: LearnedRecord) -> None:
    """Write what is known of one upstream, or forget it."""
    if record.rate is None and record.connections is None:
        tx.execute(FORGOTTEN, (record.upstream,))
        return
    rate = (record.rate, record.span, milliseconds(record.since), record.reason)
    crowd = (record.connections, record.patience, milliseconds(record.crowded), record.crowded_reason)
    tx.execute(LEARNED, (record.upstream, *rate, *crowd))


def learned(connection: sqlite3.Connection) -> dict[str, LearnedRecord]:
    """All that is known, by upstream."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM learned").fetchall()  # noqa: S608 - our own words
    return {
        upstream: LearnedRecord(
            upstream, rate, span, since / 1000, reason, connections, patience, crowded / 1000, crowded_reason
        )
        for upstream, rate, span, since, reason, connections, patience, crowded, crowded_reason in rows
    }


def refused_logins(connection: sqlite3.Connection) -> dict[str, tuple[float, ...]]:
    """When logins were refused, the earliest first, by upstream."""
    found: dict[str, tuple[float, ...]] = {}
    for upstream, at in connection.execute("SELECT upstream, at FROM login ORDER BY upstream, n").fetchall():
        found[upstream] = (*found.get(upstream, ()), at / 1000)
    return found


def record_refused_logins(tx: Transaction, upstream: str, times: Sequence[float]) -> None:
    """Write these in the place of what was known."""
    tx.execute("DELETE FROM login WHERE upstream = ?", (upstream,))
    if tx.fault is not None:
        tx.fault("logins.gone")
    for n, at in enumerate(times):
        tx.execute("INSERT INTO login (upstream, n, at) VALUES (?, ?, ?)", (upstream, n, milliseconds(at)))


def brakes(connection: sqlite3.Connection) -> list[BrakeRecord]:
    """What is stopped, the first one first."""
    rows = connection.execute("SELECT kind, name, at, reason FROM brake ORDER BY at, kind, name").fetchall()
    return [BrakeRecord(Source(kind, name), at / 1000, reason) for kind, name, at, reason in rows]


def brake(tx: Transaction, record: BrakeRecord) -> None:
    """Stop the bulk mail of a source."""
    tx.execute(BRAKED, (record.source.kind, record.source.name, milliseconds(record.at), record.reason))


def unbrake(tx: Transaction, source: Source, now: float) -> int:
    """Stop it no more, and release what was held for it; how many messages."""
    tx.execute(UNBRAKED, (source.kind, source.name))
    if tx.fault is not None:
        tx.fault("unbrake.brake")
    words = f"{held_by(source)}:".replace("!", "!!").replace("%", "!%").replace("_", "!_")
    rows = tx.execute(RELEASED, (milliseconds(now), f"{words}%")).fetchall()
    return len({number for (number,) in rows})
