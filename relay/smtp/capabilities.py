"""What a server said it can do, and which messages it therefore can't take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from relay.mail import Body, Envelope
from relay.outcome import Outcome, Scope, Verdict


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the server's EHLO said that matters to a transaction."""

    pipelining: bool = False
    size: bool = False
    max_size: int = 0
    eightbit: bool = False
    smtputf8: bool = False


def capabilities_of(extensions: Mapping[str, str]) -> Capabilities:
    """From the EHLO keywords, in any case, with their parameters."""
    known = {keyword.lower(): parameters for keyword, parameters in extensions.items()}
    limit = known.get("size", "").strip()
    return Capabilities(
        pipelining="pipelining" in known,
        size="size" in known,
        max_size=int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 20 else 0,
        eightbit="8bitmime" in known,
        smtputf8="smtputf8" in known,
    )


def cannot_take(
    capabilities: Capabilities, envelope: Envelope, content: bytes | None, size: int, *, host: str
) -> Outcome | None:
    """Why a server with these capabilities can't have this message (RFC 1870 §6.1, 6152 §3, 6531 §3.5); or None.

    Content declared 8BITMIME that is plain ASCII after all needs nothing of the server.
    """
    if capabilities.max_size and size > capabilities.max_size:
        return _unfit("5.3.4", f"message size {size} exceeds the limit {capabilities.max_size} of host {host}")
    if envelope.smtputf8 and not capabilities.smtputf8:
        return _unfit("5.6.7", f"SMTPUTF8 is required, but was not offered by host {host}")
    if (
        envelope.body is Body.EIGHT_BIT
        and not capabilities.eightbit
        and not (content is not None and content.isascii())
    ):
        return _unfit("5.6.3", f"8BITMIME is required, but was not offered by host {host}")
    return None


def _unfit(dsn: str, detail: str) -> Outcome:
    return Outcome(Verdict.FAILED, Scope.MESSAGE, dsn, detail)
