"""One verb on its way through the writer: handed over by the event loop, run by the thread, answered in the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from relay.spool import SpoolError
from relay.spool.transaction import Transaction


@dataclass(slots=True, eq=False)
class Operation:
    """One verb that waits for the writer. ``octets`` and ``rows`` weigh it; ``grows`` says that it may be refused for
    want of room; ``promises`` is False where nobody relies on it before a later verb is durable: it needs no sync of
    its own; ``finished`` is called in the event loop before its caller goes on, also where the caller has gone.
    """

    work: Callable[[Transaction], Any]
    future: asyncio.Future[Any]
    lazy: bool = False
    grows: bool = False
    promises: bool = True
    octets: int = 0
    rows: int = 0
    finished: Callable[[bool], None] | None = None


@dataclass(slots=True)
class Change:
    """By how much a batch changed the sums."""

    messages: int = 0
    octets: int = 0
    sent: dict[str, int] = field(default_factory=dict)

    def add(self, tx: Transaction) -> None:
        """Count a transaction that was committed."""
        self.messages += tx.messages
        self.octets += tx.octets
        for upstream, messages in tx.sent.items():
            self.sent[upstream] = self.sent.get(upstream, 0) + messages


Ended = tuple[Operation, Any, SpoolError | None]


def finish(ended: list[Ended], change: Change, committed: Callable[[Change], None]) -> None:
    """Answer a batch: first the sums, then what each verb keeps track of, then its caller, if it still waits."""
    committed(change)
    for operation, result, failure in ended:
        if operation.finished is not None:
            operation.finished(failure is None)
        future = operation.future
        if future.done():
            continue
        if failure is None:
            future.set_result(result)
        else:
            future.set_exception(failure)


def ignore(_change: Change) -> None:
    """Nobody follows the sums."""


def resolve(future: asyncio.Future[Any], result: object) -> None:
    """Answer ``future``, if anybody still waits."""
    if not future.done():
        future.set_result(result)


def refuse(future: asyncio.Future[Any], error: BaseException) -> None:
    """Let ``future`` raise ``error``, if anybody still waits."""
    if not future.done():
        future.set_exception(error)
