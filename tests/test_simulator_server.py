"""The simulator as a server, as an application's SMTP library meets it."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import AsyncIterator
from email import message_from_bytes
from pathlib import Path

import pytest

from relay.listener.simulator import SimulatorServer, start_simulator

MESSAGE = b"Subject: hello\r\n\r\nbody\r\n.dot\r\n"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[SimulatorServer]:
    running = await start_simulator("127.0.0.1:0", maildir=tmp_path / "mail")
    yield running
    await running.close()


def talk(port: int, recipients: list[str]) -> dict[str, tuple[int, bytes]]:
    """Send one message; what smtplib reports of refused recipients."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="app.test", timeout=10) as client:
        return client.sendmail("a@x.test", recipients, MESSAGE)


async def test_it_says_what_it_can(server: SimulatorServer) -> None:
    def ehlo() -> set[str]:
        with smtplib.SMTP("127.0.0.1", server.addresses[0][1], local_hostname="app.test", timeout=10) as client:
            client.ehlo()
            return {name.upper() for name in client.esmtp_features}

    assert await asyncio.to_thread(ehlo) >= {"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"}


async def test_recipients_are_answered_by_their_local_part(server: SimulatorServer, tmp_path: Path) -> None:
    port = server.addresses[0][1]
    refused = await asyncio.to_thread(
        talk, port, ["ok@y.test", "bounce+1@y.test", "throttle@y.test", "defer@y.test", "suppressionlist@y.test"]
    )
    assert {address: reply[0] for address, reply in refused.items()} == {
        "bounce+1@y.test": 550,
        "throttle@y.test": 454,
        "defer@y.test": 451,
        "suppressionlist@y.test": 550,
    }
    assert refused["bounce+1@y.test"][1].startswith(b"5.1.1 ")
    assert refused["throttle@y.test"][1].startswith(b"4.7.0 Throttling failure")
    assert refused["defer@y.test"][1].startswith(b"4.4.1 ")
    assert server.counts["messages"] == 1
    (kept,) = (tmp_path / "mail" / "new").iterdir()
    assert kept.read_bytes().replace(b"\r\n", b"\n") == MESSAGE.replace(b"\r\n", b"\n")


async def test_drop_closes_after_the_final_dot_without_a_reply(server: SimulatorServer) -> None:
    with pytest.raises(smtplib.SMTPServerDisconnected):
        await asyncio.to_thread(talk, server.addresses[0][1], ["drop@y.test"])
    assert server.counts["messages"] == 1


async def test_slow_answers_late(server: SimulatorServer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    async def sleep(delay: float) -> None:
        asked.append(delay)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert await asyncio.to_thread(talk, server.addresses[0][1], ["slow@y.test", "ok@y.test"]) == {}
    assert asked == [5.0]


async def test_pipelined_transactions_are_answered_in_order(server: SimulatorServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.addresses[0][1])
    await reader.readuntil(b"\n")
    writer.write(b"EHLO app.test\r\n")
    while not (await reader.readuntil(b"\n")).startswith(b"250 "):
        pass
    group = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<bounce@y.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n"
    writer.write(group)
    codes = [(await reader.readuntil(b"\n"))[:3] for _ in range(4)]
    writer.write(MESSAGE.replace(b"\r\n.", b"\r\n..") + b".\r\n" + group)
    codes += [(await reader.readuntil(b"\n"))[:3] for _ in range(5)]
    writer.close()
    await writer.wait_closed()
    assert codes == [b"250", b"550", b"250", b"354", b"250", b"250", b"550", b"250", b"354"]


async def test_a_complaint_is_taken_and_reported_to_the_sender(server: SimulatorServer, tmp_path: Path) -> None:
    assert await asyncio.to_thread(talk, server.addresses[0][1], ["complaint@y.test", "ok@y.test"]) == {}
    kept = [message_from_bytes(file.read_bytes()) for file in (tmp_path / "mail" / "new").iterdir()]
    (report,) = [mail for mail in kept if mail.get_content_type() == "multipart/report"]
    assert report.get_param("report-type") == "feedback-report"
    assert report["To"] == "a@x.test"
    assert [part.get_content_type() for part in report.walk()][1:] == [
        "text/plain",
        "message/feedback-report",
        "text/plain",  # its fields, as Python reads a message within
        "text/rfc822-headers",
    ]
    said = str(report)
    assert "complaint@y.test marked a message" in said
    assert "Feedback-Type: abuse" in said
    assert "Original-Rcpt-To: <complaint@y.test>" in said
    assert "Subject: hello" in said
    assert len(kept) == 2
