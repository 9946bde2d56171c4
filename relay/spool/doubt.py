"""Content begun: what was about to leave when the process ended. Each function runs inside the writer's transaction.

``begun`` stands in the recipient's row from before the first octet of its content leaves; the next lease clears it. It
means something beside the state *leased* only: then nobody knows what became of it (docs/outcomes.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from relay.spool import Begun, Claimed
from relay.spool.rows import MESSAGE_COLUMNS, RECIPIENT_COLUMNS, message_of, recipient_of
from relay.spool.transaction import Transaction

BEGIN: Final = "UPDATE recipient SET begun = ? WHERE message = ? AND n = ? AND +state = 'leased'"
BEGUN: Final = (
    f"SELECT {MESSAGE_COLUMNS}, message.nrcpt, message.parts, recipient.begun, {RECIPIENT_COLUMNS}"  # noqa: S608
    " FROM recipient INDEXED BY recipient_open CROSS JOIN message ON message.id = recipient.message"
    " WHERE recipient.state = 'leased' AND recipient.due IS NOT NULL AND recipient.begun IS NOT NULL"
    " ORDER BY message.id, recipient.begun, recipient.n"
)

_WIDTH: Final = MESSAGE_COLUMNS.count(",") + 1


def begin(tx: Transaction, number: int, recipients: Sequence[int], where: str) -> None:
    """The content for these leased recipients is about to leave for ``where``."""
    tx.executemany(BEGIN, [(where, number, n) for n in recipients])
    if tx.fault is not None:
        tx.fault("begin.recipients")


def begun(tx: Transaction) -> list[Begun]:
    """What is leased and begun, without contents, apart by where it went."""
    rows = tx.execute(BEGUN).fetchall()
    found = []
    for (_, where), group in groupby(rows, key=lambda row: (row[0], row[_WIDTH + 2])):
        own = list(group)
        message = message_of(own[0], [recipient_of(row[_WIDTH + 3 :]) for row in own])
        nrcpt, parts = own[0][_WIDTH : _WIDTH + 2]
        found.append(Begun(Claimed(message, nrcpt, None, parts), where))
    return found
