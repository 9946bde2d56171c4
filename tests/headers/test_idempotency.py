"""The key by which a provider knows a message that it has had."""

from __future__ import annotations

from dataclasses import replace

from relay.headers.idempotency import idempotency_field
from relay.mail import Envelope, Message, Recipient

NAME = "Resend-Idempotency-Key"
CONTENT = b"Subject: x\r\n\r\nResend-Idempotency-Key: in the body\r\n"


def message(*recipients: str, number: int = 0x18F5B1C2D3E0, key: str | None = None) -> Message:
    envelope = Envelope("a@x.test", tuple(Recipient(n, each) for n, each in enumerate(recipients or ("b@y.test",))))
    return Message(number, envelope, 100, 1.0, "<id@x.test>", idempotency_key=key)


def field(of: Message, content: bytes | None = CONTENT) -> bytes:
    return idempotency_field(NAME, of, content)


def test_it_is_one_header_field_and_the_same_each_time() -> None:
    first = field(message())
    assert first.startswith(b"Resend-Idempotency-Key: ")
    assert first.endswith(b"\r\n")
    assert len(first) < 78
    assert field(message()) == first == field(message(), None)


def test_an_attempt_more_changes_nothing() -> None:
    tried = message()
    (recipient,) = tried.envelope.recipients
    again = replace(tried, envelope=replace(tried.envelope, recipients=(replace(recipient, attempts=3, last="451"),)))
    assert field(again) == field(tried)


def test_other_messages_other_keys() -> None:
    keys = {field(message(number=n)) for n in range(1, 50)}
    assert len(keys) == 49


def test_each_part_of_a_message_is_another_one() -> None:
    assert field(message("b@y.test")) != field(message("c@y.test")) != field(message("b@y.test", "c@y.test"))
    assert field(message("b@y.test", "c@y.test")) == field(message("c@y.test", "b@y.test"))


def test_the_applications_key_names_the_message_across_submissions() -> None:
    assert field(message(number=1, key="order-7")) == field(message(number=2, key="order-7"))
    assert field(message(number=1, key="order-7")) != field(message(number=1, key="order-8"))
    assert b"order" not in field(message(key="order-7")), "whatever the application wrote, this is a field"


def test_none_where_the_provider_has_none_or_the_application_set_its_own() -> None:
    assert idempotency_field("", message(), CONTENT) == b""
    assert field(message(), b"resend-idempotency-key: mine\r\n\r\nx") == b""
    assert field(message(), b"A: b\r\nResend-Idempotency-Key: mine\r\n\r\nx") == b""
