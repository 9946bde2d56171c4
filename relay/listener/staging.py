"""A large message's way into the spool: part by part while it is read, so that it never stands in memory whole.

One part of a message is under way at a time, while the next one is read: application, event loop and disk work at the
same time. What nobody accepts is discarded, or swept at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from relay.spool import PART_SIZE, Spool, SpoolError

PARTS_AT_A_TIME: Final = 4
"""Parts of large messages that wait for the writer, of all messages together: a small one's commit has no more than
these before it. Who sends the others is slowed down by flow control, and what is read of them stays bounded."""


class Staging:
    """The parts of message ``number``; ``turns`` is shared by all messages, PARTS_AT_A_TIME of them."""

    __slots__ = ("_begun", "_number", "_spool", "_turns", "_under_way")

    def __init__(self, spool: Spool, turns: asyncio.Semaphore, number: int) -> None:
        self._spool = spool
        self._turns = turns
        self._number = number
        self._begun = 0
        self._under_way: asyncio.Task[None] | None = None

    async def stage(self, octets: bytes, *, last: bool = False) -> bytes:
        """Write out the whole parts of ``octets``; what is left of them, to be given again before what follows.

        With ``last`` what remains too, and all of it is in the spool on return; else one part may be under way. Raises
        SpoolError, also for the part before.
        """
        whole = memoryview(octets)
        end = len(octets) if last else len(octets) - len(octets) % PART_SIZE
        for start in range(0, end, PART_SIZE):
            await self._staged()
            self._under_way = asyncio.create_task(self._put(self._begun, bytes(whole[start : start + PART_SIZE])))
            # Counted before: a part that failed half-way is to be discarded too.
            self._begun += 1
        if last:
            await self._staged()
        return bytes(whole[end:])

    async def discard(self) -> None:
        """Forget them; where the spool can't, its next start does."""
        with contextlib.suppress(Exception):  # whatever it was: what is under way has come to its end
            await self._staged()
        if self._begun:
            with contextlib.suppress(SpoolError):
                await self._spool.discard(self._number)

    async def _put(self, part: int, octets: bytes) -> None:
        async with self._turns:
            await self._spool.stage(self._number, part, octets)

    async def _staged(self) -> None:
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            await under_way
