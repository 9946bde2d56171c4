"""What is said to SparkPost: a transmission of the message as it is (its API documentation, Transmissions). Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from relay.mail import Envelope
from relay.smtp.capabilities import Capabilities
from relay.upstream import ServerLimit

ENDPOINT: Final = "https://api.sparkpost.com"
ACCOUNT: Final = "/api/v1/account?include=usage"

TAKES: Final = Capabilities(size=True, max_size=20_000_000, eightbit=True, max_recipients=2000)
"""20 MB of content; 2,000 recipients a call is what its injection practices advise. UTF-8 addresses: not documented."""

AS_IT_IS: Final[Mapping[str, str | int | bool]] = {
    "open_tracking": False,
    "click_tracking": False,
    "perform_substitutions": False,
}
"""Without these it may rewrite links, add a picture and fill in what looks like its template language."""


def path(recipients: int) -> str:
    """Where a transmission goes; every recipient that it refuses is to be told of."""
    return f"/api/v1/transmissions?num_rcpt_errors={recipients}"


def around(
    envelope: Envelope, options: Mapping[str, str | int | bool], *, with_return_path: bool
) -> tuple[bytes, bytes]:
    """The JSON before and after the text of the message. The recipients are the envelope's.

    SparkPost makes return paths of its own; the sender's is asked for only where the account's plan allows any.
    """
    head: dict[str, Any] = {
        "options": {**AS_IT_IS, **options},
        "recipients": [{"address": {"email": each.address}} for each in envelope.recipients],
    }
    if with_return_path and envelope.sender:
        head["return_path"] = envelope.sender
    return json.dumps(head)[:-1].encode() + b', "content": {"email_rfc822": "', b'"}}'


def limits_of(account: Any, at: float) -> tuple[ServerLimit, ...]:
    """The daily and monthly usage of the account, as read ``at`` (Unix seconds)."""
    results = account.get("results") if isinstance(account, dict) else None
    usage = results.get("usage") if isinstance(results, dict) else None
    if not isinstance(usage, dict):
        return ()
    return tuple(limit for each in ("day", "month") if (limit := _limit(usage.get(each), at)) is not None)


def _limit(period: Any, at: float) -> ServerLimit | None:
    if not isinstance(period, dict):
        return None
    limit, used = period.get("limit"), period.get("used")
    try:
        begun, ends = (datetime.fromisoformat(str(period.get(key))) for key in ("start", "end"))
        window = (ends - begun).total_seconds()
    except (ValueError, TypeError):
        return None
    if not isinstance(limit, int) or isinstance(limit, bool) or window <= 0:
        return None
    return ServerLimit(limit, window, used if isinstance(used, int) else None, at)
