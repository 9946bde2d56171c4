"""What waits, summed up for an estimate: how much, whose turn, and when it falls due.

Reads the whole index of what waits: a second or two per million, on a connection of the operators'.
"""

from __future__ import annotations

from typing import Final

from relay.backlog import Dues
from relay.spool.library import sqlite3

# A message's recipients mostly share a slot: each is counted where it is, its message once in each.
_SUM: Final = "count(DISTINCT message), count(*), min(message)"
# In the order of recipient_waiting, so that nothing is sorted.
DUE: Final = (
    f"SELECT turn, 0, {_SUM} FROM recipient INDEXED BY recipient_waiting"  # noqa: S608  (fixed text)
    " WHERE state = 'waiting' AND due <= :now GROUP BY turn"
)
LATER: Final = (
    f"SELECT turn, (due - :now + :grain - 1) / :grain AS slot, {_SUM} FROM recipient INDEXED BY recipient_waiting"  # noqa: S608
    " WHERE state = 'waiting' AND due > :now GROUP BY turn, slot"
)
LEASED: Final = (
    f"SELECT turn, 0, {_SUM} FROM recipient INDEXED BY recipient_open"  # noqa: S608
    " WHERE state = 'leased' AND due IS NOT NULL GROUP BY turn"
)


def dues(connection: sqlite3.Connection, now: int, grain: int) -> list[Dues]:
    """What is due or leased, then what falls due later, by turn."""
    values = {"now": now, "grain": grain}
    return [
        Dues(turn, (now + slot * grain) / 1000, messages, recipients, example)
        for statement in (DUE, LEASED, LATER)
        for turn, slot, messages, recipients, example in connection.execute(statement, values).fetchall()
    ]
