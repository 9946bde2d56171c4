from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.headers import NO_CONTROLS, Controls, Stamped, Trace, header_end, stamp
from relay.headers.controls import CONTROL_FIELDS
from relay.headers.trace import is_ours
from relay.mail import Priority
from relay.outcome import Reply

TRACE = Trace("app.test", "localhost", "127.0.0.1", "relay.test", "ESMTP", "1A2B3C", "bob@example.org", 1_700_000_000.5)
RECEIVED = (
    b"Received: from app.test (localhost [127.0.0.1])\r\n"
    b"\tby relay.test (relay) with ESMTP id 1A2B3C\r\n"
    b"\tfor <bob@example.org>;\r\n"
    b"\tTue, 14 Nov 2023 22:13:20 +0000\r\n"
)
COMPLETE = b"Message-ID: <x@y>\r\nDate: Thu, 1 Jan 1970 00:00:00 +0000\r\n"


def stamped(octets: bytes, trace: Trace = TRACE, sender: str = "") -> Stamped:
    return stamp(octets, header_end(octets), trace, sender)


def test_a_complete_message_gets_the_received_line_and_no_more() -> None:
    message = COMPLETE + b"Subject: x\r\n\r\nbody\r\n.\r\n"
    assert stamped(message) == Stamped(RECEIVED + message, "<x@y>")
    message = COMPLETE + b"From: a@b\r\nSender: c@d\r\n\r\n"
    assert stamped(message, sender="e@f").octets == RECEIVED + message


def test_message_id_and_date_are_added_where_missing() -> None:
    result = stamped(b"Subject: x\r\n\r\nbody\r\n")
    assert result.octets == (
        RECEIVED + b"Message-ID: <1A2B3C.1700000000@relay.test>\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
        b"Subject: x\r\n\r\nbody\r\n"
    )
    assert result.message_id == "<1A2B3C.1700000000@relay.test>"
    assert result.repairs == ("message-id", "date")


def test_empty_ones_are_replaced() -> None:
    result = stamped(b"Message-Id: \r\nDate:\r\n \r\nSubject: x\r\n\r\nb\r\n")
    assert result.octets.count(b"Message-I") == 1
    assert result.octets.count(b"Date:") == 1
    assert b"Message-ID: <1A2B3C." in result.octets
    assert b"Message-Id: \r\n" not in result.octets
    assert result.octets.endswith(b"Subject: x\r\n\r\nb\r\n")


def test_a_missing_author_is_the_sender() -> None:
    result = stamped(COMPLETE + b"Sender: c@d\r\n\r\nFrom: in the body\r\n", sender='"a b"@x.test')
    assert result.octets == RECEIVED + b'From: "a b"@x.test\r\n' + COMPLETE + (
        b"Sender: c@d\r\n\r\nFrom: in the body\r\n"
    )
    assert result.repairs == ("from",)
    assert stamped(COMPLETE + b"From:\r\n \r\n\r\n", sender="ü@x").octets == (
        RECEIVED + "From: ü@x\r\n".encode() + COMPLETE + b"\r\n"
    )


def test_the_null_sender_is_no_author() -> None:
    for message in (COMPLETE + b"\r\n", COMPLETE + b"From: \r\n\r\n"):
        assert stamped(message) == Stamped(RECEIVED + message, "<x@y>")


def test_what_speaks_to_the_relay_is_taken_out() -> None:
    header = (
        b"X-Relay-Priority: urgent\r\nSubject: x\r\nx-relay-upstream :\r\n ses\r\nX-RELAY-TAG: a b\r\n"
        b'X-Relay-Not-After: Thu, 1 Jan 1970 00:01:00 +0000\r\nIdempotency-Key: "k"\r\n'
    )
    others = b"X-Relay: 1\r\nX-Relay-Tags: 2\r\nX-Idempotency-Key: 3\r\n"
    result = stamped(COMPLETE + header + others + b"\r\nX-Relay-Tag: body\r\n")
    assert result.octets == RECEIVED + COMPLETE + b"Subject: x\r\n" + others + b"\r\nX-Relay-Tag: body\r\n"
    assert result.controls == Controls(Priority.URGENT, "ses", "a b", 60.0, '"k"')
    assert result.repairs == ()


def test_a_control_that_cannot_be_obeyed_is_a_refusal() -> None:
    assert isinstance(stamped(COMPLETE + b"X-Relay-Priority: high\r\n\r\n").controls, Reply)
    assert stamped(COMPLETE + b"\r\nX-Relay-Priority: high\r\n").controls is NO_CONTROLS


