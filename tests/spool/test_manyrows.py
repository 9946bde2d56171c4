"""Many rows by few statements: none lost, none twice, whatever their number; NULLs stay NULLs."""

from __future__ import annotations

import pytest

from relay.spool.library import sqlite3
from relay.spool.manyrows import Inserts, ManyRows


@pytest.fixture
def connection() -> sqlite3.Connection:
    made = sqlite3.connect(":memory:", isolation_level=None)
    made.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT, c TEXT)")
    return made


@pytest.mark.parametrize("count", [0, 1, 2, 31, 32, 33, 64, 65, 1000])
def test_every_row_is_written_once(connection: sqlite3.Connection, count: int) -> None:
    rows = [(n, f"b{n}", None if n % 3 else f"c{n}") for n in range(count)]
    Inserts("t", "a, b, c").execute(connection.execute, rows)
    assert connection.execute("SELECT * FROM t ORDER BY a").fetchall() == rows


@pytest.mark.parametrize(
    "rows", [[(1, None, None)], [(1, None, "x"), (2, None, None)], [(1, "x", None), (2, None, "y")]]
)
def test_what_is_none_is_null(connection: sqlite3.Connection, rows: list[tuple[int, str | None, str | None]]) -> None:
    Inserts("t", "a, b, c").execute(connection.execute, rows)
    assert connection.execute("SELECT * FROM t ORDER BY a").fetchall() == rows


@pytest.mark.parametrize("count", [1, 32, 50])
def test_changed_rows_are_counted(connection: sqlite3.Connection, count: int) -> None:
    Inserts("t", "a, b, c").execute(connection.execute, [(n, "old", None) for n in range(count)])
    update = ManyRows("UPDATE t SET b = column2 FROM (", 2, ") WHERE a = column1 AND +b = 'old'")
    rows = [(n, "new") for n in range(count)]
    assert update.execute(connection.execute, [*rows, (count, "nobody")]) == count
    assert update.execute(connection.execute, rows) == 0
    assert connection.execute("SELECT DISTINCT b FROM t").fetchall() == [("new",)]


def test_a_row_that_is_refused_raises(connection: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        Inserts("t", "a, b, c").execute(connection.execute, [(1, "x", None), (1, "y", None)])
