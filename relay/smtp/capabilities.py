"""What a server said it can do, and which messages it therefore can't take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from relay.mail import Body, Envelope
from relay.outcome import Outcome, Scope, Verdict


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the server's EHLO said that matters to transactions; a limit of 0 is none.

    ``max_messages`` and ``max_recipients`` are MAILMAX and RCPTMAX of LIMITS (RFC 9422).
    """

    pipelining: bool = False
    size: bool = False
    max_size: int = 0
    eightbit: bool = False
    smtputf8: bool = False
    chunking: bool = False
    dsn: bool = False
    max_messages: int = 0
    max_recipients: int = 0


def capabilities_of(extensions: Mapping[str, str]) -> Capabilities:
    """From the EHLO keywords, in any case, with their parameters; LIMITS is RFC 9422's."""
    known = {keyword.lower(): parameters for keyword, parameters in extensions.items()}
    limits = dict(item.upper().partition("=")[::2] for item in known.get("limits", "").split())
    return Capabilities(
        pipelining="pipelining" in known,
        size="size" in known,
        max_size=_number(known.get("size", "")),
        eightbit="8bitmime" in known,
        smtputf8="smtputf8" in known,
        chunking="chunking" in known,
        dsn="dsn" in known,
        max_messages=_number(limits.get("MAILMAX", "")),
        max_recipients=_number(limits.get("RCPTMAX", "")),
    )


def _number(text: str) -> int:
    """What a server wrote as a number; 0, for no limit, where it isn't one."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


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
    return Outcome(Verdict.FAILED, Scope.MESSAGE, dsn, detail, unfit=True)
