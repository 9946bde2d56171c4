"""Other people of this machine and guessers of passwords, at a real relay."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from relay.listener.passwords import hash_password
from tests.e2e.harness import Relay, free_port
from tests.peers.ledger import reply_of

SIMULATOR = {"sim": {"kind": "simulator"}}
GUESSERS = 30
SECONDS = 6.0


async def guess(port: int, until: float, heard: Counter[str]) -> None:
    """Password after password, and a new connection for each that is ended."""
    n = 0
    while time.monotonic() < until:
        with suppress(OSError, ValueError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                await reply_of(reader)
                writer.write(b"EHLO x\r\n")
                await reply_of(reader)
                while time.monotonic() < until:
                    n += 1
                    writer.write(
                        b"AUTH PLAIN " + base64.b64encode(f"\0billing\0guess {id(reader)} {n}".encode()) + b"\r\n"
                    )
                    async with asyncio.timeout(until - time.monotonic() + 15):
                        heard[(await reply_of(reader))[:3]] += 1
            finally:
                writer.transport.abort()


@pytest.mark.slow
async def test_guessing_is_slow_however_many_connections_and_mail_goes_on(tmp_path: Path) -> None:
    port = free_port()
    tables = {
        "listener.users": {"address": f"127.0.0.1:{port}", "auth": "required"},
        "user.billing": {"password_hash": hash_password("the right one", b"0123456789abcdef")},
    }
    async with Relay(tmp_path, SIMULATOR, tables=tables) as relay:
        heard: Counter[str] = Counter()
        until = time.monotonic() + SECONDS
        async with asyncio.TaskGroup() as tasks:
            for _ in range(GUESSERS):
                tasks.create_task(guess(port, until, heard))
            while time.monotonic() < until:
                await relay.submit()
        # Ten at a time are looked at, each held back for a second and longer; who is told to come back waits as well.
        assert heard["535"] <= 3 * 10
        assert heard["535"] + heard["454"] + heard["421"] <= GUESSERS * (SECONDS + 16)
        assert "235" not in heard


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("runuser") is None, reason="needs root to become somebody else")
async def test_another_user_sees_nothing_and_commands_nothing() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders let nobody through
        Path(name).chmod(0o755)  # noqa: ASYNC240
        await look_and_command(Path(name) / "relay")


async def look_and_command(folder: Path) -> None:
    async with Relay(folder, SIMULATOR) as relay:
        spool = folder / "spool"
        connect = f"import socket; socket.socket(socket.AF_UNIX).connect({str(spool / 'control.sock')!r})"
        program = getattr(sys, "_base_executable", sys.executable)
        deeds = [
            ("cat", str(spool / "spool.db")),
            ("ls", str(spool)),
            ("cat", f"/proc/{relay.pid}/environ"),
            ("cat", f"/proc/{relay.pid}/mem"),
            ("ls", f"/proc/{relay.pid}/fd/"),
            (shutil.which("python3", path="/usr/bin:/bin") or program, "-c", connect),
        ]
        for mode in (0o700, 0o777):
            spool.chmod(mode)
            for deed in deeds:
                if mode == 0o777 and deed[0] == "ls":
                    continue
                done = await asyncio.create_subprocess_exec(
                    *("runuser", "-u", "nobody", "--", *deed), stderr=asyncio.subprocess.PIPE, cwd="/"
                )
                _, error = await done.communicate()
                assert done.returncode, f"{deed} with the folder {mode:o}"
                assert b"denied" in error or b"not permitted" in error, error
        spool.chmod(0o700)
        assert await relay.submit()
