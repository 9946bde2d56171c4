from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from relay.feedback import Feedback, Said, Unbelievable
from relay.feedback.sparkpost import is_believed, read_events
from relay.settings import FeedbackSettings, Secret


def batch(**event: Any) -> str:
    about = {"rcpt_to": "recipient@example.com", "friendly_from": "Sender <sender@example.com>", "bounce_class": "1"}
    return json.dumps([{"msys": {"message_event": about | event}}])


def test_complaints() -> None:
    text = batch(type="spam_complaint", fbtype="abuse", report_by="server.email.com")
    assert read_events(text, "sp") == [
        Feedback(
            Said.COMPLAINT,
            "recipient@example.com",
            "sp",
            "sender@example.com",
            detail="complaint abuse, server.email.com",
        )
    ]


@pytest.mark.parametrize(
    ("kind", "bounce_class", "reason", "hard"),
    [
        ("bounce", "10", "550 unknown", True),
        ("bounce", 10, "550 unknown", True),
        ("bounce", "30", "550 no", True),
        ("out_of_band", "90", "no more", True),
        ("bounce", "1", "550 5.1.1 unknown user", True),
        ("bounce", "50", "550 5.7.1 spam", False),
        ("bounce", "22", "452 4.2.2 mailbox full", False),
    ],
)
def test_bounces(kind: str, bounce_class: object, reason: str, *, hard: bool) -> None:
    (said,) = read_events(batch(type=kind, bounce_class=bounce_class, raw_reason=reason))
    assert (said.said, said.hard) == (Said.BOUNCE, hard)
    assert said.detail == f"bounce of class {bounce_class}: {reason}"


@pytest.mark.parametrize("kind", ["delivery", "injection", "delay", "policy_rejection", None])
def test_the_rest_says_nothing(kind: str | None) -> None:
    assert read_events(batch(type=kind)) == []


def test_the_ping_of_a_new_webhook_and_other_families_say_nothing() -> None:
    assert read_events('[{"msys": {}}, {"msys": {"track_event": {"type": "open"}}}]') == []
    assert read_events(batch(type="spam_complaint", rcpt_to="none")) == []


@pytest.mark.parametrize("text", ["", "{}", "[3]", '[{"a": 1}]', "[" * 100_000, json.dumps([{}] * 10_001)])
def test_what_is_no_batch(text: str) -> None:
    with pytest.raises(Unbelievable):
        read_events(text)


def basic(text: str) -> str:
    return f"Basic {b64encode(text.encode()).decode()}"


BY_USER = FeedbackSettings("sp", "sparkpost", username="hook", password=Secret("geheim:1"))
BY_TOKEN = FeedbackSettings("sp", "sparkpost", token=Secret("t0ken"))


@pytest.mark.parametrize(
    ("settings", "fields", "believed"),
    [
        (BY_USER, {"authorization": basic("hook:geheim:1")}, True),
        (BY_USER, {"authorization": basic("hook:geheim")}, False),
        (BY_USER, {"authorization": "Basic ???"}, False),
        (BY_USER, {"authorization": "Basic w7/Dvw=="}, False),
        (BY_USER, {"authorization": "Basic /w=="}, False),
        (BY_USER, {"authorization": "Bearer None"}, False),
        (BY_USER, {}, False),
        (BY_TOKEN, {"x-messagesystems-webhook-token": "t0ken"}, True),
        (BY_TOKEN, {"authorization": "Bearer t0ken"}, True),
        (BY_TOKEN, {"authorization": "Bearer t0ke"}, False),
        (BY_TOKEN, {"authorization": "Basic t0ken"}, False),
        (BY_TOKEN, {"authorization": basic("None:None")}, False),
        (BY_TOKEN, {"x-messagesystems-webhook-token": "\udcff"}, False),
        (FeedbackSettings("sp", "sparkpost"), {"authorization": basic("None:None")}, False),
        (FeedbackSettings("sp", "sparkpost"), {}, False),
    ],
)
def test_who_is_believed(settings: FeedbackSettings, fields: dict[str, str], *, believed: bool) -> None:
    assert is_believed(settings, fields) is believed
