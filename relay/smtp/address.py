"""Addresses as they stand in MAIL and RCPT: a linear grammar of our own (RFC 5321 §4.1.2, RFC 6531 §3.3).

A local part is a dot-atom or a quoted string, a domain a host name or an address literal; nothing else is taken: no
comments, no folding, no white space outside quotes. In angle brackets the domain may be wanting, as cron's is: it is
completed later. Source routes are read and dropped (RFC 5321 §3.6.1, appendix C).
An address is kept as it was given: case, quotes and escapes are the receiver's business.

All patterns are possessive: the time is linear in the length of the text, whatever it holds.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, NamedTuple

from relay.outcome import Reply

MAX_LOCAL_PART: Final = 64
"""Octets of a local part (RFC 5321 §4.5.3.1.1)."""
MAX_DOMAIN: Final = 255
"""Octets of a domain (RFC 5321 §4.5.3.1.2)."""
MAX_PATH: Final = 256
"""Octets of a path with its angle brackets and its source route (RFC 5321 §4.5.3.1.3)."""

# By what may not stand in them: U+00A0 and above may (RFC 6531 §3.3; below are the C1 controls), and a set that lists
# those takes fifty times as long to compile. Octets that are no UTF-8 arrive as lone surrogates here and are refused by
# their encoding. The underscore is no host name's, but domains with one exist and are routed.
_ATOM: Final = r'[^\x00- "(),.:;<>@\[\\\]\x7f-\x9f]++'
_QUOTED: Final = r'"(?:[^\x00-\x1f"\\\x7f-\x9f]|\\[ -~])*+"'
_LOCAL_PART: Final = rf"(?:{_ATOM}(?:\.{_ATOM})*+|{_QUOTED})"
_ALPHANUMERIC: Final = r"[^\x00-/:-@\[-^`{-\x9f]"
_LABEL: Final = rf"(?>{_ALPHANUMERIC}(?:[^\x00-,./:-@\[-^`{{-\x9f]*{_ALPHANUMERIC})?)"
_DOMAIN: Final = rf"(?:{_LABEL}(?:\.{_LABEL})*+|\[[!-Z^-~]*+\])"
_ROUTE: Final = rf"(?:@{_DOMAIN}(?:,@{_DOMAIN})*+:)?+"

_PATH: Final = re.compile(rf"<{_ROUTE}({_LOCAL_PART})@({_DOMAIN})>")
_WITHOUT_DOMAIN: Final = re.compile(rf"<({_LOCAL_PART})()>")
_WITHOUT_BRACKETS: Final = re.compile(rf"({_LOCAL_PART})@({_DOMAIN})(?= |\Z)")
_POSTMASTER: Final = re.compile(r"(postmaster)(?= |\Z)", re.IGNORECASE | re.ASCII)
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")


class Path(NamedTuple):
    """A reverse-path or forward-path: the address ("" for the null path) and where in the text it ended."""

    address: str
    end: int


def parse_path(text: str, *, null: bool = False, postmaster: bool = False) -> Path | Reply:
    """Read the path that ``text`` begins with, with or without angle brackets (many clients leave them out).

    ``text`` is the command's argument, its octets decoded as UTF-8 with ``surrogateescape``. ``null`` allows ``<>``
    (MAIL), ``postmaster`` that name without brackets too (RCPT, RFC 5321 §4.1.1.3). Never raises; a refusal is a Reply.
    """
    found = _PATH.match(text) or _WITHOUT_BRACKETS.match(text) or _WITHOUT_DOMAIN.match(text)
    if found is None:
        if null and text.startswith("<>"):
            return Path("", 2)
        named = _POSTMASTER.match(text) if postmaster else None
        if named is not None:
            return Path(named[1], named.end())
        if _CONTROL.search(text) is not None:
            return _malformed("control character in address")
        return _malformed("bad address syntax")
    local_part, domain = found.groups()
    given = found[0]
    if not given.isascii():
        try:
            size = len(given.encode())
            local_size, domain_size = len(local_part.encode()), len(domain.encode())
        except UnicodeEncodeError:
            return _malformed("address is not UTF-8")
    else:
        size, local_size, domain_size = len(given), len(local_part), len(domain)
    if local_size > MAX_LOCAL_PART:
        return _malformed("local part too long")
    if domain_size > MAX_DOMAIN:
        return _malformed("domain too long")
    if size > MAX_PATH:
        return _malformed("path too long")
    if not domain:
        return Path(local_part, found.end())
    if domain[0] == "[" and not _is_literal(domain[1:-1]):
        return _malformed("bad address literal")
    return Path(f"{local_part}@{domain}", found.end())


def needs_smtputf8(address: str) -> bool:
    """Whether ``address`` may be used only under SMTPUTF8 (RFC 6531 §3.2)."""
    return not address.isascii()


def has_control(text: str) -> bool:
    """Whether a control character (0x00-0x1F, 0x7F) stands in ``text``: none belongs in a command (RFC 5321 §4.1.2)."""
    return not text.isprintable() and _CONTROL.search(text) is not None


def _is_literal(literal: str) -> bool:
    """RFC 5321 §4.1.3: an IPv4 address, or an IPv6 one behind its tag. No other tag was ever registered."""
    tag, separator, rest = literal.partition(":")
    try:
        if not separator:
            IPv4Address(literal)
        elif tag.lower() == "ipv6" and "%" not in rest:
            IPv6Address(rest)
        else:
            return False
    except AddressValueError:
        return False
    return True


def _malformed(why: str) -> Reply:
    return Reply(553, f"Error: {why}", "5.1.3")
