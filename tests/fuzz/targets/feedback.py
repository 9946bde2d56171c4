"""Abuse reports, providers' notifications and suppression lists: understood or refused, never an address with a control
character or words that break a line.
"""

from __future__ import annotations

import json
import re

from relay.feedback import Feedback, Unbelievable
from relay.feedback.arf import read_report
from relay.feedback.lists import NoList, read_list
from relay.feedback.ses import read_notification
from relay.feedback.sns import read_message
from relay.feedback.sparkpost import read_events
from tests.fuzz.supply import Supply

_REPORT = (
    b'Content-Type: multipart/report; boundary="b"\n\n--b\n'
    b"Content-Type: message/feedback-report\n\nFeedback-Type: abuse\n"
    b"Original-Rcpt-To: <b@y.test>\nOriginal-Mail-From: <a@x.test>\nUser-Agent: x\n\n--b\n"
    b"Content-Type: message/rfc822\n\nReceived: from a by relay.test (relay) with ESMTP id 1A2B3C4D5E6F\n"
    b"From: A <a@x.test>\nTo: b@y.test\n\nbody\n--b--\n"
)
_BOUNCE = {
    "notificationType": "Bounce",
    "mail": {
        "source": "a@x.test",
        "headers": [{"name": "Received", "value": "by r (relay) with ESMTP id 1A2B3C4D5E6F"}],
    },
    "bounce": {
        "bounceType": "Permanent",
        "bounceSubType": "General",
        "bouncedRecipients": [{"emailAddress": "b@y.test", "status": "5.1.1", "diagnosticCode": "smtp; 550 no"}],
    },
}
_EVENT = {
    "type": "bounce",
    "rcpt_to": "b@y.test",
    "friendly_from": "a@x.test",
    "bounce_class": "10",
    "raw_reason": "550",
}
_SNS = {
    "Type": "Notification",
    "MessageId": "1",
    "TopicArn": "arn:aws:sns:eu-west-1:1:t",
    "Message": "{}",
    "Timestamp": "2026-11-22T00:00:00.000Z",
    "SignatureVersion": "2",
    "Signature": "c2ln",
    "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/a.pem",
}
SEEDS = (
    _REPORT + b"\0",
    _REPORT.replace(b"<b@y.test>", b"(" * 1200) + b"\0",
    _REPORT.replace(b"<b@y.test>", b"=?utf-8?q?=0d=0a?= \xff<b@y.test>") + b"\0",
    json.dumps(_BOUNCE).encode() + b"\1",
    json.dumps([{"msys": {"message_event": _EVENT}}]).encode() + b"\2",
    json.dumps(_SNS).encode() + b"\3",
    b'email,reason\nb@y.test,bounced\n\x00"x\ny",z\n\4',
    b'{"SuppressedDestinationSummaries": [{"EmailAddress": "b@y.test", "Reason": "BOUNCE"}]}\4',
    b'{"SuppressedDestinationSummaries": [{"EmailAddress":""}]}\4',
    b"# by hand\nb@y.test\n\4",
)


def check(octets: bytes) -> None:
    supply = Supply(octets)
    kind = supply.number(5)
    rest = supply.rest()
    text = rest.decode("utf-8", "replace")
    try:
        if kind == 3:
            message = read_message(rest)
            assert re.match(r"https://sns\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/", message.certificate_url, re.IGNORECASE)
            return
        if kind == 4:
            for listed in read_list(text):
                assert listed.address.strip()
                _is_one_line(listed.detail)
            return
        found = read_report(rest) if kind == 0 else read_notification(text) if kind == 1 else read_events(text)
    except (Unbelievable, NoList):
        return
    for feedback in found:
        _is_sound(feedback)


def _is_sound(feedback: Feedback) -> None:
    for address in (feedback.recipient, feedback.sender):
        assert address.isprintable()
        assert " " not in address
        assert len(address) <= 320
    assert "@" in feedback.recipient
    assert re.fullmatch(r"[0-9A-F]{6,15}|", feedback.queue_id)
    _is_one_line(feedback.detail)


def _is_one_line(words: str) -> None:
    assert words.isprintable()
    assert len(words) < 1000
