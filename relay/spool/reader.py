"""A thread with a connection that only reads: a slow list never stops the writer, nor one reader the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from relay.spool import SpoolError
from relay.spool.errors import translate
from relay.spool.library import sqlite3
from relay.spool.opening import open_reader

T = TypeVar("T")


class Reader:
    """Opened with its first question: who asks nothing costs nothing."""

    def __init__(self, spool: Path, name: str) -> None:
        self._spool = spool
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    async def read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """The answer to ``question``; raises SpoolError."""
        if self._closed:
            raise SpoolError("the spool is closed")
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._ask, question)

    async def close(self) -> None:
        """End the thread after what it is at; harmless when repeated."""
        self._closed = True
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, partial(self._end))

    def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = open_reader(self._spool)
            return question(self._connection)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise translate(error) from error

    def _end(self) -> None:
        # SQLite's objects stay in their thread, also to be closed.
        if self._connection is not None:
            self._executor.submit(self._connection.close)
            self._connection = None
        self._executor.shutdown(wait=True)
