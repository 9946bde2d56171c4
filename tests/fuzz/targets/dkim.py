"""Signing: the canonical forms are dkimpy's, any split gives the same hash, and what is signed verifies."""

from __future__ import annotations

import base64
import hashlib

from dkim.canonicalization import Relaxed, Simple

from relay.dkim.bodies import BodyHash
from relay.dkim.fields import author_of, header_of, relaxed, split
from relay.dkim.signatures import Canonicalization, Unsignable, prepare, unsigned
from relay.dkim.verifying import verify
from relay.headers import Trace, header_end, stamp
from relay.signing.keys import make_key
from relay.smtp.lineends import normalised
from tests.fuzz.supply import Supply, pieces

SEEDS = (
    b"From: Ann <a@example.com>\nTo: b@y.test\nSubject: x\n\nhello  \n\n",
    b"From: a@x.test\nSubject:\t a  b\n c \nReceived: y\nReceived: z\n\n \t\n a\tb \n\n\n\x01\x02\x03\x04\x02\x03",
    b'From: "x, y@z" (c (d)) <a@b\xc3\xbc.test>, e@f\nDKIM-Signature: v=1; d = Example.com; b=x\n\n',
    b"from : a@b\nlist-id: x\n\n",
)
_WAYS: tuple[Canonicalization, ...] = ("relaxed/simple", "relaxed/relaxed", "simple/simple", "simple/relaxed")
_TRACE = Trace("app.test", "localhost", "127.0.0.1", "relay.test", "ESMTP", "1A2B3C", None, 1_700_000_000.0)
_KEY = make_key("e1", "ed25519")
_RECORD = {"e1._domainkey.example.com": _KEY.record()}


def check(octets: bytes) -> None:
    supply = Supply(octets)
    cuts = supply.cuts()
    way = _WAYS[supply.number(len(_WAYS))]
    message = normalised(supply.rest())
    octets = stamp(message, header_end(message, whole=True), _TRACE, "a@example.com").octets
    header, body = header_of(octets), octets.partition(b"\r\n\r\n")[2]
    domain = author_of(header)
    assert domain is None or (domain.isascii() and domain == domain.lower())
    hashes = {is_relaxed: _hashed(body, cuts, is_relaxed=is_relaxed) for is_relaxed in (False, True)}
    for _, field in split(header):
        _same_as_dkimpy(field)
    try:
        prepared = prepare(header, "example.com", way)
    except Unsignable:
        return
    if prepared is None:
        return
    unsigned_field = unsigned(
        prepared,
        _KEY,
        domain="example.com",
        canonicalization=way,
        body_hash=hashes[way.endswith("/relaxed")],
        now=1_700_000_000,
    )
    made = unsigned_field.signed(_KEY.sign(unsigned_field.digest))
    assert all(len(line) <= 78 for line in made.split(b"\r\n"))
    _holds(made, header, body)


def _hashed(body: bytes, cuts: list[int], *, is_relaxed: bool) -> str:
    hasher = BodyHash(relaxed=is_relaxed)
    for piece in pieces(body, cuts):
        hasher.feed(piece)
    found = hasher.finish()
    # A last line that lacks its end gets one (RFC 6376 §3.4.3); dkimpy adds none in relaxed form.
    whole = body if not body or body.endswith(b"\r\n") else body + b"\r\n"
    canonical = (Relaxed if is_relaxed else Simple).canonicalize_body(whole)
    assert found == base64.b64encode(hashlib.sha256(canonical).digest()).decode()
    return found


def _same_as_dkimpy(field: bytes) -> None:
    name, _, value = field.partition(b":")
    if any(octet in field for octet in b"\x0b\x0c"):
        return  # dkimpy's \s takes them for white space; RFC 6376 §2.8 doesn't
    ((their_name, theirs),) = Relaxed.canonicalize_headers([(name, value)])
    assert relaxed(field) == their_name + b":" + theirs.removesuffix(b"\r\n")


def _holds(made: bytes, header: bytes, body: bytes) -> None:
    fields = split(header)
    if len(fields) != len(header.split(b"\r\n")) - 1 - header.count(b"\r\n ") - header.count(b"\r\n\t"):
        return
    if any(line.strip(b" \t") == b"" for line in header.split(b"\r\n")[:-1]):
        return  # dkimpy takes a fold of blanks alone for the header's end
    if any(octet in header for octet in b"\x0b\x0c") or not all(_is_plain(field) for _, field in fields):
        return  # names that dkimpy doesn't take, signed or not
    if body and not body.endswith(b"\r\n"):
        return
    if any(name == b"dkim-signature" for name, _ in fields):
        return
    (result,) = verify(made + header + b"\r\n" + body, _RECORD.get)
    assert result.passed, result.reason


def _is_plain(field: bytes) -> bool:
    name = field.partition(b":")[0]
    return name.isascii() and name.replace(b"-", b"").isalnum()
