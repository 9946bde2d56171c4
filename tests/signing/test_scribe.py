"""The process that signs: what it is given is signed, whatever becomes of it."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Thread

import pytest

from relay.signing import __main__ as program
from relay.signing import scribe as module
from relay.signing.keys import make_key
from relay.signing.orders import introduction, order
from relay.signing.scribe import Scribe

RSA = make_key("r1", "rsa", 1024)
ODD = make_key("r2", "rsa", 1028)
ED25519 = make_key("e1", "ed25519")
KEYS = (RSA, ODD, ED25519)
DIGESTS = [hashlib.sha256(b"%d" % n).digest() for n in range(300)]


@asynccontextmanager
async def scribing() -> AsyncIterator[tuple[Scribe, list[str]]]:
    told: list[str] = []
    scribe = Scribe(KEYS, told.append)
    try:
        yield scribe, told
    finally:
        scribe.close()
        await until(lambda: not scribe.pid)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - there is nothing else to be told by
            await asyncio.sleep(0.002)


def as_it_is(signatures: Sequence[bytes]) -> Sequence[bytes]:
    return signatures


def environment(pid: int) -> set[str]:
    kept = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return {each.partition(b"=")[0].decode() for each in kept if each}


async def all_signed(scribe: Scribe) -> None:
    """Each order gets its own signature, in whatever order they were made."""
    work = [[(key, digest) for key in KEYS[: 1 + n % 3]] for n, digest in enumerate(DIGESTS)]
    found = await asyncio.gather(*(scribe.sign(each, as_it_is) for each in work))
    # The same key and digest give the same signature, with RSA's PKCS #1 v1.5 and with Ed25519.
    assert found == [[key.sign(digest) for key, digest in each] for each in work]


async def test_it_signs_by_all_its_keys_in_a_process_of_its_own() -> None:
    async with scribing() as (scribe, told):
        assert scribe.pid not in {0, os.getpid()}
        await all_signed(scribe)
        assert not scribe.due
    assert told == []


async def test_a_reload_lets_it_end_what_it_was_given() -> None:
    async with scribing() as (scribe, told):
        pid = scribe.pid
        given = [scribe.sign([(RSA, digest)], as_it_is) for digest in DIGESTS]
        scribe.close()
        late = scribe.sign([(ODD, DIGESTS[0])], as_it_is)
        assert late.result() == [ODD.sign(DIGESTS[0])]
        assert await asyncio.gather(*given) == [[RSA.sign(digest)] for digest in DIGESTS]
        await until(lambda: not scribe.pid)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert told == []


async def test_one_that_is_killed_costs_nothing_but_a_line_and_another_is_started() -> None:
    async with scribing() as (scribe, told):
        pid = scribe.pid
        os.kill(pid, signal.SIGSTOP)
        given = [scribe.sign([(RSA, digest)], as_it_is) for digest in DIGESTS]
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        assert await asyncio.gather(*given) == [[RSA.sign(digest)] for digest in DIGESTS]
        assert told == ["the process that signs has ended: signing goes on without it until it is started anew"]
        assert scribe.sign([(RSA, DIGESTS[0])], as_it_is).done()
        assert not scribe.pid, "too soon"
        scribe._next_start = 0.0
        await all_signed(scribe)
        assert scribe.pid not in {0, pid}
    assert len(told) == 1


async def test_one_that_does_not_answer_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    async with scribing() as (scribe, told):
        os.kill(scribe.pid, signal.SIGSTOP)
        await all_signed(scribe)
        assert len(told) == 1


async def test_where_none_can_be_started_signing_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    async with scribing() as (scribe, told):
        assert scribe.sign([(RSA, DIGESTS[0])], as_it_is).result() == [RSA.sign(DIGESTS[0])]
    assert told == ["the process that signs can't be started (No such file or directory): signing goes on without it"]


async def test_one_that_could_not_be_started_for_want_of_descriptors_costs_no_signature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with scribing() as (scribe, told):
        os.kill(scribe.pid, signal.SIGKILL)
        await until(lambda: not scribe.pid)
        scribe._next_start = 0.0
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socketpair", none_left)
            assert scribe.sign([(RSA, DIGESTS[0])], as_it_is).result() == [RSA.sign(DIGESTS[0])]
        assert told[1:] == ["the process that signs can't be started (Too many open files): signing goes on without it"]


async def test_one_that_hangs_at_a_reload_does_not_keep_the_keys_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    async with scribing() as (scribe, told):
        pid = scribe.pid
        os.kill(pid, signal.SIGSTOP)
        scribe.close()
        await until(lambda: not scribe.pid)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert told == []


async def test_keys_beyond_the_most_are_signed_with_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_KEYS", 1)
    async with scribing() as (scribe, _):
        assert scribe.sign([(ODD, DIGESTS[0])], as_it_is).result() == [ODD.sign(DIGESTS[0])]
        assert await scribe.sign([(RSA, DIGESTS[0])], as_it_is) == [RSA.sign(DIGESTS[0])]


@pytest.mark.slow
async def test_nobody_waits_for_one_that_hangs_as_long_as_applications_do() -> None:
    async with scribing() as (scribe, _):
        await scribe.sign([(RSA, DIGESTS[0])], as_it_is)
        os.kill(scribe.pid, signal.SIGSTOP)
        async with asyncio.timeout(8):
            await all_signed(scribe)


async def test_signals_to_all_of_a_service_do_not_end_it() -> None:
    async with scribing() as (scribe, told):
        pid = scribe.pid
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(pid, number)
        await all_signed(scribe)
        assert scribe.pid == pid
    assert told == []


async def test_nothing_of_the_environment_but_what_python_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY__UPSTREAM__SES__PASSWORD", "sekrit")
    async with scribing() as (scribe, _):
        await all_signed(scribe)
        assert environment(scribe.pid) <= {*module._INHERITED, "PYTHONPATH"}


async def test_keys_of_a_thousand_domains_are_more_than_a_socket_takes_at_once() -> None:
    told: list[str] = []
    many = Scribe([make_key("e", "ed25519") for _ in range(4000)] + [RSA], told.append)
    assert await many.sign([(RSA, DIGESTS[0])], as_it_is) == [RSA.sign(DIGESTS[0])]
    many.close()
    await until(lambda: not many.pid)
    assert told == []


@pytest.mark.parametrize("cuts", [(1,), (2, 36), (5, 700, 701)])
def test_the_program_bears_any_split(cuts: tuple[int, ...]) -> None:
    ours, its = socket.socketpair()
    said = introduction(KEYS) + b"".join(order(n % 3, digest) for n, digest in enumerate(DIGESTS[:6]))
    server = Thread(target=program.serve, args=(its,))
    server.start()
    start = 0
    with ours, its:
        for end in (*cuts, len(said)):
            ours.sendall(said[start:end])
            start = end
        ours.shutdown(socket.SHUT_WR)
        server.join(20)
        its.close()
        found = b""
        while data := ours.recv(65536):
            found += data
    assert found == b"".join(KEYS[n % 3].sign(digest) for n, digest in enumerate(DIGESTS[:6]))


@pytest.mark.parametrize("nonsense", [b"\0\1\0\5hello", introduction([]) + order(7, DIGESTS[0])])
def test_the_program_ends_by_nonsense_and_says_nothing(nonsense: bytes) -> None:
    ours, its = socket.socketpair()
    with ours, its:
        ours.sendall(nonsense)
        ours.shutdown(socket.SHUT_WR)
        ended = subprocess.run(
            [sys.executable, "-m", "relay.signing"], stdin=its.fileno(), capture_output=True, check=False
        )
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, b"", b"")
