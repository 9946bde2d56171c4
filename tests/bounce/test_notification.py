"""What a notification says, read as a mail program and a bounce processor read it: by the standard library's parser."""

from __future__ import annotations

from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.message import Message as ParsedMessage
from email.utils import parsedate_to_datetime
from typing import Any, cast

import pytest

from relay.bounce import RETURNED_AT_MOST, RecipientReport, Written, wants, write
from relay.events import Notification
from relay.mail import Body, Envelope, Message, Recipient
from relay.outcome import Command, Outcome, Reply, Scope, Verdict, classify, lost, unavailable

ARRIVED = 1_800_000_000.0
NOW = ARRIVED + 14_400
CONTENT = b"From: <a@x.test>\r\nMessage-ID: <1@x.test>\r\nSubject: caf\r\n\r\nthe body\r\n"
REFUSED = classify(Reply(550, "no such user", "5.1.1"), Command.RCPT, host="up[192.0.2.1]")
LATER = unavailable("connect to up[192.0.2.1]:25: Connection refused")
TAKEN = classify(Reply(250, "Ok: queued as 4711", "2.0.0"), Command.CONTENT)
RECIPIENT = Recipient(0, "b@y.test")


def original(content: bytes = CONTENT, *, number: int = 0x1A2B3C4D, **envelope: Any) -> Message:
    given = {"sender": "a@x.test", "recipients": (RECIPIENT,), **envelope}
    return Message(number, Envelope(**given), len(content), ARRIVED, "<1@x.test>", "localhost[127.0.0.1]")


def report(
    outcome: Outcome = REFUSED, relay: str = "up[192.0.2.1]:25", at: float | None = NOW, **recipient: Any
) -> RecipientReport:
    return RecipientReport(replace(RECIPIENT, **recipient), outcome, relay, at)


def written(
    *reports: RecipientReport,
    kind: Notification = Notification.FAILURE,
    message: Message | None = None,
    content: bytes = CONTENT,
    until: float | None = None,
) -> Written:
    return write(
        kind,
        message or original(content),
        content,
        reports or (report(),),
        reporter="relay.test",
        queue_id="DEADBEEF",
        now=NOW,
        until=until,
    )


def parsed(notification: Written) -> EmailMessage:
    message = message_from_bytes(notification.octets, policy=policy.SMTP)
    assert not message.defects
    for part in message.walk():
        assert not part.defects
    return message


def parts(notification: Written) -> list[EmailMessage]:
    return list(cast("Any", parsed(notification).iter_parts()))


def blocks(notification: Written) -> list[ParsedMessage]:
    """The groups of fields of the delivery status: of the message, then of each recipient."""
    return cast("list[ParsedMessage]", parts(notification)[1].get_payload())


def text(notification: Written) -> str:
    return " ".join(parts(notification)[0].get_content().split())


def test_the_header_is_a_reports() -> None:
    message = parsed(written())
    assert message["To"] == "a@x.test"
    assert message["From"] == "Mail Delivery System <MAILER-DAEMON@relay.test>"
    assert message["Subject"] == "Undelivered Mail Returned to Sender"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["Message-ID"] == f"<DEADBEEF.{NOW:.0f}@relay.test>" == written().message_id
    assert message["In-Reply-To"] == message["References"] == "<1@x.test>"
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert [part.get_content_type() for part in parts(written())] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]


def test_no_reference_is_made_to_an_id_that_is_none() -> None:
    message = replace(original(), message_id="<a b>\r\nX: y")
    assert parsed(written(message=message))["In-Reply-To"] is None


