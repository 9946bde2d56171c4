"""What was transferred, as others see it: clients of other makers towards us and towards aiosmtpd, and our client
towards aiosmtpd and Postfix, with bodies that Hypothesis makes.
"""

from __future__ import annotations

import asyncio
import shutil
import smtplib
import subprocess
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import aiosmtplib
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.outcome import Verdict
from relay.smtp.lineends import normalised
from tests.e2e.harness import free_port
from tests.listener.stand_ins import Door, a_door
from tests.peers.postfix import Postfix, unavailable
from tests.peers.scripted import ScriptedUpstream
from tests.upstream.doors import relay_one, upstream

T = TypeVar("T")
HEAD = b"From: a@x.test\r\nTo: b@y.test\r\nDate: x\r\nMessage-ID: <1@x.test>\r\nSubject: x\r\n\r\n"
PIECES = st.sampled_from(
    [b"\r\n", b".", b"..", b"\r\n.", b"\r\n..\r\n", b"a", b"word ", b"\t", b"From ", b"-" * 30, b"QUIT\r\n"]
)
WHOLE = st.lists(PIECES, max_size=25).map(b"".join)
ANY = st.lists(PIECES | st.sampled_from([b"\n", b"\r", b"\n.\n", b"\n.", b"\r.", b"\n..\r"]), max_size=25).map(b"".join)
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


class Keeper:
    """aiosmtpd's own server; keeps what it received."""

    def __init__(self) -> None:
        self.received: list[bytes] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        self.received.append(envelope.content)
        return "250 2.0.0 taken"


class Here:
    """An event loop in a thread, with our listener, aiosmtpd's and a scripted one in it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.keeper = Keeper()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    async def open(self) -> None:
        self._door = a_door()
        self.door: Door = await self._door.__aenter__()
        self.port = int(self.door.listeners.addresses[0].rpartition(":")[2])
        self._server = await self.loop.create_server(lambda: SMTP(self.keeper, hostname="peer.test"), "127.0.0.1", 0)
        self.other = self._server.sockets[0].getsockname()[1]
        self.sink = await ScriptedUpstream().__aenter__()

    async def close(self) -> None:
        await self._door.__aexit__(None, None, None)
        await self.sink.__aexit__()
        self._server.close()
        await self._server.wait_closed()

    def kept(self) -> bytes:
        """The last message at our listener, without what the stamp put before it."""
        content = self.door.spool.content()
        return content[content.index(b"From: a@x.test") :]


@pytest.fixture(scope="module")
def here() -> Iterator[Here]:
    here = Here()
    here.do(here.open())
    yield here
    here.do(here.close())
    here.loop.call_soon_threadsafe(here.loop.stop)
    here._thread.join(10)
    here.loop.close()


def by_smtplib(port: int, content: bytes) -> None:
    with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test", timeout=20) as client:
        client.sendmail("a@x.test", ["b@y.test"], content)


def by_aiosmtplib(port: int, content: bytes) -> None:
    sending = aiosmtplib.send(
        content, sender="a@x.test", recipients=["b@y.test"], hostname="127.0.0.1", port=port, start_tls=False
    )
    asyncio.run(sending)


def by_curl(port: int, content: bytes) -> None:
    command = ["curl", "-sS", "--url", f"smtp://127.0.0.1:{port}/client.test", "--mail-from", "a@x.test"]
    subprocess.run([*command, "--mail-rcpt", "b@y.test", "--upload-file", "-"], input=content, check=True, timeout=20)


@pytest.mark.parametrize("send", [by_smtplib, by_aiosmtplib, by_curl])
def test_we_and_aiosmtpd_receive_the_same_from_a_client(here: Here, send: Any) -> None:
    if send is by_curl and shutil.which("curl") is None:
        pytest.skip("no curl")

    @QUICK
    @given(WHOLE)
    def same(body: bytes) -> None:
        content = HEAD + normalised(body)
        send(here.port, content)
        send(here.other, content)
        assert here.kept() == here.keeper.received[-1]
        assert here.kept().rstrip(b"\r\n") == content.rstrip(b"\r\n")

    same()


@pytest.mark.parametrize("send", [by_smtplib, by_aiosmtplib])
def test_bare_line_ends_of_a_client_become_whole_and_nothing_else_changes(here: Here, send: Any) -> None:
    @QUICK
    @given(ANY)
    def normal(body: bytes) -> None:
        before = len(here.door.spool.accepted)
        send(here.port, HEAD + body)
        assert len(here.door.spool.accepted) == before + 1, "no second message out of the first one's content"
        assert here.kept().rstrip(b"\r\n") == normalised(HEAD + body).rstrip(b"\r\n")

    normal()


@pytest.mark.parametrize("pipelining", ["off", "chained"])
def test_aiosmtpd_receives_what_we_relay(here: Here, pipelining: str) -> None:
    @QUICK
    @given(WHOLE)
    def arrives(body: bytes) -> None:
        content = HEAD + normalised(body)
        end = here.do(relay_one(upstream(here.other, tls="none", pipelining=pipelining), content))
        assert end.outcomes[0].verdict is Verdict.RELAYED
        assert here.keeper.received[-1] == with_end(content)

    arrives()


@pytest.mark.interop
@pytest.mark.parametrize("chunking", ["off", "auto"])
def test_postfix_relays_what_we_relay_to_it(here: Here, chunking: str) -> None:
    if reason := unavailable():
        pytest.skip(reason)
    with Postfix(free_port(), here.sink.port) as postfix:

        @settings(QUICK, max_examples=25)
        @given(WHOLE)
        def arrives(body: bytes) -> None:
            content = HEAD + normalised(body)
            count = len(here.sink.messages) + 1
            end = here.do(relay_one(upstream(postfix.port, tls="none", chunking=chunking), content))
            assert end.outcomes[0].verdict is Verdict.RELAYED
            received = here.do(here.sink.received(count))[-1].content
            assert received[received.index(b"From: a@x.test") :] == with_end(content)

        arrives()


def with_end(content: bytes) -> bytes:
    """Content whose last line has its end, as DATA can't be without."""
    return content if content.endswith(b"\r\n") else content + b"\r\n"
