"""A spool of an earlier release becomes one of this release, with all that is in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from relay.clock import SystemClock
from relay.mail import Priority
from relay.settings import SpoolSettings
from relay.spool import Selector, SpoolError, Totals
from relay.spool.library import sqlite3
from relay.spool.schema import SCHEMA_VERSION
from relay.spool.sqlite import SqliteSpool, open_spool

from .examples import CONTENT, NOW, arrival, rich

SCHEMA_1 = Path(__file__).with_name("schema_1.sql")
"""What the code of schema 1 wrote: two recipients waiting, one deferred, one leased, one relayed, a stray part."""

FIRST = 28800000000000
"""The first of its queue numbers."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file as the code of schema 1 left it."""
    path = tmp_path / "spool.db"
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA_1.read_text())
    connection.close()
    return path


async def opened(path: Path) -> SqliteSpool:
    return await open_spool(SpoolSettings(path=str(path), min_free_disk=0), clock=SystemClock())


def schema_of(path: Path) -> list[tuple[str, str]]:
    """Names and columns of all tables, and the other objects by name."""
    connection = sqlite3.connect(path)
    objects = connection.execute("SELECT type, name FROM sqlite_schema ORDER BY name").fetchall()
    columns = [
        (name, str(connection.execute(f"PRAGMA table_xinfo({name})").fetchall()))
        for kind, name in objects
        if kind in {"table", "view"}
    ]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return [*objects, *columns, ("user_version", str(version))]


async def test_what_was_queued_is_there_and_goes_on(path: Path) -> None:
    spool = await opened(path)
    assert await spool.totals() == Totals(3, 3 * len(CONTENT), {"ses": 1})
    assert await spool.counts(NOW + 1) == {"leased": 1, "waiting": 1, "deferred": 1, "held": 0}
    assert await spool.rescue(NOW + 1) == 1
    leased, waiting = await spool.claim(NOW + 1, 10, 1_000_000)
    assert (leased.message.number, leased.content) == (FIRST + 3, CONTENT)
    assert (waiting.message.number, waiting.content, waiting.nrcpt) == (FIRST, CONTENT, 2)
    # All of it came along; what the release before did not know is at its default.
    asked_nothing = replace(
        rich(FIRST), not_after=None, upstream=None, priority=Priority.NORMAL, tag=None, idempotency_key=None
    )
    assert waiting.message == asked_nothing
    (deferred,) = await spool.claim(NOW + 60, 10, 1_000_000)
    assert deferred.message.envelope.recipients[0].last == "451 4.3.0 later"
    with pytest.raises(SpoolError):
        await spool.content(FIRST + 4, 0)
    story = await spool.story(FIRST + 2)
    assert story is not None
    assert [attempt.status for attempt in story.attempts] == ["sent"]
    await spool.close()


async def test_it_is_the_same_as_a_new_one(path: Path, tmp_path: Path) -> None:
    await (await opened(path)).close()
    fresh = tmp_path / "fresh.db"
    await (await opened(fresh)).close()
    assert schema_of(path) == schema_of(fresh)
    assert ("user_version", str(SCHEMA_VERSION)) in schema_of(path)


async def test_it_takes_new_mail_and_opens_again(path: Path) -> None:
    spool = await opened(path)
    number = spool.allocate(NOW)
    assert number > FIRST + 3
    await spool.accept(replace(arrival(number), message=rich(number)))
    await spool.close()
    spool = await opened(path)
    found = await spool.find(Selector(numbers=(number,)), NOW)
    await spool.close()
    assert [queued.message for queued in found] == [rich(number)]


async def test_no_hand_at_the_shell_makes_another_priority(path: Path) -> None:
    await (await opened(path)).close()
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute("UPDATE message SET priority = 'high'")
    connection.close()


async def test_the_states_are_those_of_this_release(path: Path) -> None:
    await (await opened(path)).close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    done = "UPDATE recipient SET state = ?, due = NULL WHERE n = 0"
    connection.execute(done, ("suppressed",))
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(done, ("lost",))
    connection.close()
