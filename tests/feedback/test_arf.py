from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.feedback import Feedback, Said, Unbelievable
from relay.feedback.arf import REPORT_MOST, address_in, read_report
from relay.smtp.complaint import feedback_report

ORIGINAL = (
    b"Received: from app (localhost [127.0.0.1])\r\n\tby relay.example.com (relay) with ESMTP id 1A2B3C4D5E6F\r\n"
    b"\tfor <b@y.example>;\r\n\tSun, 22 Nov 2026 08:00:00 +0000\r\n"
    b"From: News <news@x.example>\r\nTo: b@y.example\r\nSubject: hello\r\n\r\nbody\r\n"
)

# RFC 5965, appendix B.2, shortened; folded and spelled as a provider does.
PROVIDERS = b"""From: <abusedesk@example.com>\r
Date: Thu, 8 Mar 2005 17:40:36 EDT\r
Subject: FW: Earn money\r
To: <abuse@example.net>\r
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=feedback-report;\r
\tboundary="part1_13d.2e68ed54_boundary"\r
\r
--part1_13d.2e68ed54_boundary\r
Content-Type: text/plain; charset="US-ASCII"\r
\r
This is an email abuse report.\r
--part1_13d.2e68ed54_boundary\r
Content-Type: message/feedback-report\r
\r
Feedback-Type: abuse\r
User-Agent: SomeGenerator/1.0\r
Version: 1\r
Original-Mail-From: <somespammer@example.net>\r
Original-Rcpt-To: <user@example.com>\r
Original-Rcpt-To: <other@example.com>\r
Reporting-MTA: dns; mail.example.com\r
\r
--part1_13d.2e68ed54_boundary\r
Content-Type: message/rfc822\r
Content-Disposition: inline\r
\r
From: <somespammer@example.net>\r
Received: from mailserver.example.net (mailserver.example.net\r
\t[192.0.2.1]) by example.com with ESMTP id M63d4137594e46;\r
\tThu, 08 Mar 2005 14:00:00 -0400\r
To: <Undisclosed Recipients>\r
Subject: Earn money\r
\r
Spam Spam Spam\r
--part1_13d.2e68ed54_boundary--\r
"""


def test_what_the_simulator_reports_is_understood() -> None:
    report = feedback_report(ORIGINAL, sender="n@x.example", recipient="b@y.example", reporter="sim", now=1.8e9)
    complaint = Feedback(
        Said.COMPLAINT, "b@y.example", "arf", "n@x.example", "1A2B3C4D5E6F", detail="feedback-type abuse, sim"
    )
    assert read_report(report) == [complaint]


def test_a_providers_report_names_each_recipient() -> None:
    first, second = read_report(PROVIDERS, "gmx")
    assert (first.recipient, second.recipient) == ("user@example.com", "other@example.com")
    assert (first.sender, first.queue_id, first.provider) == ("somespammer@example.net", "", "gmx")


def test_where_the_recipient_is_hidden_the_originals_tells() -> None:
    report = feedback_report(ORIGINAL, sender="n@x.example", recipient="b@y.example", reporter="sim", now=1.8e9)
    hidden = report.replace(b"Original-Rcpt-To: <b@y.example>\r\n", b"")
    assert [each.recipient for each in read_report(hidden)] == ["b@y.example"]


@pytest.mark.parametrize("kind", [b"not-spam", b"auth-failure", b"dmarc"])
def test_what_is_no_complaint_says_nothing(kind: bytes) -> None:
    assert read_report(PROVIDERS.replace(b"Feedback-Type: abuse", b"Feedback-Type: " + kind)) == []


@pytest.mark.parametrize(
    ("report", "why"),
    [
        (b"", "no report but text/plain"),
        (b"Subject: spam\r\n\r\nstop it\r\n", "no report but text/plain"),
        (PROVIDERS.replace(b"message/feedback-report", b"message/delivery-status"), "no feedback-report in it"),
        (PROVIDERS.replace(b"Feedback-Type: abuse\r\n", b""), "without Feedback-Type"),
        (PROVIDERS + b"x" * REPORT_MOST, "more than"),
        (
            PROVIDERS.replace(
                b"--part1_13d.2e68ed54_boundary\r\nContent-Type: text/plain",
                b"--part1_13d.2e68ed54_boundary\r\n\r\nx\r\n" * 30
                + b"--part1_13d.2e68ed54_boundary\r\nContent-Type: text/plain",
            ),
            "too many parts",
        ),
    ],
)
def test_what_is_no_report_is_not_believed(report: bytes, why: str) -> None:
    with pytest.raises(Unbelievable, match=why):
        read_report(report)


@given(st.binary(max_size=200), st.integers(0, len(PROVIDERS)))
def test_no_octets_break_it(octets: bytes, at: int) -> None:
    try:
        said = read_report(PROVIDERS[:at] + octets + PROVIDERS[at:])
    except Unbelievable:
        return
    assert all(each.recipient.isprintable() and each.detail.isprintable() for each in said)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("<a@b.example>", "a@b.example"),
        ('"A, B" <a@b.example>', "a@b.example"),
        (" a@b.example ", "a@b.example"),
        ("a@b.example" + "x" * 400, ""),
        ("nobody", ""),
        (None, ""),
        ("<a b@c>", ""),
    ],
)
def test_addresses_of_fields(text: str | None, address: str) -> None:
    assert address_in(text) == address
