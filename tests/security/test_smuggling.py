"""SMTP smuggling: no octets within a message become a message, neither at our door nor at a careless server behind us.

The sequences are those of the 2023 disclosure and of the scanners since, each split over reads at every octet.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.harness import Relay, free_port, reached, smtp_upstream
from tests.peers.ledger import Submitter
from tests.peers.postfix import Postfix, unavailable
from tests.peers.scripted import ScriptedUpstream
from tests.peers.tap import ByteTap
from tests.security.lenient import LenientUpstream
from tests.smtp.test_datareader import LOOK_ALIKES

SMUGGLED = b"MAIL FROM:<smuggled@x.test>\r\nRCPT TO:<c@y.test>\r\nDATA\r\nSubject: in\r\n\r\nside\r\n"
NORMALISER_OFF = """
from relay.smtp import lineends

lineends.are_whole = lambda content: True
lineends.normalised = lambda content: content
"""
BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
AT_A_TIME = 20


async def by_data(port: int, sequence: bytes, cut: int) -> str:
    """Submit a message with ``sequence`` and a smuggled one in it, in two parts."""
    client = await Submitter.connect(port)
    try:
        for line in ("MAIL FROM:<a@x.test>", "RCPT TO:<b@y.test>", "DATA"):
            assert (await client.command(line))[0] in "23"
        client.writer.write(b"From: <a@x.test>\r\nSubject: out\r\n\r\nside" + sequence[:cut])
        await client.writer.drain()
        await asyncio.sleep(0.003)
        client.writer.write(sequence[cut:] + SMUGGLED)
        return await client.command(".")
    finally:
        client.close()


async def by_bdat(port: int, sequence: bytes, cut: int) -> str:
    """The same in two chunks."""
    client = await Submitter.connect(port)
    try:
        for line in ("MAIL FROM:<a@x.test>", "RCPT TO:<b@y.test>"):
            assert (await client.command(line))[0] in "23"
        first = b"From: <a@x.test>\r\nSubject: out\r\n\r\nside" + sequence[:cut]
        client.writer.write(b"BDAT %d\r\n" % len(first) + first)
        second = sequence[cut:] + SMUGGLED
        client.writer.write(b"BDAT %d LAST\r\n" % len(second) + second)
        assert (await client.command("NOOP")).startswith("250")
        return await client.command("NOOP")
    finally:
        client.close()


@asynccontextmanager
async def relay_before(folder: Path, target: int, **environment: str) -> AsyncIterator[tuple[Relay, ByteTap]]:
    async with (
        ByteTap(target) as tap,
        Relay(folder, {"peer": smtp_upstream(tap.port, chunking="off")}, environment=environment) as relay,
    ):
        yield relay, tap


async def submit_all(relay: Relay, sequences: Mapping[str, bytes] = LOOK_ALIKES) -> int:
    """Each sequence at each split, by DATA and by BDAT; how many messages that were."""
    places = asyncio.Semaphore(AT_A_TIME)

    async def one(way: object, sequence: bytes, cut: int) -> None:
        async with places:
            reply = await (by_bdat if way is by_bdat else by_data)(relay.port, sequence, cut)
            assert reply.startswith("250 2.0.0 Ok"), f"{sequence!r} at {cut}: {reply}"

    tries = [(way, s, cut) for way in (by_data, by_bdat) for s in sequences.values() for cut in range(len(s) + 1)]
    await asyncio.gather(*(one(*each) for each in tries))
    return len(tries)


def assert_clean(tap: ByteTap) -> None:
    """Commands and content on the wire: CR LF alone, and each leading dot doubled."""
    for wire in tap.sent:
        assert not BARE.search(wire)
        for content in re.findall(rb"\r\nDATA\r\n(.*?)\r\n\.\r\n", bytes(wire), re.DOTALL):
            assert not re.search(rb"(?:^|\r\n)\.(?!\.)", content)


async def test_one_message_stays_one(tmp_path: Path) -> None:
    """A strict server behind us."""
    async with ScriptedUpstream() as peer, relay_before(tmp_path, peer.port) as (relay, tap):
        count = await submit_all(relay)
        await relay.until("postfix/qmgr.*: removed$", count)
        assert Counter(message.mail.split()[1] for message in peer.messages) == {b"FROM:<a@x.test>": count}
        assert_clean(tap)


@pytest.mark.parametrize("optimize", ["", "1"], ids=["", "without-assertions"])
async def test_a_careless_server_behind_us_gets_nothing_to_misread(tmp_path: Path, optimize: str) -> None:
    async with (
        LenientUpstream() as peer,
        relay_before(tmp_path, peer.port, PYTHONOPTIMIZE=optimize) as (relay, tap),
    ):
        count = await submit_all(relay)
        await relay.until("postfix/qmgr.*: removed$", count)
        assert Counter(peer.senders) == {b"MAIL FROM:<a@x.test>": count}
        assert_clean(tap)


async def test_without_normalising_there_is_smuggling(tmp_path: Path) -> None:
    """The negative control: the careless server, and a relay that lets bare line ends through."""
    (tmp_path / "sitecustomize.py").write_text(NORMALISER_OFF)
    async with (
        LenientUpstream() as peer,
        relay_before(tmp_path, peer.port, PYTHONPATH=str(tmp_path)) as (relay, tap),
    ):
        await by_data(relay.port, LOOK_ALIKES["LF.LF"], 0)
        await by_data(relay.port, LOOK_ALIKES["CR.CR"], 0)
        await reached(lambda: any(b"smuggled" in sender for sender in peer.senders))
        with pytest.raises(AssertionError):
            assert_clean(tap)


@pytest.mark.interop
@pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there")
async def test_postfix_as_it_was_before_the_disclosure(tmp_path: Path) -> None:
    port = free_port()
    async with ScriptedUpstream() as end:
        settings = "smtpd_forbid_bare_newline = no\nsmtpd_forbid_unauth_pipelining = no"
        with Postfix(port, end.port, settings=settings):
            async with relay_before(tmp_path, port) as (relay, tap):
                count = await submit_all(relay)
                await relay.until("postfix/qmgr.*: removed$", count)
                await end.received(count, within=60)
                assert len(end.messages) == count
                assert not [message for message in end.messages if b"smuggled" in message.mail]
                assert_clean(tap)


async def test_refused_altogether_where_asked(tmp_path: Path) -> None:
    """``line_ends = "reject"``; what follows the look-alike is content all the same."""
    async with ScriptedUpstream() as peer:
        async with Relay(tmp_path, {"peer": smtp_upstream(peer.port)}, listener={"line_ends": "reject"}) as relay:
            for name, sequence in LOOK_ALIKES.items():
                reply = await by_data(relay.port, sequence, 1)
                bare = BARE.search(sequence)
                assert reply.startswith("550 5.6.11" if bare else "250"), f"{name}: {reply}"
        assert not [message for message in peer.messages if b"smuggled" in message.mail]
