from __future__ import annotations

import json
from typing import Any

import pytest

from relay.feedback import Feedback, Said, Unbelievable
from relay.feedback.ses import read_notification

# Amazon SES Developer Guide, "Notification examples", with the header that its "original headers" add.
MAIL = {
    "timestamp": "2016-01-27T14:59:38.237Z",
    "messageId": "00000138111222aa-33322211-cccc-cccc-cccc-ddddaaaa0680-000000",
    "source": "john@example.com",
    "destination": ["jane@example.com"],
    "headersTruncated": False,
    "headers": [
        {"name": "From", "value": '"John Doe" <john@example.com>'},
        {
            "name": "Received",
            "value": "from app (localhost [127.0.0.1]) by relay.example.com (relay) with ESMTP id 1A2B3C4D5E6F; today",
        },
    ],
}


def bounce(kind: str, part: str, status: str | None) -> dict[str, Any]:
    recipient = {"emailAddress": "jane@example.com", "action": "failed", "diagnosticCode": "smtp; 550 no"}
    return {
        "notificationType": "Bounce",
        "mail": MAIL,
        "bounce": {
            "bounceType": kind,
            "bounceSubType": part,
            "bouncedRecipients": [recipient | ({} if status is None else {"status": status})],
        },
    }


@pytest.mark.parametrize(
    ("kind", "part", "status", "hard"),
    [
        ("Permanent", "General", "5.1.1", True),
        ("Permanent", "General", "5.7.1", False),
        ("Permanent", "General", None, False),
        ("Permanent", "NoEmail", None, True),
        ("Permanent", "OnAccountSuppressionList", None, True),
        ("Transient", "MailboxFull", "5.2.2", False),
        ("Transient", "General", "5.1.1", False),
        ("Undetermined", "Undetermined", None, False),
    ],
)
def test_bounces(kind: str, part: str, status: str | None, *, hard: bool) -> None:
    assert read_notification(json.dumps(bounce(kind, part, status))) == [
        Feedback(
            Said.BOUNCE,
            "jane@example.com",
            "ses",
            "john@example.com",
            "1A2B3C4D5E6F",
            hard=hard,
            detail=f"bounce {kind}/{part}: smtp; 550 no",
        )
    ]


@pytest.mark.parametrize("key", ["notificationType", "eventType"])
def test_complaints(key: str) -> None:
    complaint = {
        "userAgent": "AnyCompany Feedback Loop (V0.01)",
        "complainedRecipients": [{"emailAddress": "richard@example.com"}, {"emailAddress": "no address"}],
        "complaintFeedbackType": "abuse",
        "feedbackId": "000001378603177f-18c07c78-fa81-4a58-9dd1-fedc3cb8f49a-000000",
    }
    text = json.dumps({key: "Complaint", "mail": {"source": "john@example.com"}, "complaint": complaint})
    assert read_notification(text, "eu") == [
        Feedback(
            Said.COMPLAINT,
            "richard@example.com",
            "eu",
            "john@example.com",
            detail="complaint abuse, AnyCompany Feedback Loop (V0.01)",
        )
    ]


@pytest.mark.parametrize("kind", ["Delivery", "Send", "Open", "DeliveryDelay"])
def test_the_rest_says_nothing(kind: str) -> None:
    assert read_notification(json.dumps({"eventType": kind, "mail": MAIL})) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", "hello", '{"notificationType": 3}', "[" * 100_000])
def test_what_is_none_of_ses(text: str) -> None:
    with pytest.raises(Unbelievable):
        read_notification(text)


@pytest.mark.parametrize("value", [None, 3, "x", [], ["x"], [{"emailAddress": 3}], {"a": 1}])
@pytest.mark.parametrize("key", ["mail", "bounce", "complaint", "bouncedRecipients", "headers"])
def test_odd_values_break_nothing(key: str, value: Any) -> None:
    for kind in ("Bounce", "Complaint"):
        text = {"notificationType": kind, "mail": dict(MAIL), "bounce": {}, "complaint": {}, key: value}
        if key == "bouncedRecipients":
            text["bounce"] = {key: value}
        if key == "headers":
            text["mail"] = {key: value}
        assert read_notification(json.dumps(text)) == []
