"""The message on standard input: its line ends, its end, its recipients, its From (RFC 5322).

Pure but for the reading. The body goes on byte for byte, save that every line ends in CR LF; Bcc fields stay, for the
relay removes them from all mail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, Final

from relay.headers import header_end
from relay.sendmail.addresses import parse_list

_FIELD: Final = re.compile(rb"^([!-9;-~]++)[ \t]*+:((?:[^\r]++|\r\n[ \t])*+)\r\n", re.MULTILINE)
_RECIPIENT_FIELDS: Final = frozenset({b"to", b"cc", b"bcc"})
_RESENT: Final = b"resent-"
_ATOMS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_ENCODED_OCTETS: Final = 39
"""Octets of a name in one encoded word, so that it keeps within 75 characters (RFC 2047 §2)."""


def read(source: BinaryIO, *, dot_ends: bool) -> bytes:
    """All of ``source``, or up to a line with only a "." where ``dot_ends``; every line ends in CR LF."""
    # Line by line for the dot: who ends with one may not close the pipe, nor a terminal.
    content = b"".join(iter(lambda: _line(source), b"")) if dot_ends else source.read()
    lines, ends = content.count(b"\r\n"), (content.count(b"\n"), content.count(b"\r"))
    if ends != (lines, lines):
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    return content if not content or content.endswith(b"\r\n") else content + b"\r\n"


def _line(source: BinaryIO) -> bytes:
    line = source.readline()
    return b"" if line in {b".\n", b".\r\n", b"."} else line


def recipients(content: bytes) -> list[str]:
    """The addresses of To, Cc and Bcc; where there is any Resent- field, those of Resent-To and so on alone
    (RFC 5322 §3.6.6). Raises :class:`~relay.sendmail.exits.Failure` (65) for what is no address.
    """
    found: dict[bool, list[bytes]] = {True: [], False: []}
    resent = False
    for name, value in fields(content):
        again = name.startswith(_RESENT)
        resent = resent or again
        if name.removeprefix(_RESENT) in _RECIPIENT_FIELDS:
            found[again].append(value)
    return [address for value in found[resent] for address in parse_list(value.decode("utf-8", "surrogateescape"))]


def fields(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The header's fields: name in lower case, value as it stands, folded or not."""
    for field in _FIELD.finditer(content, 0, header_end(content)):
        yield field[1].lower(), field[2]


def with_from(content: bytes, address: str, full_name: str) -> bytes:
    """``content`` with a From field at the end of its header where it has none."""
    if any(name == b"from" for name, _ in fields(content)):
        return content
    end = header_end(content)
    name = _phrase(full_name)
    line = f"From: {name} <{address}>\r\n" if name else f"From: <{address}>\r\n"
    # The empty line behind a header that had no field.
    separator = b"" if end or content.startswith(b"\r\n") else b"\r\n"
    return b"".join((content[:end], line.encode(), separator, content[end:]))


def _phrase(name: str) -> str:
    """A display name: as it is, quoted, or as encoded words (RFC 5322 §3.2.5, RFC 2047)."""
    name = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    if not name or _ATOMS.fullmatch(name):
        return name
    if name.isascii():
        return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    from base64 import b64encode

    words = []
    piece = b""
    for character in name:
        octets = character.encode()
        if len(piece) + len(octets) > _ENCODED_OCTETS:
            words.append(piece)
            piece = b""
        piece += octets
    words.append(piece)
    return "\r\n ".join(f"=?utf-8?B?{b64encode(word).decode()}?=" for word in words)