def test_our_own_received_lines_are_known_however_they_are_folded() -> None:
    ours = RECEIVED.replace(b"\r\n\tby", b" by").replace(b" (relay) with", b"\r\n  (relay)\r\n with")
    other = RECEIVED.replace(b"by relay.test", b"by other.test")
    postfix = RECEIVED.replace(b"(relay)", b"(Postfix)")
    result = stamped(RECEIVED + other + postfix + ours + COMPLETE + b"\r\n")
    assert (result.received, result.ours) == (4, 2)


@given(helo=st.text(), recipient=st.text(), name=st.sampled_from(["relay.test", "elay.test", "x (relay)"]))
def test_foreign_text_in_a_line_of_ours_feigns_no_other_relay(helo: str, recipient: str, name: str) -> None:
    trace = replace(TRACE, helo=helo + " by other.test (relay) with ", recipient=recipient, hostname=name)
    line = stamped(COMPLETE + b"\r\n", trace).octets.partition(b"Message-ID:")[0].partition(b":")[2]
    assert is_ours(line, name)
    assert not is_ours(line, "other.test")


def test_a_folded_message_id_is_unfolded_for_the_log_alone() -> None:
    message = b"Message-ID:\r\n <long@id>\r\nDate: x\r\n\r\n"
    result = stamped(message)
    assert result.message_id == "<long@id>"
    assert result.octets == RECEIVED + message


@pytest.mark.parametrize(
    "bcc",
    [
        b"Bcc: a@b\r\n",
        b"BCC:a@b,\r\n c@d,\r\n\te@f\r\n",
        b"bcc :\r\n",
        b"Resent-Bcc: a@b\r\n",
        b"Bcc: a@b\r\nBcc: c@d\r\n",
    ],
)
@pytest.mark.parametrize(("before", "after"), [(b"", b""), (b"To: x@y\r\n", b""), (b"", b"Cc: x@y\r\n\tz@z\r\n")])
def test_bcc_goes_with_its_folds(bcc: bytes, before: bytes, after: bytes) -> None:
    kept = COMPLETE + before + after
    result = stamped(COMPLETE + before + bcc + after + b"\r\nBcc: in the body\r\n")
    assert result.octets == RECEIVED + kept + b"\r\nBcc: in the body\r\n"
    assert result.repairs == ("bcc",)


def test_a_folded_line_that_looks_like_bcc_stays() -> None:
    message = COMPLETE + b"Subject: see\r\n Bcc: this\r\n\r\n"
    assert stamped(message).octets == RECEIVED + message


def test_received_lines_are_counted_in_the_header_alone() -> None:
    message = b"Received: 1\r\nRECEIVED: 2\r\n folded\r\nreceived : 3\r\nX-Received: no\r\n\r\nReceived: no\r\n"
    assert stamped(message).received == 3


def test_several_recipients_are_not_named() -> None:
    result = stamped(COMPLETE + b"\r\n", replace(TRACE, recipient=None))
    assert b"id 1A2B3C;\r\n\tTue" in result.octets
    assert b"for <" not in result.octets


def test_an_ipv6_client_has_its_tag() -> None:
    assert b"(localhost [IPv6:::1])" in stamped(b"\r\n", replace(TRACE, client_address="::1")).octets


@given(helo=st.text(), recipient=st.text())
def test_foreign_text_adds_no_line_and_no_control(helo: str, recipient: str) -> None:
    octets = stamped(COMPLETE + b"\r\n", replace(TRACE, helo=helo, recipient=recipient)).octets
    received, separator, rest = octets.partition(b"Message-ID:")
    assert (separator + rest).endswith(COMPLETE + b"\r\n")
    lines = received.split(b"\r\n")
    assert len(lines) == 5
    for line in lines:
        assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", line)
    assert received.count(b"Received:") == 1 + helo.count("Received:") + recipient.count("Received:")


