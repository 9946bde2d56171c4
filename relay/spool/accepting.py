"""Coming in: stage, discard, accept. Each function runs inside the writer's transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from relay.mail import NO_SIGNATURE, Message
from relay.spool import PART_SIZE, Arrival, Duplicate, SpoolError
from relay.spool.imprints import known
from relay.spool.library import sqlite3
from relay.spool.manyrows import Inserts, ManyRows
from relay.spool.schema import CONTENT_SHIFT
from relay.spool.transaction import Transaction, milliseconds

MAX_PARTS: Final = 1 << CONTENT_SHIFT

_MESSAGES: Final = Inserts(
    "message",
    "id, arrived, sender, size, body, smtputf8, ret, envid, message_id, client, nrcpt, parts, bounce_of, not_after,"
    " upstream_wanted, priority, tag, idempotency_key, marks",
)
_RECIPIENTS: Final = Inserts("recipient", "message, n, address, notify, orcpt, state, due, attempts, turn")
_CONTENTS: Final = ManyRows("INSERT INTO content (id, octets)", 2)
_CONTENT: Final = _CONTENTS.text(1)
_SIGNATURES: Final = Inserts("signature", "message, fields, profile, body_hash")
_STAGED: Final = "SELECT count(*), max(id), total(length(octets)) FROM content WHERE id BETWEEN ? AND ?"
_STAGING: Final = "INSERT OR IGNORE INTO staging (message) VALUES (?)"
_PUBLISH: Final = "DELETE FROM staging WHERE message = ?"
_DISCARD: Final = "DELETE FROM content WHERE id BETWEEN ? AND ?"


def accept(tx: Transaction, arrival: Arrival) -> Duplicate | None:
    """Enter a message with its recipients and its content; a staged one is published by dropping its mark. One that is
    known already is dropped with what was staged of it.

    The rows wait for :func:`write`, which comes before the transaction's end.
    """
    message = arrival.message
    number = message.number
    if arrival.imprints:
        duplicate = known(tx, message, arrival.imprints)
        if duplicate is not None:
            if arrival.content is None:
                discard(tx, number)
            return duplicate
    envelope = message.envelope
    content = arrival.content
    parts = _publish(tx, message) if content is None else max(1, -(-len(content) // PART_SIZE))
    if parts > MAX_PARTS:
        raise SpoolError(f"a message has at most {MAX_PARTS} parts")
    arrived = milliseconds(message.arrived)
    recipients = envelope.recipients
    row = (
        number,
        arrived,
        envelope.sender,
        message.size,
        str(envelope.body),
        int(envelope.smtputf8),
        envelope.ret,
        envelope.envid,
        message.message_id,
        message.client,
        len(recipients),
        parts,
        arrival.bounce_of,
        None if message.not_after is None else milliseconds(message.not_after),
        message.upstream,
        str(message.priority),
        message.tag,
        message.idempotency_key,
        "\n".join(message.marks) or None,
    )
    tx.new_messages.append(row)
    signatures = message.signatures
    if signatures is not None and signatures.profile != NO_SIGNATURE:
        tx.new_signatures.append((number, signatures.fields, signatures.profile, signatures.body_hash))
    state = "leased" if arrival.leased else "waiting"
    turn = arrival.turn
    for r in recipients:
        tx.new_recipients.append((number, r.n, r.address, r.notify, r.orcpt, state, arrived, r.attempts, turn))
    if content is not None:
        first = number << CONTENT_SHIFT
        if parts == 1:
            tx.new_contents.append((first, content))
        else:
            tx.new_contents.extend(
                (first + part, content[part * PART_SIZE : (part + 1) * PART_SIZE]) for part in range(parts)
            )
        tx.written += len(content)
    tx.messages += 1
    tx.octets += message.size
    tx.last = max(tx.last, number)
    return None


def write(tx: Transaction) -> None:
    """Write the rows of all that was accepted in this transaction."""
    fault = tx.fault
    _MESSAGES.execute(tx.execute, tx.new_messages)
    if fault is not None:
        fault("accept.message")
    _RECIPIENTS.execute(tx.execute, tx.new_recipients)
    if fault is not None:
        fault("accept.recipients")
    if tx.new_signatures:
        _SIGNATURES.execute(tx.execute, tx.new_signatures)
        if fault is not None:
            fault("accept.signatures")
    if not tx.new_contents:
        return
    some: list[tuple[int, bytes]] = []
    octets = 0
    # SQLite copies what a statement is given: no more of it than a part at a time.
    for row in tx.new_contents:
        some.append(row)
        octets += len(row[1])
        if octets >= PART_SIZE:
            _CONTENTS.execute(tx.execute, some)
            some, octets = [], 0
    _CONTENTS.execute(tx.execute, some)
    if fault is not None:
        fault("accept.content")


def stage(tx: Transaction, number: int, part: int, octets: bytes) -> None:
    """Keep one part; the mark in ``staging`` says that nobody was told 250 for it."""
    if not 0 <= part < MAX_PARTS or len(octets) > PART_SIZE:
        raise SpoolError(f"a message has at most {MAX_PARTS} parts of {PART_SIZE} octets")
    tx.execute(_STAGING, (number,))
    if tx.fault is not None:
        tx.fault("stage.mark")
    tx.execute(_CONTENT, ((number << CONTENT_SHIFT) + part, octets))
    tx.written += len(octets)
    if tx.fault is not None:
        tx.fault("stage.content")


def discard(tx: Transaction, number: int) -> None:
    """Drop what was staged; a message that was accepted meanwhile keeps its content."""
    if tx.execute(_PUBLISH, (number,)).rowcount == 0:
        return
    if tx.fault is not None:
        tx.fault("discard.mark")
    tx.execute(_DISCARD, content_range(number))
    if tx.fault is not None:
        tx.fault("discard.content")


def sweep_staging(connection: sqlite3.Connection, fault: Callable[[str], None] | None) -> int:
    """Drop what an ended process staged and never accepted, one transaction a message; how many those were."""
    strays = connection.execute("SELECT message FROM staging").fetchall()
    for (number,) in strays:
        connection.execute("BEGIN IMMEDIATE")
        discard(Transaction(connection, fault), number)
        connection.execute("COMMIT")
    return len(strays)


def content_range(number: int) -> tuple[int, int]:
    """The first and the last id that a message's content rows can have."""
    first = number << CONTENT_SHIFT
    return first, first + MAX_PARTS - 1


def _publish(tx: Transaction, message: Message) -> int:
    """Check that all of the message was staged, drop the mark; how many parts it has."""
    number = message.number
    if tx.execute(_PUBLISH, (number,)).rowcount == 0:
        raise SpoolError(f"nothing was staged for {message.queue_id}")
    if tx.fault is not None:
        tx.fault("accept.publish")
    parts, highest, octets = tx.execute(_STAGED, content_range(number)).fetchone()
    if not parts or highest != (number << CONTENT_SHIFT) + parts - 1 or octets != message.size:
        raise SpoolError(f"what was staged for {message.queue_id} is incomplete")
    return int(parts)
