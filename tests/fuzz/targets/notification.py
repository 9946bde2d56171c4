"""Delivery status notifications of odd mail, odd addresses and odd replies: Python's parser finds the three parts."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import Message as ParsedMessage

from relay.bounce import RecipientReport, write
from relay.events import Notification
from relay.mail import Body, Envelope, Message, Recipient
from relay.outcome import Command, Reply, classify, lost, parse_reply
from relay.smtp.arguments import parse_mail, parse_rcpt
from relay.smtp.lineends import are_whole, normalised
from tests.fuzz.supply import Supply

SEEDS = (
    b"b@y.test> NOTIFY=FAILURE ORCPT=rfc822;b+2By\na@x.test> RET=FULL ENVID=q\n5.1.1 no user\nSubject: x\n\nbody\n",
    "ü@y.test> ORCPT=utf-8;ü@y\nü@x.test> SMTPUTF8 BODY=8BITMIME\nkein Postfach für ü\nSubject: ü\n\nü\n".encode()
    + b"\x01\x01\x02",
    b"b@y.test>\n>\nx\n\xff\xfe\n\n" + b"\x02\x00\x01",
    b"b@y.test>\na@x.test>\n" + b"long " * 60 + b"\nSubject: x\n y\n",
)


def check(octets: bytes) -> None:
    supply = Supply(octets)
    kind = tuple(Notification)[supply.number(3)]
    smtputf8 = supply.choice()
    code = (250, 450, 550)[supply.number(3)]
    rcpt = parse_rcpt("TO:<" + supply.line().decode("utf-8", "surrogateescape"), smtputf8=smtputf8)
    mail = parse_mail("FROM:<" + supply.line().decode("utf-8", "surrogateescape"))
    if isinstance(rcpt, Reply) or isinstance(mail, Reply) or not mail.address:
        return
    reply = parse_reply(code, [supply.line().decode("utf-8", "replace")])
    content = normalised(supply.rest())
    body = mail.body if content.isascii() else Body.EIGHT_BIT
    recipient = Recipient(0, rcpt.address, rcpt.notify, rcpt.orcpt)
    envelope = Envelope(mail.address, (recipient,), body, mail.smtputf8 or smtputf8, mail.ret, mail.envid)
    message = Message(0x1A2B3C, envelope, len(content), 1.7e9, "<1@x.test>", "localhost[127.0.0.1]")
    outcome = classify(reply, Command.RCPT, host="up[192.0.2.1]")
    reports = [
        RecipientReport(recipient, outcome, "up[192.0.2.1]:25", 1.7e9),
        RecipientReport(recipient, lost("lost connection", host="up[192.0.2.1]", in_doubt=True), "none", None),
    ]
    made = write(kind, message, content, reports, reporter="relay.test", queue_id="DEADBEEF", now=1.7e9, until=1.8e9)
    assert are_whole(made.octets)
    assert made.body is Body.EIGHT_BIT or made.octets.isascii() or made.smtputf8
    if b"DEADBEEF." in content:
        return
    theirs = set(content.split(b"\r\n"))
    assert all(len(line) <= 998 or line in theirs for line in made.octets.split(b"\r\n"))
    parsed = message_from_bytes(made.octets, policy=policy.compat32)
    assert parsed.get_content_type() == "multipart/report"
    parts = parsed.get_payload()
    assert isinstance(parts, list)
    types = [part.get_content_type() for part in parts if isinstance(part, ParsedMessage)]
    status = "message/global-delivery-status" if envelope.smtputf8 else "message/delivery-status"
    assert len(types) == 3
    assert types[:2] == ["text/plain", status]