@pytest.mark.parametrize(
    ("message", "header", "body"),
    [
        # No empty line before what is no field.
        (b"Subject: x\r\nHello you\r\n", b"Subject: x\r\n", b"\r\nHello you\r\n"),
        (b"Hello you\r\nSubject: x\r\n", b"", b"\r\nHello you\r\nSubject: x\r\n"),
        (b" leading space\r\n", b"", b"\r\n leading space\r\n"),
        (b": x\r\n", b"", b"\r\n: x\r\n"),
        # Nothing but an empty line, a header, or nothing at all.
        (b"\r\nbody\r\n", b"", b"\r\nbody\r\n"),
        (b"Subject: x\r\n", b"Subject: x\r\n", b"\r\n"),
        (b"", b"", b"\r\n"),
        # Fields of other shapes.
        (b"X-A : b\r\nX-B:c\r\n\r\nd\r\n", b"X-A : b\r\nX-B:c\r\n", b"\r\nd\r\n"),
        (b"X-NUL: \x00\xff\r\n\r\n", b"X-NUL: \x00\xff\r\n", b"\r\n"),
        (
            b"From root Mon Jan 1\r\nSubject: x\r\n\r\n",
            b"X-Mailbox-Line: From root Mon Jan 1\r\nSubject: x\r\n",
            b"\r\n",
        ),
        (b">From x\r\n\r\nb\r\n", b"X-Mailbox-Line: >From x\r\n", b"\r\nb\r\n"),
        (b"From: x\r\n\r\n", b"From: x\r\n", b"\r\n"),
    ],
)
def test_where_the_header_ends(message: bytes, header: bytes, body: bytes) -> None:
    octets = stamped(message).octets
    assert octets.endswith(b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n" + header + body)


def test_a_line_cut_off_by_the_read_may_become_a_field() -> None:
    assert header_end(b"Subject: x\r\nX-Fie") == len(b"Subject: x\r\nX-Fie")
    assert header_end(b"Subject: x\r\n" + b"y" * 2000) == len(b"Subject: x\r\n")


@given(
    st.lists(
        st.sampled_from(
            [b"Subject: x", b" fold", b"Bcc: y", b"no field", b"", b"Date: z", b"From a", b"Received: r", b"\x00:"]
        ),
        max_size=8,
    )
)
def test_the_body_and_all_other_fields_stay(lines: list[bytes]) -> None:
    message = b"".join(line + b"\r\n" for line in lines)
    end = header_end(message)
    octets = stamp(message, end, TRACE).octets
    assert octets.startswith(RECEIVED)
    assert octets.endswith(message[end:])
    header = octets[: octets.index(b"\r\n\r\n")]
    assert b"\r\nBcc:" not in header
    for field in (b"Date:", b"Message-ID:"):
        assert b"\r\n" + field in header


@pytest.mark.parametrize(
    "unit",
    [
        b"a:\r\n",
        b"bcc:\r\n",
        b"date:\r\n",
        b"from:\r\n",
        b"received: x\r\n y\r\n",
        b"received: a by relay.test (relay) with\r\n",
        b"message-id: x\r\n z\r\n",
        b"x-relay-tag: x\r\n z\r\n",
        b"x-relay-not-after: Thu,\r\n 1",
    ],
)
def test_a_header_bomb_takes_linear_time(unit: bytes) -> None:
    message = unit * (256 * 1024 // len(unit)) + b"\r\n"
    began = time.process_time()
    stamped(message)
    # Some 10 ms; a quadratic way takes minutes.
    assert time.process_time() - began < 1.0


PIECES = st.sampled_from(
    [b"\r\n", b" ", b"\t", b":", b"From ", b"Bcc:", b"From:", b"Received:", b"\x00", b"\xff", *CONTROL_FIELDS]
)


@given(st.binary(max_size=200) | st.lists(PIECES | st.binary(max_size=5), max_size=40).map(b"".join))
def test_any_octets_are_stamped_and_the_body_is_kept(octets: bytes) -> None:
    # As content comes in: all lines end in CR LF, the last one too.
    message = b"".join(line + b"\r\n" for line in octets.splitlines())
    end = header_end(message)
    result = stamp(message, end, TRACE, "a@b.test")
    assert result.octets.startswith(RECEIVED)
    assert result.octets.endswith(message[end:])
    header = b"\r\n" + result.octets[: result.octets.index(b"\r\n\r\n") + 2].lower()
    for name in CONTROL_FIELDS:
        assert not re.search(rb"\r\n" + name + rb"[ \t]*:", header)
    for name in (b"from", b"date", b"message-id"):
        assert re.search(rb"\r\n" + name + rb"[ \t]*:", header)
    # What was stamped stands a second stamp without being mended again.
    again = stamped(result.octets, sender="a@b.test")
    assert set(again.repairs) <= {"mailbox-line"}
    assert again.ours == result.ours + 1
