"""The first start of all dies while the file is being made: the next one makes it, and the one after that finds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.spool import SpoolDamaged
from relay.spool.library import sqlite3
from relay.spool.schema import APPLICATION_ID
from tests.spool.examples import NOW, arrival
from tests.spool.test_sqlite import opened


def nameless(path: Path) -> sqlite3.Connection:
    """What the first write of all leaves: a page without tables and without our name."""
    path.parent.mkdir(0o700)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    for statement in ("CREATE TABLE t (x)", "DROP TABLE t", "VACUUM"):
        connection.execute(statement)
    return connection


def before_the_name(path: Path) -> None:
    nameless(path).close()


def before_the_name_is_certain(path: Path) -> None:
    """The name is in the file, and a journal that will take it back."""
    connection = nameless(path)
    connection.execute("PRAGMA synchronous = OFF")  # the journal counts its pages at once
    connection.execute("BEGIN")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    journal = path.with_name(f"{path.name}-journal")
    hot = journal.read_bytes()
    connection.execute("COMMIT")
    connection.close()
    assert path.read_bytes()[68:72] == APPLICATION_ID.to_bytes(4, "big")
    journal.write_bytes(hot)


@pytest.mark.parametrize("leave", [before_the_name, before_the_name_is_certain])
async def test_what_it_left_becomes_a_spool(tmp_path: Path, leave: object) -> None:
    path = tmp_path / "spool" / "spool.db"
    assert callable(leave)
    leave(path)
    spool = await opened(path)
    number = spool.allocate(NOW)
    await spool.accept(arrival(number))
    await spool.close()
    spool = await opened(path)
    assert (await spool.totals()).messages == 1
    await spool.close()


async def test_a_database_of_somebody_else_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "spool" / "spool.db"
    connection = nameless(path)
    connection.execute("CREATE TABLE precious (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SpoolDamaged, match="not a relay's spool"):
        await opened(path)
    assert path.read_bytes() == before


async def test_a_nameless_page_with_a_table_is_not_taken(tmp_path: Path) -> None:
    """A page has room for more than nothing."""
    path = tmp_path / "spool" / "spool.db"
    connection = nameless(path)
    connection.execute("CREATE VIEW precious AS SELECT 1")
    connection.close()
    assert path.stat().st_size == 4096
    with pytest.raises(SpoolDamaged, match="not a relay's spool"):
        await opened(path)
