"""Addresses that get no mail: a row each. What memory holds of them is loaded at the start, so that no message asks
here. Functions run inside the writer's transaction, or read; the verbs have them run.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from relay.spool.library import sqlite3
from relay.spool.reader import Reader
from relay.spool.transaction import Transaction, milliseconds
from relay.spool.writer import Writer
from relay.suppression import Cause, Entry, Suppression, SuppressionQuery, digest_of

SLICE: Final = 500
"""Addresses that come or go in one transaction."""

# What stands until it is removed is not put to an end by a bounce.
SUPPRESS: Final = (
    "INSERT INTO suppression (digest, address, cause, at, until, detail) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (digest) DO UPDATE SET cause = excluded.cause, at = excluded.at, until = excluded.until,"
    " detail = excluded.detail WHERE excluded.until IS NULL OR excluded.until >= suppression.until"
)
KNOWN: Final = "SELECT 1 FROM suppression WHERE digest = ?"
UNSUPPRESS: Final = "DELETE FROM suppression WHERE digest = ?"
LOADED: Final = "SELECT id, digest, cause, until FROM suppression WHERE id > ? ORDER BY id LIMIT ?"
OVER: Final = "SELECT id FROM suppression WHERE id > ? AND until <= ? ORDER BY id LIMIT ?"
FORGET: Final = "DELETE FROM suppression WHERE id = ? AND until <= ?"


class SuppressionVerbs:
    """The port's verbs for suppressions, for a spool that has a writer and two readers."""

    _writer: Writer
    _contents: Reader
    _operators: Reader

    async def suppressed(self, after: int, limit: int) -> list[tuple[int, Entry]]:
        """One page of what memory holds."""
        return await self._contents.read(partial(suppressed, after=after, limit=limit))

    async def suppressions(self, query: SuppressionQuery, limit: int) -> list[tuple[int, Suppression]]:
        """Reads the whole list, but for addresses."""
        return await self._operators.read(partial(suppressions, query=query, limit=limit))

    async def suppress(self, found: Sequence[Suppression]) -> int:
        """In slices, each a transaction; never refused for want of room."""
        new = 0
        for start in range(0, len(found), SLICE):
            part = found[start : start + SLICE]
            new += await self._writer.submit(partial(suppress, found=part), lazy=len(part) < SLICE)
        return new

    async def unsuppress(self, digests: Sequence[int]) -> int:
        """In slices, each a transaction."""
        gone = 0
        for start in range(0, len(digests), SLICE):
            gone += await self._writer.submit(partial(unsuppress, digests=digests[start : start + SLICE]))
        return gone

    async def forget_suppressions(self, now: float) -> int:
        """Looks for them where that keeps nobody waiting, forgets them in slices."""
        gone, at, after = 0, milliseconds(now), 0
        while rows := await self._operators.read(partial(over, after=after, now=at)):
            gone += await self._writer.submit(partial(forget, rows=rows, now=at), lazy=True)
            after = rows[-1]
        return gone


def suppressed(connection: sqlite3.Connection, after: int, limit: int) -> list[tuple[int, Entry]]:
    """Entries with their row, above row ``after``, in the order they came."""
    causes = {cause.value: cause for cause in Cause}
    rows = connection.execute(LOADED, (after, limit)).fetchall()
    return [(row, Entry(digest, causes[cause], _seconds(until))) for row, digest, cause, until in rows]


def suppressions(connection: sqlite3.Connection, query: SuppressionQuery, limit: int) -> list[tuple[int, Suppression]]:
    """What ``query`` means, with their rows, in the order they came."""
    terms = ["id > :after"]
    values: dict[str, Any] = {"after": query.after, "limit": limit}
    if query.addresses:
        names = [f":d{n}" for n in range(len(query.addresses))]
        values |= {f"d{n}": digest_of(address) for n, address in enumerate(query.addresses)}
        terms.append(f"digest IN ({', '.join(names)})")
    if query.domain is not None:
        terms.append("substr(lower(address), -length(:domain)) = :domain")
        values["domain"] = f"@{query.domain.lower()}"
    if query.cause is not None:
        terms.append("cause = :cause")
        values["cause"] = query.cause.value
    if query.since is not None:
        terms.append("at >= :since")
        values["since"] = milliseconds(query.since)
    statement = (
        f"SELECT id, address, cause, at, until, detail FROM suppression WHERE {' AND '.join(terms)}"  # noqa: S608
        " ORDER BY id LIMIT :limit"
    )
    return [
        (row, Suppression(address, Cause(cause), at / 1000, _seconds(until), detail))
        for row, address, cause, at, until, detail in connection.execute(statement, values).fetchall()
    ]


def suppress(tx: Transaction, found: Sequence[Suppression]) -> int:
    """Enter them; how many addresses were not there."""
    new = 0
    for each in found:
        digest = each.digest
        new += tx.execute(KNOWN, (digest,)).fetchone() is None
        until = None if each.until is None else milliseconds(each.until)
        tx.execute(SUPPRESS, (digest, each.address, each.cause.value, milliseconds(each.at), until, each.detail))
    if tx.fault is not None:
        tx.fault("suppress.rows")
    return new


def unsuppress(tx: Transaction, digests: Sequence[int]) -> int:
    """Drop the addresses of these digests; how many there were."""
    gone = sum(tx.execute(UNSUPPRESS, (digest,)).rowcount for digest in digests)
    if tx.fault is not None:
        tx.fault("unsuppress.rows")
    return gone


def over(connection: sqlite3.Connection, after: int, now: int) -> list[int]:
    """Up to SLICE rows above ``after`` of suppressions that have ended."""
    return [row for (row,) in connection.execute(OVER, (after, now, SLICE)).fetchall()]


def forget(tx: Transaction, rows: Sequence[int], now: int) -> int:
    """Forget those of ``rows`` that have ended still."""
    gone = sum(tx.execute(FORGET, (row, now)).rowcount for row in rows)
    if tx.fault is not None:
        tx.fault("forget.suppressions")
    return gone


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
