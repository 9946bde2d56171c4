"""The SQLite spool keeps the contract, and what only it promises: files, sharing of commits, plans, trouble."""

# ruff: noqa: ASYNC240  (a test may wait for the disk)

from __future__ import annotations

import asyncio
import importlib
import os
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.clock import SystemClock
from relay.mail import RecipientState, Signatures
from relay.settings import SpoolSettings
from relay.spool import (
    Duplicate,
    Selector,
    Spool,
    SpoolBroken,
    SpoolDamaged,
    SpoolError,
    SpoolFull,
    SpoolLocked,
    Totals,
    accepting,
    leasing,
    operating,
    reading,
    settling,
)
from relay.spool import writer as writer_module
from relay.spool.library import sqlite3
from relay.spool.schema import APPLICATION_ID, SCHEMA_VERSION
from relay.spool.sqlite import SqliteSpool, open_spool

from .contract import Opener, SpoolContract
from .examples import CONTENT, NOW, arrival, settled, settlement


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "spool.db"


async def opened(path: Path, **options: Any) -> SqliteSpool:
    limits = {name: options.pop(name) for name in ("max_size", "min_free_disk") if name in options}
    settings = SpoolSettings(path=str(path), **{"min_free_disk": 0, **limits})
    return await open_spool(settings, clock=SystemClock(), **options)


@pytest.fixture
async def spool(path: Path) -> AsyncIterator[SqliteSpool]:
    spool = await opened(path)
    yield spool
    await spool.close()


class TestContract(SpoolContract):
    @pytest.fixture
    def opener(self, path: Path) -> Opener:
        async def opener(*, max_size: int = 10**10, min_free_disk: int = 0) -> Spool:
            return await opened(path, max_size=max_size, min_free_disk=min_free_disk)

        return opener


