from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from relay.events import Event, Rejected
from relay.http.neighbours import Unanswered
from relay.http.submitting import Submitting
from relay.mail import Client, Envelope
from relay.outcome import Reply

TAKEN = Reply(250, "Ok: queued as 1A2B3C4D", "2.0.0")
MESSAGE = b"From: A <a@x.test>\r\nTo: b@y.test\r\nCc: C <c@y.test>, b@y.test\r\n\r\nhello\r\n"


class Desk:
    """A receiver that remembers, and says what it is told to."""

    def __init__(self, reply: Reply = TAKEN, room: Reply | None = None) -> None:
        self.reply = reply
        self.room = room
        self.envelopes: list[Envelope] = []
        self.clients: list[Client] = []
        self.content = b""
        self.discarded = 0
        self.events: list[Event] = []
        self.submitting = Submitting(self, self.events.append, lambda: 100.0, 10_000, 3)

    def check_room(self, size: int, client: Client) -> Reply | None:
        del size, client
        return self.room

    def check_recipient(self, address: str) -> Reply | None:
        return Reply(550, "Error: recipient suppressed", "5.1.1") if address.startswith("gone") else None

    def open_content(self, envelope: Envelope, client: Client) -> Desk:
        self.envelopes.append(envelope)
        self.clients.append(client)
        return self

    async def write(self, octets: bytes) -> None:
        self.content += octets

    async def finish(self) -> Reply:
        return self.reply

    async def discard(self) -> None:
        self.discarded += 1

    async def submit(
        self, *pieces: bytes, query: str = "", kind: str = "message/rfc822", leaves: bool = False, **fields: str
    ) -> Response:
        given = [(b"content-type", kind.encode())]
        given += [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
        messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
        ]
        messages.append({"type": "http.disconnect"} if leaves else {"type": "http.request", "body": b""})

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        scope = {"type": "http", "method": "POST", "query_string": query.encode(), "headers": given}
        return await self.submitting.submit(Request({**scope, "client": ("127.0.0.1", 5)}, receive))

    @property
    def recipients(self) -> Sequence[str]:
        return [recipient.address for recipient in self.envelopes[0].recipients]


async def test_the_envelope_is_of_the_header_and_nobody_twice() -> None:
    desk = Desk()
    answer = await desk.submit(MESSAGE)
    assert (answer.status_code, json.loads(bytes(answer.body))) == (202, {"id": "1A2B3C4D"})
    assert desk.envelopes[0].sender == "a@x.test"
    assert desk.recipients == ["b@y.test", "c@y.test"]
    assert not desk.envelopes[0].smtputf8
    assert desk.content == MESSAGE
    assert (str(desk.clients[0]), desk.clients[0].listener) == ("localhost[127.0.0.1]", "http")
    assert not desk.discarded


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_it_is_the_same_in_any_pieces_and_with_any_line_ends(size: int) -> None:
    for line_end in (b"\n", b"\r", b"\r\n"):
        given = MESSAGE.replace(b"\r\n", line_end)
        desk = Desk()
        await desk.submit(*(given[at : at + size] for at in range(0, len(given), size)), idempotency_key="one two")
        assert desk.content == b"Idempotency-Key: one two\r\n" + MESSAGE
        assert desk.recipients == ["b@y.test", "c@y.test"]


async def test_resent_fields_go_before_the_others() -> None:
    desk = Desk()
    await desk.submit(b"Resent-From: r@x.test\r\nResent-To: s@y.test\r\n" + MESSAGE)
    assert (desk.envelopes[0].sender, desk.recipients) == ("r@x.test", ["s@y.test"])
    desk = Desk()
    await desk.submit(b"Sender: s@x.test\r\n" + MESSAGE)
    assert desk.envelopes[0].sender == "s@x.test"


async def test_the_query_goes_before_the_header() -> None:
    desk = Desk()
    await desk.submit(MESSAGE, query="sender=%3C%3E&recipient=z@y.test&recipient=%3Cz@y.test%3E")
    assert (desk.envelopes[0].sender, desk.recipients) == ("", ["z@y.test"])
    desk = Desk()
    await desk.submit("Subject: Grüße\r\n\r\n".encode(), query="sender=a@x.test&recipient=z@y.test")
    assert desk.envelopes[0].smtputf8


async def test_json_is_the_same_message_by_another_way() -> None:
    desk = Desk()
    body = {"from": "A <a@x.test>", "to": "b@y.test", "bcc": ["c@y.test"], "text": "hello"}
    answer = await desk.submit(json.dumps(body).encode(), kind="application/json; charset=utf-8")
    assert answer.status_code == 202
    assert desk.recipients == ["b@y.test", "c@y.test"]
    assert b"c@y.test" not in desk.content


async def test_all_recipients_are_taken_or_none() -> None:
    desk = Desk()
    answer = await desk.submit(MESSAGE, query="recipient=b@y.test&recipient=gone@y.test")
    assert answer.status_code == 422
    (refused,) = json.loads(bytes(answer.body))["refused"]
    assert refused == {"address": "gone@y.test", "reply": "550 5.1.1 Error: recipient suppressed"}
    assert not desk.envelopes
    (event,) = desk.events
    assert isinstance(event, Rejected)
    assert (event.command, event.recipient) == ("POST", "gone@y.test")


@pytest.mark.parametrize(
    ("reply", "status", "wait"),
    [
        (Reply(452, "Error: insufficient system storage", "4.3.1"), 503, "30"),
        (Reply(451, "Error: queue file write error", "4.3.0"), 503, "30"),
        (Reply(452, "Error: no more than 5/hour from you; try again in 77 s, at 12:00", "4.7.1"), 429, "77"),
        (Reply(552, "Error: message header too large", "5.3.4"), 413, None),
        (Reply(554, "Error: too many hops", "5.4.6"), 422, None),
    ],
)
async def test_a_reply_becomes_a_status(reply: Reply, status: int, wait: str | None) -> None:
    for desk in (Desk(reply), Desk(room=reply)):
        answer = await desk.submit(MESSAGE)
        assert (answer.status_code, answer.headers.get("retry-after")) == (status, wait)
        assert json.loads(bytes(answer.body))["reply"] == str(reply)
        assert [type(event) for event in desk.events] == [Rejected]


async def test_what_does_not_come_to_its_end_is_forgotten() -> None:
    desk = Desk()
    with pytest.raises(ClientDisconnect):
        await desk.submit(MESSAGE, b"more", leaves=True)
    assert desk.discarded == 1
    desk = Desk()
    with pytest.raises(Unanswered) as caught:
        await desk.submit(MESSAGE, b"x" * 6000, b"x" * 6000)
    assert (caught.value.status, desk.discarded) == (413, 1)
    desk = Desk()
    with pytest.raises(ClientDisconnect):
        await desk.submit(b"From: a@x", leaves=True)
    assert not desk.envelopes


async def test_nothing_is_begun_once_the_relay_is_on_its_way_down() -> None:
    desk = Desk()
    desk.submitting.close()
    with pytest.raises(Unanswered, match="stopped") as caught:
        await desk.submit(MESSAGE)
    assert caught.value.status == 503
