"""Recipients that get no mail hear of it at RCPT; the others get theirs."""

from __future__ import annotations

from relay.events import Rejected
from relay.listener.conversation import ERROR_LIMIT
from relay.listener.intake import Intake
from relay.outcome import Reply
from relay.settings import RewriteSettings
from tests.listener.stand_ins import Door, a_door


class Doorkeeper:
    """Keeps ``gone@`` out; notes who is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def refusal(self, address: str) -> Reply | None:
        self.asked.append(address)
        return Reply(550, f"<{address}>: suppressed", "5.1.1") if address.startswith("gone") else None


def keep(door: Door, rewrite: RewriteSettings | None = None) -> Doorkeeper:
    intake = door.listeners._receiver
    assert isinstance(intake, Intake)
    keeper = intake.doorkeeper = Doorkeeper()
    intake.configure(rewrite or RewriteSettings(), ())
    return keeper


async def test_one_of_several_is_refused() -> None:
    async with a_door() as door:
        keep(door)
        client = await door.connect()
        await client.ask(b"HELO app\r\n")
        await client.ask(b"MAIL FROM:<a@x.test>\r\n")
        assert await client.ask(b"RCPT TO:<gone@y.test>\r\n") == b"550 5.1.1 <gone@y.test>: suppressed"
        assert (await client.ask(b"RCPT TO:<b@y.test>\r\n")).startswith(b"250 ")
        assert (await client.ask(b"DATA\r\n")).startswith(b"354 ")
        assert (await client.ask(b"Subject: x\r\n\r\n.\r\n")).startswith(b"250 ")
        (arrival,) = door.spool.accepted
        assert [each.address for each in arrival.message.envelope.recipients] == ["b@y.test"]
        rejected = next(event for event in door.events if isinstance(event, Rejected))
        assert (rejected.sender, rejected.recipient) == ("a@x.test", "gone@y.test")


async def test_it_is_the_rewritten_address_that_counts() -> None:
    async with a_door() as door:
        keeper = keep(door, RewriteSettings((("root", "gone@y.test"),), "x.test"))
        client = await door.connect()
        await client.ask(b"HELO app\r\n")
        await client.ask(b"MAIL FROM:<a@x.test>\r\n")
        assert (await client.ask(b"RCPT TO:<root>\r\n")).startswith(b"550 5.1.1 <gone@y.test>")
        assert (await client.ask(b"RCPT TO:<ops>\r\n")).startswith(b"250 ")
        assert keeper.asked == ["gone@y.test", "ops@x.test"]


async def test_a_list_full_of_them_is_no_error_of_the_clients() -> None:
    async with a_door() as door:
        keep(door)
        client = await door.connect()
        await client.ask(b"HELO app\r\n")
        await client.ask(b"MAIL FROM:<a@x.test>\r\n")
        for n in range(ERROR_LIMIT + 5):
            assert (await client.ask(b"RCPT TO:<gone%d@y.test>\r\n" % n)).startswith(b"550 ")
        # None is left: said at DATA (RFC 5321 §3.3), and the session goes on.
        assert (await client.ask(b"DATA\r\n"))[:3] in {b"503", b"554"}
        assert (await client.ask(b"NOOP\r\n")).startswith(b"250 ")