# -- files ----------------------------------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
async def test_folder_and_files_are_the_owners_alone(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        spool = await opened(path)
        await spool.accept(arrival(spool.allocate(NOW)))
        modes = {entry.name: mode(entry) for entry in path.parent.iterdir()}
    finally:
        os.umask(before)
    await spool.close()
    assert mode(path.parent) == 0o700
    assert modes.pop("spool.db") == modes.pop("spool.db-wal") == modes.pop("spool.db-shm") == 0o600
    assert {name for name in modes if modes[name] & 0o077} == set()
    assert set(modes) == {"spool.db.lock", "spool.db.ballast"}


async def test_a_file_made_before_us_loses_its_wide_mode(path: Path) -> None:
    path.parent.mkdir()
    path.touch(0o644)
    path.chmod(0o644)
    spool = await opened(path)
    await spool.close()
    assert mode(path) == 0o600


async def test_a_symlink_is_refused_and_its_target_untouched(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    target = tmp_path / "elsewhere"
    target.write_bytes(b"precious")
    path.symlink_to(target)
    with pytest.raises(SpoolDamaged):
        await opened(path)
    assert target.read_bytes() == b"precious"
    assert path.is_symlink()


async def test_a_symlink_for_the_lock_is_refused(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    path.with_name("spool.db.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpoolError):
        await opened(path)
    assert not (tmp_path / "elsewhere").exists()


async def test_a_second_name_of_the_file_is_refused(path: Path) -> None:
    await (await opened(path)).close()
    path.with_name("other.db").hardlink_to(path)
    with pytest.raises(SpoolDamaged, match="second name"):
        await opened(path)


def foreign_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine (a)")
    connection.commit()
    connection.close()


def later_release(path: Path) -> None:
    asyncio.run(make_and_close(path))
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.commit()
    connection.close()


def torn(path: Path) -> None:
    asyncio.run(make_and_close(path))
    octets = bytearray(path.read_bytes())
    octets[4096 : 4096 * 6] = b"\xa5" * (4096 * 5)
    path.write_bytes(octets)


def renamed(path: Path) -> None:
    """One octet of the schema's own text."""
    asyncio.run(make_and_close(path))
    octets = path.read_bytes()
    assert octets.count(b"last     INTEGER NOT NULL") == 1
    path.write_bytes(octets.replace(b"last     INTEGER NOT NULL", b"lost     INTEGER NOT NULL"))


async def make_and_close(path: Path) -> None:
    spool = await opened(path)
    await spool.accept(arrival(spool.allocate(NOW)))
    await spool.close()


@pytest.mark.parametrize(
    "damage", [lambda path: path.write_bytes(b"no database" * 100), foreign_database, later_release, torn, renamed]
)
def test_what_is_no_sound_spool_is_refused_and_kept(path: Path, damage: Callable[[Path], None]) -> None:
    path.parent.mkdir()
    damage(path)
    before = path.read_bytes()
    with pytest.raises(SpoolDamaged):
        asyncio.run(make_and_close(path))
    assert path.read_bytes() == before


async def test_a_second_owner_is_refused_at_once_and_told_who_has_it(path: Path, spool: SqliteSpool) -> None:
    with pytest.raises(SpoolLocked, match=str(os.getpid())):
        await opened(path)
    await spool.close()
    await (await opened(path)).close()


async def test_a_spool_that_could_not_be_opened_leaves_no_lock(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 100)
    for _ in range(2):
        with pytest.raises(SpoolDamaged):
            await opened(path)


async def test_an_opening_that_is_cancelled_lets_go_of_all(path: Path) -> None:
    task = asyncio.ensure_future(opened(path))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for thread in threading.enumerate():
        if thread.name == "spool-writer":
            await asyncio.to_thread(thread.join, 10)
            assert not thread.is_alive()
    await (await opened(path)).close()


async def test_closing_leaves_one_database_and_no_log(path: Path, spool: SqliteSpool) -> None:
    await spool.accept(arrival(spool.allocate(NOW)))
    await spool.counts(NOW)
    await spool.close()
    assert {entry.name for entry in path.parent.iterdir()} == {"spool.db", "spool.db.lock", "spool.db.ballast"}


async def test_the_file_says_what_it_is(path: Path) -> None:
    await make_and_close(path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("PRAGMA page_size").fetchone() == (4096,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_sqlite_utils_chose_the_same_library() -> None:
    chosen = importlib.import_module("sqlite_utils.utils").sqlite3
    assert chosen.connect is sqlite3.connect
    assert chosen.Error is sqlite3.Error


def test_an_up_to_date_spool_opens_without_sqlite_utils(path: Path) -> None:
    asyncio.run(make_and_close(path))
    program = (
        "import asyncio, sys\n"
        "from relay.clock import SystemClock\n"
        "from relay.settings import SpoolSettings\n"
        "from relay.spool.sqlite import open_spool\n"
        "async def main():\n"
        "    await (await open_spool(SpoolSettings(path=sys.argv[1]), clock=SystemClock())).close()\n"
        "asyncio.run(main())\n"
        "print('sqlite_utils' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# -- what operators read --------------------------------------------------------------------------------------------


async def test_the_views_show_the_queue_and_the_history(path: Path, spool: SqliteSpool) -> None:
    done, deferred = spool.allocate(NOW), spool.allocate(NOW)
    for number in (done, deferred):
        await spool.accept(arrival(number, leased=True))
    await spool.settle([settlement(done), settlement(deferred, settled(0, RecipientState.WAITING, due=NOW + 60))])
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    queue = connection.execute("SELECT id, arrived, sender, recipient, state, due FROM queue").fetchall()
    history = connection.execute("SELECT id, status FROM history ORDER BY id").fetchall()
    connection.close()
    assert queue == [
        (
            f"{deferred:X}",
            "2027-01-15 08:00:00Z",
            "app@example.com",
            "to@example.net",
            "deferred",
            "2027-01-15 08:01:00Z",
        )
    ]
    assert history == [(f"{done:X}", "sent"), (f"{deferred:X}", "deferred")]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE recipient SET state = 'lost'",
        "UPDATE recipient SET state = 'relayed'",
        "UPDATE recipient SET due = NULL",
        "UPDATE recipient SET attempts = -1",
        "UPDATE message SET body = 'BINARY'",
    ],
)
async def test_the_tables_refuse_states_that_do_not_exist(path: Path, change: str) -> None:
    await make_and_close(path)
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(change)
    connection.close()


def plan(path: Path, statement: str, values: Any) -> list[str]:
    connection = sqlite3.connect(path)
    rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    connection.close()
    return [row[3] for row in rows]


OPEN_INDEX = "recipient USING COVERING INDEX recipient_open"
WAITING_INDEX = "recipient USING COVERING INDEX recipient_waiting"
KEY = "recipient USING PRIMARY KEY (message=?"


@pytest.mark.parametrize(
    ("statement", "values", "wanted"),
    [
        (leasing.DUE, (1, 1), f"SEARCH {OPEN_INDEX} (state=? AND due<?)"),
        (leasing.NEXT_DUE, (0,), f"SEARCH {OPEN_INDEX} (state=? AND due>?)"),
        (leasing.DUE_IN_TURN, (1, 1, 1), f"SEARCH {WAITING_INDEX} (turn=? AND due<?)"),
        (leasing.DUE_TURNS, {"after": 1, "limit": 1, "now": 1}, f"SEARCH {WAITING_INDEX} (turn>?)"),
        (leasing.MESSAGES, ("[1]", 1), f"SEARCH {KEY})"),
        (leasing.CONTENTS, ("[1]",), "SEARCH content USING INTEGER PRIMARY KEY (rowid=?)"),
        (leasing.LEASE_ALL, ("[1]", 1), f"SEARCH {KEY})"),
        (leasing.NAMED, (1,), f"SEARCH {KEY})"),
        (leasing.LEASE, (1, 1), f"SEARCH {KEY} AND n=?)"),
        (leasing.RESCUE, (1,), "INDEX recipient_open (state=?"),
        (settling.OUTCOMES.text(2), (None,) * 24, f"SEARCH {KEY} AND n=?)"),
        (settling.GIVEN_BACK, (None,) * 4, f"SEARCH {KEY} AND n=?)"),
        (settling.STILL_OPEN, (1,), f"SEARCH {KEY})"),
        (settling.CONTENTS_GONE, ("[1]",), "SEARCH content USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (operating.HOLD, (1,), f"SEARCH {KEY})"),
        (operating.RELEASE, (1, 1), f"SEARCH {KEY})"),
        (operating.RETRY, (1, 1, 1), f"SEARCH {KEY})"),
        (operating.REMOVE, (1, 1), f"SEARCH {KEY})"),
        (operating.OLD, (1, 1, 1, 1), "SEARCH message USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (reading.COUNTS, {"now": 1}, f"SCAN {OPEN_INDEX}"),
        (reading.OLDEST, (), f"SEARCH {OPEN_INDEX}"),
        (reading.ATTEMPTS, (1,), "SEARCH attempt USING INDEX attempt_message (message=?)"),
    ],
)
async def test_no_statement_reads_more_than_it_needs(path: Path, statement: str, values: Any, wanted: str) -> None:
    await make_and_close(path)
    steps = plan(path, statement, values)
    assert any(wanted in step for step in steps), steps
    scans = [step for step in steps if step.startswith("SCAN recipient") and "recipient_open" not in step]
    assert scans == []
    if statement in {leasing.DUE, leasing.DUE_IN_TURN}:
        assert len(steps) == 1, "sorted instead of read in order"


async def test_lists_of_what_is_rare_use_the_index_and_others_the_order_of_numbers(path: Path) -> None:
    await make_and_close(path)
    for state, wanted in (
        ("held", "SEARCH recipient USING COVERING INDEX recipient_open"),
        ("waiting", "SEARCH recipient USING PRIMARY KEY (message>?)"),
    ):
        selected = reading.selection(Selector(state=state), 1)
        assert selected is not None
        steps = plan(path, selected[0], {**selected[1], "limit": 1})
        assert steps[0].startswith(wanted), steps
        assert any(step.startswith("USE TEMP B-TREE") for step in steps) == (state == "held"), steps


# -- sharing commits ------------------------------------------------------------------------------------------------


class Gate:
    """A fault hook that stops the writer inside its first transaction until it is opened."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.entered = threading.Event()
        self.open = threading.Event()
        self.armed = False

    def __call__(self, name: str) -> None:
        self.names.append(name)
        if self.armed and name == "begin.after" and not self.entered.is_set():
            self.entered.set()
            assert self.open.wait(30)


async def test_all_that_waits_shares_one_commit(path: Path) -> None:
    gate = Gate()
    spool = await opened(path, fault=gate)
    gate.armed = True
    before = spool._writer.commits
    first = asyncio.ensure_future(spool.accept(arrival(spool.allocate(NOW))))
    await asyncio.to_thread(gate.entered.wait, 30)
    rest = [asyncio.ensure_future(spool.accept(arrival(spool.allocate(NOW)))) for _ in range(50)]
    await asyncio.sleep(0)
    assert not first.done()
    gate.open.set()
    await asyncio.gather(first, *rest)
    assert spool._writer.commits - before == 2
    await spool.close()


async def test_nothing_is_acknowledged_before_its_commit(path: Path) -> None:
    answered: list[str] = []

    def hook(name: str) -> None:
        if name == "commit.before":
            answered.append("done" if task is not None and task.done() else "waiting")

    task: asyncio.Future[Duplicate | None] | None = None
    spool = await opened(path, fault=hook)
    task = asyncio.ensure_future(spool.accept(arrival(spool.allocate(NOW))))
    await task
    assert answered == ["waiting"]
    await spool.close()


async def test_only_what_is_promised_is_synced(path: Path) -> None:
    # pragma_synchronous: 1 is NORMAL, a commit without a sync; 2 is FULL.
    synced: list[int] = []

    def hook(name: str) -> None:
        if name == "commit.before":
            synced.extend(kept._writer._connection.execute("PRAGMA synchronous").fetchone())

    kept = await opened(path, fault=hook)
    await kept.stage(number := kept.allocate(NOW), 0, b"x")
    await kept.accept(arrival(number, content=None, size=1))
    await kept.stage(number := kept.allocate(NOW), 0, b"x")
    await kept.discard(number)
    await kept.accept(arrival(number := kept.allocate(NOW), leased=True))
    await kept.settle([settlement(number)])
    assert synced == [1, 2, 1, 1, 2, 2]
    await kept.close()


async def test_a_lone_accept_waits_for_nobody(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "COMPANY_WAIT", 30.0)
    async with asyncio.timeout(10):
        await spool.accept(arrival(spool.allocate(NOW)))


async def test_settlements_wait_for_an_accepts_company(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    number = spool.allocate(NOW)
    await spool.accept(arrival(number, leased=True))
    before = spool._writer.commits
    monkeypatch.setattr(writer_module, "COMPANY_WAIT", 30.0)
    settling_ = asyncio.ensure_future(spool.settle([settlement(number)]))
    await asyncio.sleep(0.05)
    assert not settling_.done()
    async with asyncio.timeout(10):
        await spool.accept(arrival(spool.allocate(NOW)))
        assert await settling_ == {number}
    assert spool._writer.commits - before == 1


async def test_many_settlements_go_behind_the_accept_that_finds_them(
    spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [spool.allocate(NOW) for _ in range(writer_module.RIDERS + 1)]
    await asyncio.gather(*(spool.accept(arrival(number, leased=True)) for number in numbers))
    before = spool._writer.commits
    monkeypatch.setattr(writer_module, "COMPANY_WAIT", 30.0)
    settling_ = asyncio.ensure_future(spool.settle([settlement(number) for number in numbers]))
    await asyncio.sleep(0.05)
    assert not settling_.done()
    async with asyncio.timeout(10):
        await spool.accept(arrival(spool.allocate(NOW)))
        assert await settling_ == set(numbers)
    assert spool._writer.commits - before == 2


async def test_many_settlements_wait_for_nobody(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [spool.allocate(NOW) for _ in range(settling.COMPANY)]
    await asyncio.gather(*(spool.accept(arrival(number, leased=True)) for number in numbers))
    monkeypatch.setattr(writer_module, "COMPANY_WAIT", 30.0)
    async with asyncio.timeout(10):
        assert await spool.settle([settlement(number) for number in numbers]) == set(numbers)


async def test_what_was_put_behind_an_accept_is_recorded_at_the_end(
    spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [spool.allocate(NOW) for _ in range(writer_module.RIDERS + 1)]
    await asyncio.gather(*(spool.accept(arrival(number, leased=True)) for number in numbers))
    monkeypatch.setattr(writer_module, "COMPANY_WAIT", 30.0)
    settling_ = asyncio.ensure_future(spool.settle([settlement(number) for number in numbers]))
    await asyncio.sleep(0.05)
    accepting_ = asyncio.ensure_future(spool.accept(arrival(spool.allocate(NOW))))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await spool.close()
    assert await settling_ == set(numbers)
    assert await accepting_ is None


async def test_settlements_without_company_do_not_wait_long(spool: SqliteSpool) -> None:
    number = spool.allocate(NOW)
    await spool.accept(arrival(number, leased=True))
    async with asyncio.timeout(10):
        assert await spool.settle([settlement(number)]) == {number}


async def test_a_fault_point_stands_between_every_two_statements(path: Path) -> None:
    gate = Gate()
    spool = await opened(path, fault=gate)
    gate.names.clear()
    await spool.accept(arrival(spool.allocate(NOW)))
    await spool.close()
    assert gate.names == [
        "begin.after",
        "accept.message",
        "accept.recipients",
        "accept.content",
        "totals.after",
        "commit.before",
        "commit.after",
    ]


async def test_a_slow_list_does_not_stop_accepts(spool: SqliteSpool) -> None:
    release = threading.Event()
    listing = asyncio.ensure_future(spool._operators.read(lambda _connection: release.wait(30)))
    async with asyncio.timeout(10):
        number = spool.allocate(NOW)
        await spool.accept(arrival(number))
        assert await spool.content(number, 0) == CONTENT
    assert not listing.done()
    release.set()
    assert await listing


async def test_readers_can_not_write(spool: SqliteSpool) -> None:
    await spool.accept(arrival(spool.allocate(NOW)))
    for reader in (spool._contents, spool._operators):
        with pytest.raises(SpoolError):
            await reader.read(lambda connection: connection.execute("DELETE FROM message"))
    assert await spool.totals() == Totals(1, len(CONTENT))


async def test_the_log_is_written_back_when_nobody_waits(
    path: Path, spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.spool.checkpointing.LONG", 100)
    for _ in range(60):
        await spool.accept(arrival(spool.allocate(NOW), content=b"x" * 100_000))
        await asyncio.sleep(0.005)  # a moment in which nobody waits
    assert path.with_name("spool.db-wal").stat().st_size < 4_000_000, "of more than six million octets written"
    assert path.stat().st_size > 1_000_000


# -- trouble --------------------------------------------------------------------------------------------------------


class Trouble:
    """A fault hook that raises what SQLite would, at the named point, as often as asked."""

    def __init__(self) -> None:
        self.point = ""
        self.code = 0
        self.left = 0

    def arm(self, point: str, code: int, times: int = 1) -> None:
        self.point, self.code, self.left = point, code, times

    def __call__(self, name: str) -> None:
        if name == self.point and self.left:
            self.left -= 1
            error = sqlite3.OperationalError("simulated")
            error.sqlite_errorcode = self.code
            raise error


FULL, IOERR, BUSY, CORRUPT = 13, 10 | 4 << 8, 5, 11


async def test_after_an_io_error_nothing_is_written_any_more(path: Path) -> None:
    trouble, broken = Trouble(), list[str]()
    spool = await opened(path, fault=trouble, on_broken=broken.append)
    number = spool.allocate(NOW)
    await spool.accept(arrival(number))
    trouble.arm("commit.before", IOERR)
    with pytest.raises(SpoolBroken):
        await spool.accept(arrival(spool.allocate(NOW)))
    refused: list[Callable[[], Any]] = [
        lambda: spool.accept(arrival(spool.allocate(NOW))),
        lambda: spool.claim(NOW, 1, 1),
        lambda: spool.settle([settlement(number)]),
    ]
    for call in refused:
        with pytest.raises(SpoolBroken):
            await call()
    with pytest.raises(SpoolBroken):
        spool.check_room(0)
    assert len(broken) == 1
    database = path.read_bytes()
    await spool.close()
    assert path.read_bytes() == database, "a broken spool was checkpointed"
    spool = await opened(path)
    assert (await spool.totals()).messages == 1
    await spool.close()


async def test_damage_met_at_work_breaks_the_spool(path: Path) -> None:
    trouble = Trouble()
    spool = await opened(path, fault=trouble)
    trouble.arm("accept.message", CORRUPT)
    with pytest.raises(SpoolBroken):
        await spool.accept(arrival(spool.allocate(NOW)))
    await spool.close()


async def test_a_lock_of_another_program_is_temporary(path: Path) -> None:
    trouble = Trouble()
    spool = await opened(path, fault=trouble)
    trouble.arm("begin.after", BUSY)
    with pytest.raises(SpoolError, match="locked"):
        await spool.accept(arrival(spool.allocate(NOW)))
    await spool.accept(arrival(spool.allocate(NOW)))
    assert await spool.totals() == Totals(1, len(CONTENT))
    await spool.close()


async def test_on_a_full_disk_mail_is_refused_and_outcomes_get_the_ballast(path: Path) -> None:
    trouble = Trouble()
    spool = await opened(path, fault=trouble)
    ballast = path.with_name("spool.db.ballast")
    number = spool.allocate(NOW)
    await spool.accept(arrival(number, leased=True))
    assert ballast.stat().st_blocks * 512 >= 4 * 1024 * 1024
    trouble.arm("accept.message", FULL, 2)
    with pytest.raises(SpoolFull):
        await spool.accept(arrival(spool.allocate(NOW)))
    assert ballast.exists()
    seen: list[bool] = []

    def disk_full(name: str) -> None:
        if name == "settle.outcomes":
            seen.append(ballast.exists())
        trouble(name)

    spool._writer._fault = disk_full
    trouble.arm("settle.outcomes", FULL, 2)
    assert await spool.settle([settlement(number)]) == {number}
    assert seen == [True, True, False]
    await wait_until(ballast.exists)
    await spool.accept(arrival(spool.allocate(NOW)))
    await spool.close()


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  (the writer's thread does it, in its own time)
            await asyncio.sleep(0.02)


async def test_without_ballast_no_new_mail_is_taken(path: Path) -> None:
    path.parent.mkdir()
    path.with_name("spool.db.ballast").mkdir()
    spool = await opened(path)
    with pytest.raises(SpoolFull):
        spool.check_room(0)
    with pytest.raises(SpoolFull):
        await spool.accept(arrival(spool.allocate(NOW)))
    await spool.close()


async def test_sqlites_own_limit_is_a_full_disk(path: Path, spool: SqliteSpool) -> None:
    connection_pages = path.stat().st_size // 4096 + 40
    await spool._writer.submit(lambda tx: tx.execute(f"PRAGMA max_page_count = {connection_pages}").fetchall())
    accepts = [spool.accept(arrival(spool.allocate(NOW), content=b"x" * 50_000)) for _ in range(20)]
    results = await asyncio.gather(*accepts, return_exceptions=True)
    accepted = results.count(None)
    assert 0 < accepted < 20
    assert {type(result) for result in results} == {type(None), SpoolFull}
    assert await spool.totals() == Totals(accepted, accepted * 50_000)


async def test_staged_parts_are_bounded(spool: SqliteSpool) -> None:
    number = spool.allocate(NOW)
    for part, octets in ((accepting.MAX_PARTS, b"x"), (-1, b"x"), (0, b"x" * (256 * 1024 + 1))):
        with pytest.raises(SpoolError):
            await spool.stage(number, part, octets)


async def test_errors_do_not_show_what_rows_hold(spool: SqliteSpool) -> None:
    number = spool.allocate(NOW)
    await spool.accept(arrival(number, "secret@example.net"))
    with pytest.raises(SpoolError) as caught:
        await spool.accept(arrival(number, "secret@example.net", content=b"secret"))
    assert "secret" not in f"{caught.value!r}"
    with pytest.raises(SpoolError) as caught:
        await spool.accept(arrival(spool.allocate(NOW), "secret\udc80@example.net"))
    assert "secret" not in f"{caught.value!r}"


async def test_signatures_go_with_the_content(path: Path) -> None:
    def kept() -> int:
        connection = sqlite3.connect(path)
        count: int = connection.execute("SELECT count(*) FROM signature").fetchone()[0]
        connection.close()
        return count

    spool = await opened(path)
    signatures = Signatures(b"DKIM-Signature: x\r\n", "", "simple:hash")
    numbers = [spool.allocate(NOW) for _ in range(3)]
    for number in numbers:
        new = arrival(number, leased=number == numbers[0])
        await spool.accept(replace(new, message=replace(new.message, signatures=signatures)))
    assert kept() == 3
    await spool.settle([settlement(numbers[0])])
    assert kept() == 2
    await spool.remove(numbers[1:2], NOW)
    await spool.close()
    assert kept() == 1
