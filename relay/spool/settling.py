"""Coming to an end: settle records outcomes. It runs inside the writer's transaction.

A straight success costs one UPDATE and one DELETE, the batch's sums shared. A settlement without a lease changes
nothing (sentence 2), also not by the bounces it brings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from relay.mail import RecipientState
from relay.spool import Arrival, Settled, Settlement
from relay.spool.accepting import MAX_PARTS, accept
from relay.spool.manyrows import ManyRows
from relay.spool.schema import CONTENT_SHIFT
from relay.spool.transaction import LeaseGone, Transaction, milliseconds

# (message, n) is unique, so the planner looks no further than the primary key; state is checked on the row found.
# A due time of -1 stands for none, as NULL is dear to bind.
OUTCOMES: Final = ManyRows(
    "UPDATE recipient SET state = column3, due = nullif(column4, -1), attempts = column5, upstream = column6,"
    " relay = column7, status = column8, dsn = column9, detail = column10, delays = column11, at = column12 FROM (",
    12,
    ") WHERE message = column1 AND n = column2 AND +state = 'leased'",
)
GIVEN_BACK: Final = "UPDATE recipient SET state = ?, due = ? WHERE message = ? AND n = ? AND +state = 'leased'"
ATTEMPT: Final = (
    "INSERT INTO attempt (message, at, address, upstream, relay, status, dsn, detail, delays)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
STILL_OPEN: Final = "SELECT 1 FROM recipient WHERE message = ? AND +due IS NOT NULL LIMIT 1"
SIZES: Final = "SELECT count(*), total(size) FROM message WHERE id IN (SELECT value FROM json_each(?))"
CONTENTS_GONE: Final = (
    "DELETE FROM content WHERE id IN (SELECT content.id FROM json_each(?) AS done CROSS JOIN content"  # noqa: S608
    f" ON content.id BETWEEN done.value << {CONTENT_SHIFT} AND (done.value << {CONTENT_SHIFT}) + {MAX_PARTS - 1})"
)

COMPANY: Final = 100
"""Messages whose settlement is worth an fsync of its own: it waits for nobody."""

_DONE: Final = frozenset({RecipientState.RELAYED, RecipientState.FAILED, RecipientState.SUPPRESSED})


def settle(tx: Transaction, settlements: Sequence[Settlement]) -> frozenset[int]:
    """Record outcomes of leased recipients; the numbers of the messages that are done with it.

    In company it takes for granted that all leases hold and raises LeaseGone where one does not; alone it looks at
    each recipient.
    """
    outcomes: list[tuple[Any, ...]] = []
    given_back: list[tuple[Any, ...]] = []
    attempts: list[tuple[Any, ...]] = []
    candidates: dict[int, bool] = {}
    bounces: list[Arrival] = []
    taken: set[tuple[int, int]] = set()
    for settlement in settlements:
        recipients = _leased(tx, settlement, taken) if tx.alone else settlement.recipients
        if not recipients:
            continue
        number = settlement.number
        at = milliseconds(settlement.at)
        done = 0
        relayed_by = ""
        for settled in recipients:
            state = settled.state
            if state in _DONE:
                due = None
                done += 1
                if state is RecipientState.RELAYED:
                    relayed_by = settled.upstream
            else:
                due = at if settled.due is None else milliseconds(settled.due)
            if settled.charged:
                outcomes.append(_outcome_row(settled, due, at, number))
                if due is not None:
                    attempts.append(_attempt_row(settled, at, number))
            else:
                given_back.append((state.value, due, number, settled.n))
        if done:
            # All at once is the rule; else the rows must be asked, once they are written.
            candidates[number] = done == settlement.nrcpt
        if relayed_by:
            tx.sent[relayed_by] = tx.sent.get(relayed_by, 0) + 1
        bounces.extend(settlement.bounces)
    _write(tx, outcomes, given_back, attempts)
    finished = [
        number for number, whole in candidates.items() if whole or tx.execute(STILL_OPEN, (number,)).fetchone() is None
    ]
    if finished:
        finish(tx, finished)
    for bounce in bounces:
        accept(tx, bounce)
    return frozenset(finished)


def finish(tx: Transaction, numbers: Iterable[int]) -> None:
    """Messages whose last recipient is done: the contents go, the sums follow; the story stays."""
    listed = (f"[{','.join(map(str, numbers))}]",)
    messages, octets = tx.execute(SIZES, listed).fetchone()
    tx.messages -= messages
    tx.octets -= int(octets)
    tx.execute(CONTENTS_GONE, listed)
    if tx.fault is not None:
        tx.fault("finish.content")


def _write(
    tx: Transaction,
    outcomes: list[tuple[Any, ...]],
    given_back: list[tuple[Any, ...]],
    attempts: list[tuple[Any, ...]],
) -> None:
    changed = 0
    if outcomes:
        changed += OUTCOMES.execute(tx.execute, outcomes)
        if tx.fault is not None:
            tx.fault("settle.outcomes")
    if given_back:
        changed += tx.executemany(GIVEN_BACK, given_back).rowcount
        if tx.fault is not None:
            tx.fault("settle.given_back")
    if changed != len(outcomes) + len(given_back):
        raise LeaseGone
    if attempts:
        tx.executemany(ATTEMPT, attempts)
        if tx.fault is not None:
            tx.fault("settle.attempts")


def _leased(tx: Transaction, settlement: Settlement, taken: set[tuple[int, int]]) -> list[Settled]:
    """Those recipients of a settlement that are under lease now; ``taken`` keeps what this call has used up."""
    number = settlement.number
    rows = tx.execute("SELECT n FROM recipient WHERE message = ? AND +state = 'leased'", (number,)).fetchall()
    leased = {n for (n,) in rows}
    live = []
    for settled in settlement.recipients:
        if settled.n in leased and (number, settled.n) not in taken:
            taken.add((number, settled.n))
            live.append(settled)
    return live


def _outcome_row(settled: Settled, due: int | None, at: int, number: int) -> tuple[Any, ...]:
    return (
        number,
        settled.n,
        str(settled.state),
        -1 if due is None else due,
        settled.attempts,
        settled.upstream,
        settled.relay,
        settled.status,
        settled.dsn,
        settled.detail,
        settled.delays,
        at,
    )


def _attempt_row(settled: Settled, at: int, number: int) -> tuple[Any, ...]:
    return (
        number,
        at,
        settled.address,
        settled.upstream,
        settled.relay,
        settled.status,
        settled.dsn,
        settled.detail,
        settled.delays,
    )
