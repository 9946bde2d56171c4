"""SIGHUP: what changed holds for new sessions, sessions that are open go on, a broken file changes nothing."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.e2e.harness import Relay, free_port
from tests.listener.certificates import certificate
from tests.listener.stand_ins import Dialogue

Dial = Callable[[int], Awaitable[Dialogue]]

SIMULATOR = {"sim": {"kind": "simulator"}}
BEGUN = b"EHLO x\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<success@y.test>\r\nDATA\r\n"


@pytest.fixture
async def dial() -> AsyncIterator[Dial]:
    """Connects to a port of this machine and is greeted."""
    async with AsyncExitStack() as dialogues:

        async def dialling(port: int) -> Dialogue:
            dialogue = Dialogue(*await asyncio.open_connection("127.0.0.1", port))
            dialogues.push_async_callback(dialogue.close)
            assert (await dialogue.reply()).startswith(b"220 ")
            return dialogue

        yield dialling


async def reload(relay: Relay, times: int, *, said: str = "reload: done$") -> None:
    assert relay.process is not None
    relay.process.send_signal(signal.SIGHUP)
    await relay.until(said, count=times)


async def test_reload(tmp_path: Path, dial: Dial) -> None:
    pem = certificate(tmp_path)
    async with Relay(tmp_path, SIMULATOR) as relay:
        idle, busy = await dial(relay.port), await dial(relay.port)
        busy.writer.write(BEGUN)
        for _ in range(4):
            await busy.reply()
        second = free_port()
        first = f'[listener.app]\naddress = "127.0.0.1:{relay.port}"\nmax_message_size = "1MB"\n'
        text = relay.config.read_text()
        before, after = text.split("[listener.app]")[0], "[upstream.sim]\n" + text.split("[upstream.sim]\n")[1]
        tls = f'[listener.tls]\naddress = "127.0.0.1:{second}"\ntls = "starttls"\ntls_cert = "{pem.path}"\n'
        relay.config.write_text(before + first + tls + after)
        await reload(relay, 1)

        busy.writer.write(b"Subject: x\r\n\r\nx\r\n.\r\n")
        assert (await busy.reply()).startswith(b"250 2.0.0 ")
        assert await idle.ask(b"NOOP\r\n") == b"250 2.0.0 Ok"
        assert b"SIZE 1000000\r\n" in await (await dial(relay.port)).ask(b"EHLO x\r\n")
        secure = await dial(second)
        assert b"STARTTLS" in await secure.ask(b"EHLO x\r\n")
        await secure.ask(b"STARTTLS\r\n")
        await secure.start_tls(pem.trusted)

        # A certificate that can't be used is a configuration that can't be: all of it stays.
        await asyncio.to_thread(Path(pem.path).write_text, "broken")
        await reload(relay, 1, said=r"warning: reload: the configuration is kept as it was$")
        assert relay.lines(r"warning: reload: \S+/relay\.toml: \[listener\.tls\] tls_cert: ")
        assert (await secure.ask(b"EHLO x\r\n")).startswith(b"250-")
        again = await dial(second)
        await again.ask(b"EHLO x\r\n")
        await again.ask(b"STARTTLS\r\n")
        await again.start_tls(pem.trusted)

        # The first address goes: its idle session ends, the other's stays.
        fresh = certificate(tmp_path)
        relay.config.write_text(before + tls + after)
        await reload(relay, 2)
        assert (await idle.rest()).startswith(b"421 4.3.2 ")
        assert (await again.ask(b"EHLO x\r\n")).startswith(b"250-")
        renewed = await dial(second)
        await renewed.ask(b"EHLO x\r\n")
        await renewed.ask(b"STARTTLS\r\n")
        await renewed.start_tls(fresh.trusted)
        assert (await renewed.ask(b"EHLO x\r\n")).startswith(b"250-")

        await relay.until("removed$")
        assert await relay.stop() == 0


async def test_a_listener_that_cannot_be_opened_is_reported(tmp_path: Path, dial: Dial) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with Relay(tmp_path, SIMULATOR) as relay:
            text = relay.config.read_text()
            relay.config.write_text(f'{text}\n[listener.other]\naddress = "127.0.0.1:{port}"\n')
            await reload(relay, 1, said="warning: reload: done but for the above, which is kept as it was$")
            assert relay.lines(rf"warning: reload: can't listen on 127\.0\.0\.1:{port}: ")
            await dial(relay.port)


async def test_each_error_of_a_broken_file_is_a_line(tmp_path: Path) -> None:
    async with Relay(tmp_path, SIMULATOR) as relay:
        text = relay.config.read_text()
        relay.config.write_text(text + '[log]\nformat = "xml"\ntag = "a b"\n')
        await reload(relay, 1, said="warning: reload: the configuration is kept as it was$")
        assert len(relay.lines(r"warning: reload: \S+: \[log\] \w+: found ")) == 2
