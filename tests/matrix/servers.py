"""Servers of other makers as upstreams; each keeps what arrives, or hands it on to a peer that does.

``async with server(name, folder) as kept``: ``kept.port`` to relay to, ``await kept.contents(names)`` for what arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.e2e.harness import free_port
from tests.matrix.clients import HERE, NODE_MODULES, PROGRAMS, missing
from tests.matrix.opensmtpd import OpenSmtpd
from tests.peers.exim import Exim, EximUnavailable
from tests.peers.postfix import Postfix, unavailable
from tests.peers.scripted import ScriptedUpstream

Contents = Mapping[str, Sequence[bytes]]
SERVERS: Final = ("postfix", "exim", "opensmtpd", "smtp-server", "smtp-sink")
SMTP_SINK: Final = shutil.which("smtp-sink", path="/usr/sbin:/usr/bin") or ""


class ServerUnavailable(Exception):
    """Why a server can't be had on this machine."""


@dataclass(frozen=True)
class Kept:
    """``contents(names)`` waits for what went to these; all that came, by the local parts of its recipients."""

    port: int
    contents: Callable[[Collection[str]], Awaitable[Contents]]


@asynccontextmanager
async def server(name: str, folder: Path) -> AsyncIterator[Kept]:
    """Raises ServerUnavailable."""
    if name in {"postfix", "exim", "opensmtpd"}:
        async with handing_on(name) as kept:
            yield kept
    elif name == "smtp-server":
        async with smtp_server(folder) as kept:
            yield kept
    else:
        async with smtp_sink(folder) as kept:
            yield kept


@asynccontextmanager
async def handing_on(name: str) -> AsyncIterator[Kept]:
    """An MTA that relays to a scripted peer."""
    async with ScriptedUpstream() as far:
        port = free_port()
        if name == "postfix":
            if reason := unavailable():
                raise ServerUnavailable(reason)
            mta: Postfix | Exim | OpenSmtpd = Postfix(port, far.port)
        else:
            mta = Exim(port, far.port) if name == "exim" else OpenSmtpd(port, far.port)
        with ExitStack() as stack:
            try:
                await asyncio.to_thread(stack.enter_context, mta)
            except EximUnavailable as reason:
                raise ServerUnavailable(str(reason)) from None

            async def contents(names: Collection[str]) -> Contents:
                with contextlib.suppress(TimeoutError):  # who compares names what is missing
                    async with asyncio.timeout(60), far.changed:
                        await far.changed.wait_for(lambda: set(names) <= set(by_recipient(far)))
                return by_recipient(far)

            yield Kept(port, contents)


def by_recipient(far: ScriptedUpstream) -> dict[str, list[bytes]]:
    """What a peer took. An MTA may have put many recipients into another order, or into several messages."""
    arrived: dict[str, list[bytes]] = defaultdict(list)
    for message in far.accepted():
        for recipient in message.recipients:
            arrived[recipient.rpartition("@")[0]].append(message.content)
    return arrived


@asynccontextmanager
async def smtp_server(folder: Path) -> AsyncIterator[Kept]:
    """npm's."""
    if reason := missing(("node", str(NODE_MODULES / "smtp-server"))):
        raise ServerUnavailable(reason)
    kept = folder / "kept"
    kept.mkdir()
    process = await asyncio.create_subprocess_exec(
        "node",
        str(PROGRAMS / "upstream.mjs"),
        str(kept),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "NODE_FOLDER": str(HERE)},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            port = int(await process.stdout.readline())

        async def contents(_names: Collection[str]) -> Contents:
            return {file.name: [file.read_bytes()] for file in kept.iterdir()}

        yield Kept(port, contents)
    finally:
        process.kill()
        await process.communicate()


@asynccontextmanager
async def smtp_sink(folder: Path) -> AsyncIterator[Kept]:
    """Postfix's, which writes one file a transaction: Unix line ends, fields of its own on top and an empty
    line at the end."""
    if not SMTP_SINK:
        raise ServerUnavailable("smtp-sink (Debian's postfix package) is not installed")
    kept = folder / "kept"
    kept.mkdir()
    port = free_port()
    user = ("-u", "root") if os.geteuid() == 0 else ()
    process = await asyncio.create_subprocess_exec(SMTP_SINK, *user, "-d", f"{kept}/m.", f"127.0.0.1:{port}", "100")
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            else:
                writer.close()
                break

        async def contents(_names: Collection[str]) -> Contents:
            arrived: dict[str, list[bytes]] = defaultdict(list)
            for file in kept.iterdir():
                dumped = file.read_bytes().removesuffix(b"\n")
                recipient = re.search(rb"^X-Rcpt-Args: <([^@>]*)", dumped, re.MULTILINE)
                if recipient is not None:
                    arrived[recipient[1].decode()].append(dumped.replace(b"\n", b"\r\n"))
            return arrived

        yield Kept(port, contents)
    finally:
        process.kill()
        await process.wait()