def test_a_failures_fields() -> None:
    message = original(envid="QQ+2B314+2D15")
    told = written(report(orcpt="rfc822;b+2Bc@y.test"), message=message)
    of_message, of_recipient = blocks(told)
    assert of_message["Reporting-MTA"] == "dns; relay.test"
    assert of_message["Original-Envelope-Id"] == "QQ+314-15"
    assert of_message["X-Relay-Queue-ID"] == "1A2B3C4D"
    assert parsedate_to_datetime(of_message["Arrival-Date"]).timestamp() == ARRIVED
    assert of_recipient["Original-Recipient"] == "rfc822; b+c@y.test"
    assert of_recipient["Final-Recipient"] == "rfc822; b@y.test"
    assert of_recipient["Action"] == "failed"
    assert of_recipient["Status"] == "5.1.1"
    assert of_recipient["Remote-MTA"] == "dns; [192.0.2.1]"
    assert of_recipient["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user"
    assert parsedate_to_datetime(of_recipient["Last-Attempt-Date"]).timestamp() == NOW
    assert of_recipient["Will-Retry-Until"] is None


def test_a_delays_fields() -> None:
    told = written(report(LATER, "none", None), kind=Notification.DELAY, until=NOW + 3600)
    assert parsed(told)["Subject"] == "Delayed Mail (still being retried)"
    of_recipient = blocks(told)[1]
    assert of_recipient["Action"] == "delayed"
    assert of_recipient["Status"] == "4.4.1"
    assert parsedate_to_datetime(of_recipient["Will-Retry-Until"]).timestamp() == NOW + 3600
    assert of_recipient["Diagnostic-Code"] == "X-Relay; connect to up[192.0.2.1]:25: Connection refused"
    assert of_recipient["Remote-MTA"] is None
    assert of_recipient["Last-Attempt-Date"] is None
    assert "WARNING ONLY" in text(told)


def test_a_success_is_relayed_not_delivered() -> None:
    """RFC 3464 §2.3.3: we can't know of delivery."""
    told = written(report(TAKEN), kind=Notification.SUCCESS)
    assert blocks(told)[1]["Action"] == "relayed"
    assert blocks(told)[1]["Status"] == "2.0.0"
    assert blocks(told)[1]["Diagnostic-Code"] == "smtp; 250 2.0.0 Ok: queued as 4711"
    assert "does not notify of delivery" in text(told)


def test_in_doubt_is_told_apart_from_what_surely_failed() -> None:
    doubtful = replace(lost("lost connection", host="up", in_doubt=True), verdict=Verdict.FAILED, dsn="5.4.0")
    told = text(written(report(), report(doubtful, n=1, address="c@y.test")))
    sure, doubt = told.index("could not be relayed"), told.index("It may have arrived")
    assert sure < told.index("<b@y.test>") < doubt < told.index("<c@y.test>")
    assert "could not be relayed" not in text(written(report(doubtful)))


def test_each_recipient_has_its_own_fields() -> None:
    told = blocks(written(report(), report(n=1, address="c@y.test"), report(n=2, address="d@y.test")))
    assert [block["Final-Recipient"] for block in told[1:]] == [f"rfc822; {n}@y.test" for n in "bcd"]


@pytest.mark.parametrize(
    ("relay", "mta"),
    [
        ("up[2001:db8::1]:25", "dns; [IPv6:2001:db8::1]"),
        ("up[simulator]:25", "dns; simulator"),
        ("up[smtp.example.com]:25", "dns; smtp.example.com"),
    ],
)
def test_the_remote_mta_is_a_name_or_a_literal(relay: str, mta: str) -> None:
    assert blocks(written(report(relay=relay)))[1]["Remote-MTA"] == mta


@pytest.mark.parametrize("hidden", ["rfc822;b+0D+0AX-Evil:+20yes@y.test", "rfc822;b+00@y.test"])
def test_nothing_hidden_in_xtext_becomes_a_line(hidden: str) -> None:
    (block,) = blocks(written(report(orcpt=hidden)))[1:]
    assert block["X-Evil"] is None
    assert block["Original-Recipient"] == hidden.replace(";", "; ", 1)
    of_message = blocks(written(message=original(envid="a+0D+0AX-Evil:+20yes")))[0]
    assert of_message["Original-Envelope-Id"] == "a+0D+0AX-Evil:+20yes"


# -- RET ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("ret", [None, "HDRS"])
def test_the_header_alone_comes_back_unless_all_was_asked_for(ret: str | None) -> None:
    returned = parts(written(message=original(ret=ret)))[2]
    assert returned.get_content_type() == "text/rfc822-headers"
    assert returned.get_content().splitlines() == CONTENT.decode().partition("\r\n\r\n")[0].splitlines()


def test_all_comes_back_where_it_was_asked_for() -> None:
    told = written(message=original(ret="full"))
    returned = parts(told)[2]
    assert returned.get_content_type() == "message/rfc822"
    assert returned.get_payload(0).as_bytes(policy=policy.SMTP) == CONTENT  # type: ignore[union-attr]
    assert CONTENT in told.octets


def test_a_large_message_does_not_come_back_whole() -> None:
    large = CONTENT + b"x" * RETURNED_AT_MOST
    assert parts(written(message=original(large, ret="FULL"), content=large))[2].get_content_type() == (
        "text/rfc822-headers"
    )


def test_what_could_not_be_read_does_not_come_back_half() -> None:
    returned = parts(written(message=original(ret="FULL"), content=CONTENT[:40]))[2]
    assert returned.get_content_type() == "text/rfc822-headers"
    assert returned.get_content().splitlines() == ["From: <a@x.test>"]


@pytest.mark.parametrize("kind", [Notification.DELAY, Notification.SUCCESS])
def test_what_did_not_fail_does_not_come_back_whole(kind: Notification) -> None:
    """RFC 3461 §4.3: RET is for failures."""
    told = written(report(LATER), kind=kind, message=original(ret="FULL"))
    assert parts(told)[2].get_content_type() == "text/rfc822-headers"


# -- beyond ASCII ---------------------------------------------------------------------------------------------------
def test_a_mail_without_smtputf8_is_told_of_in_ascii() -> None:
    content = "Subject: café\r\n\r\n".encode()
    reply = Outcome(Verdict.FAILED, Scope.RECIPIENT, "5.1.1", "said: 550 né", Reply(550, "né", "5.1.1"))
    told = written(report(reply), message=original(content, body=Body.EIGHT_BIT), content=content)
    assert told.octets.isascii()
    assert (told.body, told.smtputf8) == (Body.SEVEN_BIT, False)
    assert "said: 550 né" in text(told)
    assert blocks(told)[1]["Diagnostic-Code"] == "smtp; 550 5.1.1 n?"
    assert parts(told)[2].get_payload(decode=True).replace(b"\r\n", b"\n") == b"Subject: caf\xc3\xa9\n"  # type: ignore[union-attr]


def test_eight_bits_that_come_back_are_declared_as_they_were() -> None:
    content = "Subject: x\r\n\r\ncafé\r\n".encode()
    told = written(message=original(content, ret="FULL", body=Body.EIGHT_BIT), content=content)
    assert told.body is Body.EIGHT_BIT
    assert parsed(told)["Content-Transfer-Encoding"] == "8bit"
    assert content in told.octets


def test_under_smtputf8_the_forms_of_rfc_6533_are_used() -> None:
    content = "From: ä@x.test\r\nSubject: café\r\n\r\n".encode()
    message = original(content, sender="ä@x.test", smtputf8=True)
    told = written(report(address="ü@y.test", orcpt="utf-8;ü+2Bx@y.test"), message=message, content=content)
    assert told.smtputf8
    assert told.body is Body.EIGHT_BIT
    for line in (
        "To: ä@x.test",
        "Content-Type: message/global-delivery-status",
        "Content-Type: message/global-headers",
        "Final-Recipient: utf-8; ü@y.test",
        "Original-Recipient: utf-8; ü+x@y.test",
        "Subject: café",
    ):
        assert f"\r\n{line}\r\n".encode() in told.octets


def test_under_smtputf8_all_comes_back_as_global() -> None:
    content = "From: ä@x.test\r\n\r\ncafé\r\n".encode()
    told = written(message=original(content, smtputf8=True, ret="FULL", body=Body.EIGHT_BIT), content=content)
    assert b"Content-Type: message/global\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + content in told.octets


@pytest.mark.parametrize("wide", [False, True])
def test_no_line_is_longer_than_a_mail_may_hold(wide: bool) -> None:
    endless = "ü" * 3000 if wide else "u" * 3000
    reply = Outcome(Verdict.FAILED, Scope.RECIPIENT, "5.0.0", endless, Reply(550, endless))
    told = written(report(reply), message=original(smtputf8=wide))
    assert max(len(line) for line in told.octets.split(b"\r\n")) <= 998
    assert told.octets.replace(b"\r\n", b"").count(b"\n") == told.octets.replace(b"\r\n", b"").count(b"\r") == 0


# -- who is told ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("notify", "told"),
    [
        (None, {Notification.FAILURE, Notification.DELAY}),
        ("NEVER", set()),
        ("success", {Notification.SUCCESS}),
        ("FAILURE", {Notification.FAILURE}),
        ("DELAY,SUCCESS", {Notification.DELAY, Notification.SUCCESS}),
    ],
)
def test_notify_decides_who_is_told_of_what(notify: str | None, told: set[Notification]) -> None:
    recipient = replace(RECIPIENT, notify=notify)
    assert {kind for kind in Notification if wants(kind, original().envelope, recipient)} == told
    assert not any(wants(kind, original(sender="").envelope, recipient) for kind in Notification)
