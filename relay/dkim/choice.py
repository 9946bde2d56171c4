"""Which of a message's signatures go to an upstream, by what that upstream wants."""

from __future__ import annotations

from typing import Final

from relay.mail import NO_SIGNATURE, Signatures
from relay.settings import UpstreamDkimSettings

_NEXT: Final = b"\r\nDKIM-Signature:"
_NONE: Final = "none"


def profile_of(wants: UpstreamDkimSettings) -> str:
    """What decides over the signatures themselves, as it is kept with them; how many go out is decided then."""
    if wants.signatures == 0:
        return _NONE
    return ",".join((*wants.leave_out, "alone") if wants.alone else wants.leave_out)


def fitting(signatures: Signatures, wants: UpstreamDkimSettings) -> bytes | None:
    """What goes before the content on the wire; None where they were made for an upstream that wants something else."""
    if signatures.profile == NO_SIGNATURE or wants.signatures == 0:
        return b""
    if signatures.profile != profile_of(wants):
        return None
    return _first(signatures.fields, wants.signatures)


def _first(fields: bytes, count: int | None) -> bytes:
    if count is None:
        return fields
    position = 0
    for _ in range(count):
        position = fields.find(_NEXT, position) + 2
        if position < 2:
            return fields
    return fields[:position]
