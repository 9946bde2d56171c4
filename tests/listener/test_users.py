"""Who is proved to be whom, and what guessing costs; time is handed in."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import threading
from dataclasses import replace

import pytest

from relay.listener import users as module
from relay.listener.users import Guesses, Users, Verdict
from relay.settings import Secret, UserSettings
from relay.smtp.sasl import Credentials


def phc(password: str) -> str:
    """A cheap hash."""
    digest = hashlib.scrypt(password.encode(), salt=b"saltsaltsalt", n=16, r=8, p=1, dklen=32)
    return "$scrypt$ln=4,r=8,p=1$c2FsdHNhbHRzYWx0$" + base64.b64encode(digest).decode().rstrip("=")


BILLING = UserSettings("billing", Secret(phc("geheim")), ("*@example.com", "<>"))
RIGHT = Credentials("billing", "geheim")
WRONG = Credentials("billing", "falsch")
HERE = "127.0.0.1"


class Delays:
    """A sleep that notes, and returns when it is let."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.over = asyncio.Event()
        self.over.set()

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await self.over.wait()


class Counted:
    """How often a hash was computed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.checks: list[str] = []
        self.threads: set[str] = set()
        check = module._check

        def counting(password: str, hashed: str) -> bool:
            self.checks.append(hashed)
            self.threads.add(threading.current_thread().name)
            return check(password, hashed)

        monkeypatch.setattr(module, "_check", counting)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def some(delays: Delays | None = None, *users: UserSettings) -> Users:
    return Users(users or (BILLING,), lambda: 0.0, delays or Delays())


async def test_right_wrong_unknown_and_empty(counted: Counted) -> None:
    users = some()
    assert await users.prove(RIGHT, HERE) is Verdict.PROVED
    for credentials in (WRONG, Credentials("nobody", "geheim"), Credentials("billing", ""), Credentials("", "")):
        assert await users.prove(credentials, HERE) is Verdict.WRONG
    # The same work for each, in threads of its own.
    assert counted.checks == [phc("geheim")] * 5
    assert all(name.startswith("passwords") for name in counted.threads)
    users.close()


async def test_without_users_the_work_is_done_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(module, "hash_password", lambda password, _salt: made.append(password))
    users = Users((), lambda: 0.0, Delays())
    assert await users.prove(RIGHT, HERE) is Verdict.WRONG
    assert made == ["geheim"]
    users.close()


async def test_a_proved_pair_costs_no_second_hash(counted: Counted) -> None:
    users = some()
    for _ in range(5):
        assert await users.prove(RIGHT, HERE) is Verdict.PROVED
    assert len(counted.checks) == 1
    assert await users.prove(WRONG, HERE) is Verdict.WRONG
    assert len(counted.checks) == 2
    users.close()


async def test_connections_opened_at_once_share_one_hash(counted: Counted) -> None:
    users = some()
    verdicts = await asyncio.gather(*(users.prove(RIGHT, HERE) for _ in range(60)))
    assert set(verdicts) == {Verdict.PROVED}
    assert len(counted.checks) == 1
    users.close()


async def test_another_hash_or_no_user_ends_what_was_proved() -> None:
    users = some()
    assert await users.prove(RIGHT, HERE) is Verdict.PROVED
    users.configure([BILLING, UserSettings("other", Secret(phc("x")))])
    assert await users.prove(RIGHT, HERE) is Verdict.PROVED
    users.configure([replace(BILLING, password_hash=Secret(phc("neu")))])
    assert await users.prove(RIGHT, HERE) is Verdict.WRONG
    assert await users.prove(Credentials("billing", "neu"), HERE) is Verdict.PROVED
    users.configure([])
    assert not users.knows("billing")
    assert await users.prove(Credentials("billing", "neu"), HERE) is Verdict.WRONG
    users.close()


async def test_wrong_guesses_are_answered_later_and_later() -> None:
    delays = Delays()
    users = some(delays)
    for _ in range(6):
        await users.prove(WRONG, HERE)
    assert delays.seconds == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    await users.prove(WRONG, "192.0.2.1")
    assert delays.seconds[-1] == 1.0
    users.close()


async def test_while_guesses_are_held_back_no_other_is_looked_at_but_who_was_proved_comes_in(
    counted: Counted,
) -> None:
    delays = Delays()
    users = some(delays)
    assert await users.prove(RIGHT, HERE) is Verdict.PROVED
    delays.over.clear()
    guesses = [asyncio.create_task(users.prove(WRONG, HERE)) for _ in range(10)]
    while len(delays.seconds) < 10:  # noqa: ASYNC110 - nobody announces it
        await asyncio.sleep(0.001)
    before = len(counted.checks)
    busy = asyncio.create_task(users.prove(Credentials("billing", "another"), HERE))
    while len(delays.seconds) < 11:  # noqa: ASYNC110 - nobody announces it
        await asyncio.sleep(0.001)
    assert delays.seconds[-1] == 1.0, "no faster than one that was looked at"
    assert len(counted.checks) == before
    assert await users.prove(RIGHT, HERE) is Verdict.PROVED
    assert await asyncio.wait_for(users.prove(RIGHT, "192.0.2.1"), 5) is Verdict.PROVED
    delays.over.set()
    assert set(await asyncio.gather(*guesses)) == {Verdict.WRONG}
    assert await busy is Verdict.BUSY
    assert await users.prove(Credentials("billing", "another"), HERE) is Verdict.WRONG
    users.close()


def test_guesses_are_forgiven_after_a_while_and_the_table_is_bounded() -> None:
    now = 0.0
    guesses = Guesses(lambda: now)
    assert [guesses.wrong(HERE) for _ in range(2)] == [1.0, 2.0]
    now = 601.0
    assert guesses.wrong(HERE) == 1.0
    for n in range(5000):
        guesses.wrong(f"host {n}")
    assert len(guesses) == 4096


def test_what_a_user_may_put_in_mail() -> None:
    users = some(None, BILLING, UserSettings("any", Secret(phc("x"))))
    assert users.may_send("billing", "a@example.com")
    assert users.may_send("billing", "")
    assert not users.may_send("billing", "a@example.org")
    assert users.may_send("any", "whoever@anywhere.example")
    assert users.may_send("any", "")
    assert not users.may_send("gone", "a@example.com")


def test_nothing_shows_a_hash() -> None:
    assert phc("geheim") not in repr(BILLING)
