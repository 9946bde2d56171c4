"""Who logs in: names, proofs and what guessing costs. Shared by all listeners' sessions.

A password is verified in a thread of a small pool, against a decoy where there is no such user, so that neither the
answer nor its time says which names exist. A pair that was proved is remembered as a keyed digest for as long as its
hash stands: an application that logs in for each message costs a thread but once. Guesses are answered late, the later
the more there were from that address; who was proved before is never made to wait.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import Enum
from typing import Final

from relay.listener.passwords import SALT_SIZE, hash_password, verify
from relay.settings import UserSettings
from relay.smtp.sasl import Credentials
from relay.smtp.senders import may_send

_THREADS: Final = 2
_WAITING: Final = 50
"""Verifications at a time, those in threads included; more are told to come back."""
_GUESSES_AT_A_TIME: Final = 10
"""Guesses from one address that are verified or held back; while there are so many no other is looked at."""
_FIRST_DELAY: Final = 1.0
_LONGEST_DELAY: Final = 10.0
_FORGIVEN: Final = 600.0
"""Seconds after the last guess."""
_ADDRESSES: Final = 4096
"""Addresses that are remembered; the one that guessed longest ago is forgotten first."""


class Verdict(Enum):
    """What became of an attempt to log in."""

    PROVED = "proved"
    WRONG = "wrong"
    BUSY = "busy"


class Guesses:
    """How often who guessed wrong, how long answers are held back for it, and how many guesses are being dealt with."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._by_address: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._pending: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._by_address)

    def too_many(self, address: str) -> bool:
        """Whether so many guesses from ``address`` are unanswered that no other is looked at."""
        return self._pending[address] >= _GUESSES_AT_A_TIME

    @contextmanager
    def pending(self, address: str) -> Iterator[None]:
        """While a guess from ``address`` is dealt with."""
        self._pending[address] += 1
        try:
            yield
        finally:
            self._pending[address] -= 1
            if not self._pending[address]:
                del self._pending[address]

    def wrong(self, address: str) -> float:
        """Count a wrong guess; the seconds to hold its answer back."""
        now = self._monotonic()
        count, last = self._by_address.pop(address, (0, now))
        count = count + 1 if now - last < _FORGIVEN else 1
        self._by_address[address] = (count, now)
        if len(self._by_address) > _ADDRESSES:
            self._by_address.popitem(last=False)
        return min(_FIRST_DELAY * 2.0 ** min(count - 1, 10), _LONGEST_DELAY)


class Users:
    """The users of the configuration. ``sleep`` takes seconds; a test hands in another one."""

    def __init__(
        self,
        users: Iterable[UserSettings],
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sleep = sleep
        self._guesses = Guesses(monotonic)
        self._key = secrets.token_bytes(32)
        self._proved: dict[str, bytes] = {}
        self._users: dict[str, UserSettings] = {}
        self._decoy = ""
        self._threads: ThreadPoolExecutor | None = None
        self._verifying: dict[bytes, asyncio.Task[bool]] = {}
        self.configure(users)

    def configure(self, users: Iterable[UserSettings]) -> None:
        """Take these users from now on. Who was proved stays so while its hash does."""
        before, self._users = self._users, {user.name: user for user in users}
        for name in tuple(self._proved):
            if name not in self._users or self._users[name].password_hash != before[name].password_hash:
                del self._proved[name]
        # Costs what a user's does: the work for an unknown name is the same.
        self._decoy = next((user.password_hash.value for user in self._users.values()), "")

    def knows(self, name: str) -> bool:
        """Whether there is such a user."""
        return name in self._users

    def may_send(self, name: str, address: str) -> bool:
        """Whether the user ``name`` may put ``address`` ("" is the null path) into MAIL."""
        user = self._users.get(name)
        return user is not None and (not user.senders or may_send(address, user.senders))

    async def prove(self, credentials: Credentials, address: str) -> Verdict:
        """Try to log somebody in from ``address``; a wrong guess takes its time."""
        digest = self._digest(credentials)
        proved = self._proved.get(credentials.user)
        if proved is not None and hmac.compare_digest(proved, digest):
            return Verdict.PROVED
        # The connections that an application opens at once share the work.
        verifying = self._verifying.get(digest)
        if verifying is None:
            if self._guesses.too_many(address) or len(self._verifying) >= _WAITING:
                await self._sleep(_FIRST_DELAY)  # else who guesses would ask thousands of times a second
                return Verdict.BUSY
            verifying = asyncio.create_task(self._verify(credentials, digest, address))
            self._verifying[digest] = verifying
        if await asyncio.shield(verifying):
            return Verdict.PROVED
        with self._guesses.pending(address):
            await self._sleep(self._guesses.wrong(address))
        return Verdict.WRONG

    async def _verify(self, credentials: Credentials, digest: bytes, address: str) -> bool:
        user = self._users.get(credentials.user)
        phc = self._decoy if user is None else user.password_hash.value
        try:
            with self._guesses.pending(address):
                loop = asyncio.get_running_loop()
                matches = await loop.run_in_executor(self._pool(), _check, credentials.password, phc)
        finally:
            del self._verifying[digest]
        # The hash may be another one by now, or the user gone.
        if not matches or user is None or not credentials.password or self._users.get(user.name) != user:
            return False
        self._proved[user.name] = digest
        return True

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="passwords")
        return self._threads

    def _digest(self, credentials: Credentials) -> bytes:
        told = f"{credentials.user}\0{credentials.password}".encode()
        return hashlib.blake2b(told, key=self._key, digest_size=32).digest()

    def close(self) -> None:
        """End the threads; what they do is not waited for."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)


def _check(password: str, phc: str) -> bool:
    """In a thread."""
    if not phc:
        hash_password(password, bytes(SALT_SIZE))
        return False
    return verify(password, phc)
