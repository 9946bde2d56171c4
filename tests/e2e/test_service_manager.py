"""What systemd asks of a service: sd_notify, the watchdog, sockets that outlive the process, logs it can read."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.harness import COMMAND, Relay, free_port, reached
from tests.peers.ledger import Submitter

ACTIVATE = shutil.which("systemd-socket-activate")
SIMULATOR = {"main": {"kind": "simulator"}}

# What systemd does between fork and exec: the sockets at 3 and on, and to whom they are meant.
_PASS = """
import os, sys
count = int(sys.argv[1])
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count), LISTEN_FDNAMES=":".join(["app"] * count))
for n in range(count):
    os.set_inheritable(3 + n, True)
os.execv(sys.argv[2], sys.argv[2:])
"""


async def test_the_manager_hears_of_every_change(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        loop = asyncio.get_running_loop()

        async def told(wanted: Callable[[str], bool]) -> str:
            async with asyncio.timeout(20):
                while True:
                    state = (await loop.sock_recv(manager, 4096)).decode()
                    if wanted(state):
                        return state

        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        async with Relay(tmp_path, SIMULATOR, environment=environment) as relay:
            assert "0 queued; main is up" in await told(lambda state: state.startswith("READY=1\n"))
            for _ in range(3):
                await told(lambda state: state.startswith("WATCHDOG=1\n"))
            os.kill(relay.pid, signal.SIGHUP)
            reloading = await told(lambda state: state.startswith("RELOADING=1\n"))
            assert int(reloading.partition("MONOTONIC_USEC=")[2]) > 0
            await told(lambda state: state == "READY=1")
            os.kill(relay.pid, signal.SIGTERM)
            await told(lambda state: state.startswith("STOPPING=1"))
            assert await relay.ended() == 0


async def _relay_on(listening: socket.socket, relay: Relay) -> asyncio.subprocess.Process:
    """A relay that is passed ``listening``, started as systemd starts it."""

    def place() -> None:
        os.dup2(listening.fileno(), 3)

    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _PASS,
        "1",
        *COMMAND,
        "serve",
        "-c",
        str(relay.config),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        preexec_fn=place,
        pass_fds=(3,),
    )


async def test_a_restart_refuses_no_connection(tmp_path: Path) -> None:
    """The socket is the manager's: who connects while no relay runs is greeted by the next one."""
    relay = Relay(tmp_path, SIMULATOR)
    with socket.create_server(("127.0.0.1", relay.port)) as listening:
        accepted = 0
        stop = False

        async def application() -> None:
            nonlocal accepted
            while not stop:
                try:
                    client = await Submitter.connect(relay.port)
                    reply = await client.submit("a@x.test", ["success@y.test"], b"Subject: on\r\n\r\nand on\r\n")
                except (OSError, asyncio.IncompleteReadError, AssertionError) as error:
                    if getattr(error, "errno", None) == errno.ECONNREFUSED:
                        raise
                    continue  # in a session that ended with its relay: tried again, as applications do
                client.close()
                accepted += reply.startswith("250")

        applications = [asyncio.create_task(application()) for _ in range(4)]
        process = await _relay_on(listening, relay)
        try:
            for lives in range(1, 4):
                goal = lives * 40
                await reached(lambda goal=goal: accepted >= goal)  # type: ignore[misc]
                process.terminate()
                assert await asyncio.wait_for(process.wait(), 30) == 0
                process = await _relay_on(listening, relay)
            before = accepted
            await reached(lambda: accepted > before + 20)
            stop = True
            await asyncio.gather(*applications)
        finally:
            for task in applications:
                task.cancel()
            if process.returncode is None:
                process.kill()
            await process.wait()


async def test_a_socket_elsewhere_than_its_listener_is_a_wrong_configuration(tmp_path: Path) -> None:
    """What the configuration allows on loopback may be an open relay on another address."""
    relay = Relay(tmp_path, SIMULATOR)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        process = await _relay_on(listening, relay)
        assert await asyncio.wait_for(process.wait(), 30) == 78


@pytest.mark.interop
@pytest.mark.skipif(ACTIVATE is None, reason="needs systemd-socket-activate")
async def test_systemd_itself_starts_it_at_the_first_connection(tmp_path: Path) -> None:
    relay = Relay(tmp_path, SIMULATOR)
    assert ACTIVATE is not None
    # It opens its socket in a moment and starts the relay for the first client.
    process = await asyncio.create_subprocess_exec(
        *(ACTIVATE, "-l", f"127.0.0.1:{relay.port}", "--fdname=app", *COMMAND, "serve", "-c", str(relay.config)),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    client = await Submitter.connect(relay.port)
                    break
                except ConnectionRefusedError:
                    await asyncio.sleep(0.02)
        reply = await client.submit("a@x.test", ["success@y.test"], b"Subject: first\r\n\r\nmail\r\n")
        assert reply.startswith("250 2.0.0 Ok: queued as ")
        client.close()
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_json_and_hashes_and_rotation(tmp_path: Path) -> None:
    """The whole way of a message in a log file without addresses, in two files split by SIGHUP."""
    log = tmp_path / "relay.log"
    environment = {
        "RELAY__LOG__FORMAT": "json",
        "RELAY__LOG__RECIPIENTS": "hash",
        "RELAY__LOG__TARGET": str(log),
    }
    relay = Relay(tmp_path, SIMULATOR, environment=environment, port=free_port())
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "serve", "-c", str(relay.config), env={**os.environ, **environment}
    )

    def events(path: Path) -> list[str]:
        return [json.loads(line)["event"] for line in path.read_text().splitlines()] if path.exists() else []

    try:
        await reached(lambda: "notice" in events(log))
        first = await relay.submit(recipients=["success@y.test"], sender="carol@x.test")
        await reached(lambda: "removed" in events(log))
        log.rename(tmp_path / "relay.log.1")
        process.send_signal(signal.SIGHUP)
        await reached(log.exists)
        second = await relay.submit(recipients=["bounce@y.test"], sender="carol@x.test")
        await reached(lambda: events(log).count("removed") == 2)
        code, out, _ = await relay.command("log", "hash", "carol@x.test", "bounce@y.test")
        assert code == 0
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    before, after = (tmp_path / "relay.log.1").read_text(), log.read_text()
    assert first in before
    assert first not in after
    assert second in after
    assert "carol" not in before + after
    assert "bounce@y.test" not in after
    sender, recipient = out.split()
    assert f'"sender":"{sender}"' in before
    assert f'"recipient":"{recipient}"' in after


async def test_a_log_that_cannot_be_opened_is_a_wrong_configuration(tmp_path: Path) -> None:
    relay = Relay(tmp_path, SIMULATOR, environment={"RELAY__LOG__TARGET": str(tmp_path / "none" / "relay.log")})
    code, _, err = await relay.command("serve")
    assert code == 78
    assert err == f"relay: can't start: {tmp_path}/none/relay.log: No such file or directory\n"
