"""Many rows by few statements.

Each statement lets go of the interpreter's lock and must win it back from a busy event loop, which costs more than the
statement itself: a batch of messages takes as few as can be. SQLite keeps them prepared, one for each number of rows.
Columns that no row fills are left out: to bind NULL is dear, as the library looks for an adapter each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain, compress, repeat
from typing import Any, Final

from relay.spool.library import sqlite3

_MOST: Final = 32
"""Rows that one statement takes at the most."""
_SHAPES: Final = 64
"""Selections of columns whose texts are kept, of each table."""


class ManyRows:
    """A statement that holds ``VALUES`` with rows of ``columns`` values between ``head`` and ``tail``."""

    __slots__ = ("_texts",)

    def __init__(self, head: str, columns: int, tail: str = "") -> None:
        row = f"({', '.join('?' * columns)})"
        self._texts = tuple(f"{head} VALUES {', '.join([row] * size)}{tail}" for size in range(1, _MOST + 1))

    def text(self, rows: int) -> str:
        """The statement that takes so many rows: 1 to 32."""
        return self._texts[rows - 1]

    def execute(self, execute: Callable[..., sqlite3.Cursor], rows: Sequence[tuple[Any, ...]]) -> int:
        """Run it for all ``rows`` by ``execute``, a connection's method; how many rows of the table changed."""
        changed = 0
        for start in range(0, len(rows), _MOST):
            some = rows[start : start + _MOST]
            values = some[0] if len(some) == 1 else tuple(chain.from_iterable(some))
            changed += execute(self._texts[len(some) - 1], values).rowcount
        return changed


class Inserts:
    """Rows for ``columns`` of ``table``; a column that is NULL wherever it is None has no DEFAULT."""

    __slots__ = ("_shape",)

    def __init__(self, table: str, columns: str) -> None:
        names = tuple(columns.split(", "))

        @lru_cache(_SHAPES)
        def shape(filled: tuple[bool, ...]) -> ManyRows:
            chosen = tuple(compress(names, filled))
            return ManyRows(f"INSERT INTO {table} ({', '.join(chosen)})", len(chosen))

        self._shape = shape

    def execute(self, execute: Callable[..., sqlite3.Cursor], rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert ``rows`` by ``execute``, a connection's method."""
        if not rows:
            return
        count = len(rows)
        if count == 1:
            filled = tuple(value is not None for value in rows[0])
        else:
            filled = tuple(column.count(None) < count for column in zip(*rows, strict=True))
        if not all(filled):
            rows = list(map(tuple, map(compress, rows, repeat(filled))))
        self._shape(filled).execute(execute, rows)
