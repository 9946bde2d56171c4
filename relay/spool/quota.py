"""What was used of upstreams' limits: read once at start, written in small pieces, each whole or not at all.

A row a bucket, not a row a permit; what is written is what a bucket holds, so that writing it twice does no harm.
"""

from __future__ import annotations

from typing import Final

from relay.spool import QuotaRecord
from relay.spool.library import sqlite3
from relay.spool.transaction import Transaction, milliseconds

STANDING: Final = (
    "INSERT INTO quota (upstream, boot, at, wall, granted, held) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (upstream)"
    " DO UPDATE SET boot = excluded.boot, at = excluded.at, wall = excluded.wall, granted = excluded.granted,"
    " held = excluded.held"
)
USE: Final = (
    "INSERT INTO quota_use (upstream, window, bucket, used) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (upstream, window, bucket) DO UPDATE SET used = excluded.used"
)
ALL_GONE: Final = "DELETE FROM quota_use WHERE upstream = ?"
OLD_GONE: Final = "DELETE FROM quota_use WHERE upstream = ? AND window = ? AND bucket < ?"


def record(tx: Transaction, record: QuotaRecord) -> None:
    """Write what changed for one upstream."""
    upstream = record.upstream
    if record.anew:
        tx.execute(ALL_GONE, (upstream,))
    else:
        tx.executemany(OLD_GONE, [(upstream, milliseconds(w), number) for w, number in record.oldest.items()])
    if tx.fault is not None:
        tx.fault("quota.gone")
    uses = [
        (upstream, milliseconds(window), number, used)
        for window, buckets in record.windows.items()
        for number, used in buckets
        if used
    ]
    tx.executemany(USE, uses)
    if tx.fault is not None:
        tx.fault("quota.uses")
    standing = (upstream, record.boot, record.at, milliseconds(record.wall), record.granted, record.held)
    tx.execute(STANDING, standing)
    if tx.fault is not None:
        tx.fault("quota.standing")


def quotas(connection: sqlite3.Connection) -> dict[str, QuotaRecord]:
    """All that is known, by upstream."""
    windows: dict[str, dict[float, list[tuple[int, int]]]] = {}
    rows = connection.execute("SELECT upstream, window, bucket, used FROM quota_use ORDER BY upstream, window, bucket")
    for upstream, window, bucket, used in rows:
        windows.setdefault(upstream, {}).setdefault(window / 1000, []).append((bucket, used))
    found = connection.execute("SELECT upstream, granted, boot, at, wall, held FROM quota").fetchall()
    return {
        upstream: QuotaRecord(upstream, granted, boot, at, wall / 1000, windows.get(upstream, {}), held=held)
        for upstream, granted, boot, at, wall, held in found
    }
