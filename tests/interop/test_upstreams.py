"""Real servers as upstream, chained pipelining included: each message arrives once and octet for octet."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from relay.listener.simulator import start_simulator
from tests.e2e.harness import Relay, free_port, smtp_upstream
from tests.peers.exim import Exim, EximUnavailable
from tests.peers.ledger import Ledger, Submitter
from tests.peers.postfix import Postfix, unavailable
from tests.peers.scripted import ScriptedUpstream

MESSAGES = 200
SESSIONS = 8


async def submit_many(relay: Relay, ledger: Ledger) -> None:
    """MESSAGES over SESSIONS, all acknowledged."""

    async def one(label: int) -> None:
        client = await Submitter.connect(relay.port)
        seed = random.Random(label)
        for n in range(MESSAGES // SESSIONS):
            name = f"{label}-{n}"
            content = ledger.message(name, seed.choice((300, 2000, 30_000)), seed)
            assert (await client.submit("a@x.test", ["b@y.test"], content)).startswith("250")
            ledger.acknowledged.add(name)
        client.close()

    await asyncio.gather(*(one(label) for label in range(SESSIONS)))


@asynccontextmanager
async def relayed_through(neighbour: str, sink: int) -> AsyncIterator[tuple[int, Postfix | Exim]]:
    """A neighbour that relays to ``sink``; its port."""
    port = free_port()
    with ExitStack() as stack:
        if neighbour == "postfix":
            if reason := unavailable():
                pytest.skip(reason)
            server: Postfix | Exim = await asyncio.to_thread(stack.enter_context, Postfix(port, sink))
        else:
            try:
                server = await asyncio.to_thread(stack.enter_context, Exim(port, sink))
            except EximUnavailable as reason:
                pytest.skip(f"no Exim in an overlay: {reason}")
        yield port, server


@pytest.mark.interop
@pytest.mark.timeout(240)
@pytest.mark.parametrize("neighbour", ["postfix", "exim"])
async def test_a_real_mta_takes_everything_once(tmp_path: Path, neighbour: str) -> None:
    ledger = Ledger()
    async with ScriptedUpstream() as far, relayed_through(neighbour, far.port) as (port, server):
        async with Relay(tmp_path, {"mta": smtp_upstream(port, max_connections=4)}) as relay:
            await submit_many(relay, ledger)
            await relay.until("postfix/smtp.*status=sent", MESSAGES, within=60)
            assert relay.lines(r"conn_use=\d\d"), "connections are reused"
            assert not relay.lines("status=(deferred|bounced)")
            assert await relay.stop() == 0
        await far.received(MESSAGES, within=120)
        seen: Counter[str] = Counter()
        for message in far.accepted():
            name, digest = Ledger.read(message.content)
            assert digest == ledger.submitted[name], f"{name} was altered"
            seen[name] += 1
        assert seen == Counter(dict.fromkeys(ledger.acknowledged, 1))
        if isinstance(server, Postfix):
            assert not re.search("improper command pipelining|lost connection|error", server.log())


@pytest.mark.interop
async def test_an_mta_refuses_one_of_two_recipients(tmp_path: Path) -> None:
    if reason := unavailable():
        pytest.skip(reason)
    refusing = "smtpd_recipient_restrictions = check_recipient_access inline:{no@y.test=reject}, permit"
    async with ScriptedUpstream() as far:
        port = free_port()
        with ExitStack() as stack:
            await asyncio.to_thread(stack.enter_context, Postfix(port, far.port, settings=refusing))
            async with Relay(tmp_path, {"mta": smtp_upstream(port)}) as relay:
                queue_id = await relay.submit(recipients=["b@y.test", "no@y.test"], sender="a@x.test")
                await relay.until(f"{queue_id}: removed$")
                assert relay.lines(f"{queue_id}: to=<b@y.test>.*status=sent")
                assert relay.lines(f"{queue_id}: to=<no@y.test>.*dsn=5.7.1, status=bounced")
                received = await far.received(2)
                assert sorted(m.recipients for m in received) == [("a@x.test",), ("b@y.test",)]


@pytest.mark.interop
async def test_smtp_sink_takes_everything(tmp_path: Path) -> None:
    program = shutil.which("smtp-sink", path="/usr/sbin:/usr/bin")
    if program is None:
        pytest.skip("smtp-sink (Debian's postfix package) is not installed")
    port = free_port()
    sink = await asyncio.create_subprocess_exec(program, "-u", "nobody", f"127.0.0.1:{port}", "100")
    try:
        async with Relay(tmp_path, {"sink": smtp_upstream(port)}) as relay:
            await submit_many(relay, Ledger())
            await relay.until("status=sent", MESSAGES)
            assert not relay.lines("status=(deferred|bounced)")
    finally:
        sink.kill()
        await sink.wait()


async def test_aiosmtpd_takes_everything(tmp_path: Path) -> None:
    """The simulator's server: aiosmtpd as it is, with PIPELINING said aloud."""
    ledger = Ledger()
    server = await start_simulator("127.0.0.1:0", maildir=tmp_path / "mail")
    try:
        async with Relay(tmp_path, {"sim": smtp_upstream(server.addresses[0][1])}) as relay:
            await submit_many(relay, ledger)
            await relay.until("status=sent", MESSAGES)
            assert not relay.lines("status=(deferred|bounced)")
        assert server.counts["messages"] == MESSAGES
    finally:
        await server.close()
    mail = tmp_path / "mail" / "new"
    # A maildir's files have the line ends that the machine likes.
    kept = [file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for file in mail.iterdir()]
    assert dict(map(Ledger.read, kept)) == ledger.submitted
