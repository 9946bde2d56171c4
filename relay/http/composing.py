"""A message given as JSON into RFC 5322: headers encoded, text and HTML as alternatives, files attached.

Built by the standard library, which refuses line ends in header fields; what may not be set twice, or says how the body
is made, can't be set by ``headers``. Blocking: for a thread, as an attachment may be large.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from email.errors import HeaderParseError
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from typing import Final

import msgspec

from relay.smtp.address import has_control
from relay.smtp.addresslist import NoAddress, parse_list

_FIELD_NAME: Final = re.compile(r"[!-9;-~]{1,76}")
_MEDIA_TYPE: Final = re.compile(r"([A-Za-z0-9!#$&^_.+-]{1,127})/([A-Za-z0-9!#$&^_.+-]{1,127})")
_OURS: Final = frozenset({"from", "to", "cc", "bcc", "subject", "mime-version", "received", "return-path"})


class Unprocessable(ValueError):
    """The body can be read and makes no message; says why."""


class Attachment(msgspec.Struct, forbid_unknown_fields=True):
    """A file: ``content`` is Base64, ``type`` a media type; with ``content_id`` it stands in the HTML (``cid:``)."""

    content: str
    filename: str | None = None
    type: str = "application/octet-stream"
    content_id: str | None = None


class Draft(msgspec.Struct, forbid_unknown_fields=True, rename={"author": "from"}):
    """The JSON form of ``POST /api/messages``. Addresses may have names: "Shop <shop@example.com>"."""

    author: str
    to: str | list[str] = []
    cc: str | list[str] = []
    bcc: str | list[str] = []
    subject: str = ""
    text: str | None = None
    html: str | None = None
    headers: dict[str, str] = {}
    attachments: list[Attachment] = []


class Composed(msgspec.Struct, frozen=True):
    """The message and the envelope that it asks for."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes


def compose(body: bytes) -> Composed:
    """The message that ``body``, a JSON object, describes. Raises :class:`Unprocessable`; ValueError: it is no JSON."""
    try:
        draft = msgspec.json.decode(body, type=Draft)
    except msgspec.ValidationError as error:
        raise Unprocessable(str(error)) from None
    except msgspec.DecodeError as error:
        raise ValueError(f"no JSON: {error}") from None
    try:
        return _composed(draft)
    except (NoAddress, HeaderParseError, UnicodeError) as error:
        raise Unprocessable(str(error)) from None


def _composed(draft: Draft) -> Composed:
    authors = parse_list(draft.author)
    if len(authors) != 1:
        raise Unprocessable("from is one address - at `$.from`")
    lists = {"To": _listed(draft.to), "Cc": _listed(draft.cc), "Bcc": _listed(draft.bcc)}
    recipients = tuple(dict.fromkeys(each for text in lists.values() for each in parse_list(text)))
    plain = all(each.isascii() for each in (*authors, *recipients))
    # Whatever the upstream: no server has to recode a body of 7 bit, and a signature stays whole.
    message = EmailMessage((SMTP if plain else SMTPUTF8).clone(cte_type="7bit"))
    _set(message, "From", draft.author)
    for name, text in lists.items():
        if text and name != "Bcc":
            _set(message, name, text)
    if draft.subject:
        _set(message, "Subject", draft.subject)
    for name, value in draft.headers.items():
        if _FIELD_NAME.fullmatch(name) is None or name.lower() in _OURS or name.lower().startswith("content-"):
            raise Unprocessable(f"not a field to set here: {name[:76]!r} - at `$.headers`")
        _set(message, name, value)
    _fill(message, draft)
    return Composed(authors[0], recipients, message.as_bytes())


def _fill(message: EmailMessage, draft: Draft) -> None:
    if draft.text is not None or draft.html is None:
        message.set_content(draft.text or "")
        if draft.html is not None:
            message.add_alternative(draft.html, subtype="html")
    else:
        message.set_content(draft.html, subtype="html")
    related = message.get_body(("html",))
    for n, attachment in enumerate(draft.attachments):
        where = f"at `$.attachments[{n}]`"
        media = _MEDIA_TYPE.fullmatch(attachment.type)
        if media is None or media[1].lower() in {"multipart", "message"}:
            raise Unprocessable(f"not a media type for a file - {where}")
        try:
            octets = b64decode(attachment.content, validate=True)
        except (binascii.Error, ValueError):
            raise Unprocessable(f"content is not Base64 - {where}") from None
        for text in (attachment.filename, attachment.content_id):
            if text is not None and not text.isprintable():
                raise Unprocessable(f"control characters in a name - {where}")
        if attachment.content_id is not None and isinstance(related, EmailMessage):
            name = f"<{attachment.content_id.strip('<>')}>"
            related.add_related(octets, media[1], media[2], cid=name, filename=attachment.filename)
        else:
            message.add_attachment(octets, media[1], media[2], filename=attachment.filename or f"attachment-{n + 1}")


def _listed(given: str | list[str]) -> str:
    return given if isinstance(given, str) else ", ".join(given)


def _set(message: EmailMessage, name: str, value: str) -> None:
    if has_control(value):
        raise Unprocessable(f"control characters in {name}")
    try:
        message[name] = value
    except ValueError as error:
        raise Unprocessable(f"{name}: {error}") from None
