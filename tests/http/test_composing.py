from __future__ import annotations

import json
from base64 import b64encode
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.http.composing import Composed, Unprocessable, compose


def composed(**fields: Any) -> Composed:
    return compose(json.dumps({"from": "Shop <shop@x.test>", "to": "b@y.test"} | fields).encode())


def parsed(content: bytes) -> EmailMessage:
    message = message_from_bytes(content, policy=default)
    assert isinstance(message, EmailMessage)
    return message


def test_the_envelope_is_of_the_addresses() -> None:
    one = composed(to=["B <b@y.test>", "c@y.test"], cc="D <d@y.test>, b@y.test", bcc=["e@y.test"])
    assert (one.sender, one.recipients) == ("shop@x.test", ("b@y.test", "c@y.test", "d@y.test", "e@y.test"))
    message = parsed(one.content)
    assert message["To"] == "B <b@y.test>, c@y.test"
    assert message["Cc"] == "D <d@y.test>, b@y.test"
    assert b"e@y.test" not in one.content


def test_text_and_html_are_alternatives_and_files_are_attached() -> None:
    one = composed(
        subject="Grüße 😀",
        text="Guten Tag, Grüße",
        html="<b>Guten Tag</b><img src='cid:logo'>",
        headers={"X-Campaign": "news", "Reply-To": "Büro <buero@x.test>"},
        attachments=[
            {"content": b64encode(b"\x00\x01" * 99).decode(), "filename": "größe.bin"},
            {"content": b64encode(b"png").decode(), "type": "image/png", "content_id": "logo"},
        ],
    )
    # Whatever a server on the way can do, it need not recode it.
    assert one.content.isascii()
    assert b"\r\n" in one.content
    assert b"\n" not in one.content.replace(b"\r\n", b"")
    message = parsed(one.content)
    assert (message["Subject"], message["X-Campaign"]) == ("Grüße 😀", "news")
    assert message["Reply-To"] == "Büro <buero@x.test>"
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert plain.get_content().strip() == "Guten Tag, Grüße"
    assert "<b>" in html.get_content()
    (file,) = message.iter_attachments()
    assert isinstance(file, EmailMessage)
    assert (file.get_filename(), file.get_content()) == ("größe.bin", b"\x00\x01" * 99)
    (logo,) = [part for part in message.walk() if part["Content-ID"]]
    assert (logo["Content-ID"], logo.get_content_type()) == ("<logo>", "image/png")


def test_addresses_beyond_ascii_are_kept() -> None:
    one = composed(to="Ünal <ü@y.test>")
    assert one.recipients == ("ü@y.test",)
    assert "ü@y.test".encode() in one.content


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"from": "no address here"}, "not an address"),
        ({"from": "a@x.test, b@x.test"}, r"one address - at `\$\.from`"),
        ({"to": 7}, r"at `\$\.to`"),
        ({"subjekt": "x"}, "unknown field `subjekt`"),
        ({"subject": "one\r\nBcc: victim@y.test"}, "control characters in Subject"),
        ({"from": "a\r\nX: y <a@x.test>"}, "."),
        ({"headers": {"X-A": "one\nX-B: two"}}, "control characters in X-A"),
        ({"headers": {"X A": "x"}}, "not a field"),
        ({"headers": {"X-A\r\nX-B": "x"}}, "not a field"),
        ({"headers": {"Bcc": "x@y.test"}}, "not a field"),
        ({"headers": {"content-type": "text/html"}}, "not a field"),
        ({"headers": {"Reply-To": "a@x.test", "reply-to": "b@x.test"}}, "Reply-To|reply-to"),
        ({"attachments": [{"content": "%%%"}]}, r"not Base64 - at `\$\.attachments\[0\]`"),
        ({"attachments": [{"content": "", "type": "message/rfc822"}]}, "media type"),
        ({"attachments": [{"content": "", "type": "text/plain\r\nX: y"}]}, "media type"),
        ({"attachments": [{"content": "", "filename": "a\r\nX: y"}]}, "control characters"),
    ],
)
def test_what_makes_no_message_is_said(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(Unprocessable, match=why):
        composed(**fields)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"from": }', b'{"from": "\\ud800"}'])
def test_what_is_no_json_is_said(body: bytes) -> None:
    with pytest.raises(ValueError, match="no JSON") as caught:
        compose(body)
    assert not isinstance(caught.value, Unprocessable)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=40) | st.text('<>"@,;:()\\ \t=?ab.', max_size=20)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("from", "to", "subject", "text", "html"), TEXTS)), TEXTS)
def test_whatever_it_holds_it_is_a_message_or_refused(fields: dict[str, str], value: str) -> None:
    try:
        one = composed(**fields, headers={"X-Any": value})
    except Unprocessable:
        return
    message = parsed(one.content)
    assert {name.lower() for name in message.keys()} <= {  # noqa: SIM118 - a message is no dictionary
        *("from", "to", "subject", "x-any", "mime-version", "content-type", "content-transfer-encoding")
    }
