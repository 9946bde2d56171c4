"""What arrived, against what was sent: one sentence for each case that differs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from email import message_from_bytes, policy

from tests.matrix import signing
from tests.matrix.corpus import Case
from tests.matrix.known import Known


def body_of(content: bytes) -> bytes:
    return content.partition(b"\r\n\r\n")[2]


def text_of(content: bytes) -> bytes:
    """The text that a reader sees, of what a program composed."""
    payload = message_from_bytes(content, policy=policy.default).get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def differences(
    cases: Sequence[Case],
    arrived: Mapping[str, Sequence[bytes]],
    known: Mapping[str, Known],
    read: Callable[[bytes], bytes] = body_of,
) -> list[str]:
    """``arrived`` has the contents by the case's name; ``known`` the exceptions. Empty: all is as it must be."""
    found = []
    for case in cases:
        exception = known.get(case.name)
        expected = [case.body]
        if exception is not None:
            expected = [] if exception.becomes is None else [exception.becomes(case.body)]
        bodies = [read(content) for content in arrived.get(case.name, ())]
        if list(map(digest, bodies)) != list(map(digest, expected)):
            found.append(f"{case.name}: {'; '.join(map(described, bodies)) or 'nothing'} for {described(case.body)}")
        elif (
            case.name == "signed" and exception is None and read is body_of and not signing.holds(arrived[case.name][0])
        ):
            found.append("signed: the signature is broken")
    return found


def digest(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()


def described(octets: bytes) -> str:
    """Short enough to read; the corpus is no secret."""
    shown = repr(octets) if len(octets) <= 120 else f"{octets[:50]!r}…{octets[-50:]!r}"
    return f"{len(octets)} octets {shown}"
