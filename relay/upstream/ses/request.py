"""What is said to SES: SendEmail with the message as it is, and GetAccount (Amazon SES API v2 Reference). Pure."""

from __future__ import annotations

import json
from typing import Any, Final

from relay.mail import Envelope
from relay.smtp.capabilities import Capabilities
from relay.upstream import ServerLimit

SEND: Final = "/v2/email/outbound-emails"
ACCOUNT: Final = "/v2/email/account"
DAY: Final = 86400.0

TAKES: Final = Capabilities(size=True, max_size=40_000_000, eightbit=True, max_recipients=50)
"""Service quotas: 50 recipients and 40 MB a message; no SMTPUTF8 (the reference says so of Destination)."""


def endpoint(region: str) -> str:
    """The address of a region's API (AWS General Reference, Amazon SES endpoints)."""
    return f"https://email.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def around(envelope: Envelope, configuration_set: str | None) -> tuple[bytes, bytes]:
    """The JSON before and after the base64 of the message.

    The recipients are the envelope's: no header field is looked at for them. The reverse-path is where SES sends
    bounces and complaints, as MAIL FROM is on its SMTP side; a null one has no spelling here and is left out.
    """
    head: dict[str, Any] = {"Destination": {"ToAddresses": [each.address for each in envelope.recipients]}}
    if envelope.sender:
        head["FeedbackForwardingEmailAddress"] = envelope.sender
    if configuration_set:
        head["ConfigurationSetName"] = configuration_set
    return json.dumps(head)[:-1].encode() + b', "Content": {"Raw": {"Data": "', b'"}}}'


def limits_of(account: Any, at: float) -> tuple[ServerLimit, ...]:
    """SendQuota of GetAccount: recipients in 24 hours (-1 is no limit) and a second, as read ``at`` (Unix seconds)."""
    quota = account.get("SendQuota") if isinstance(account, dict) else None
    if not isinstance(quota, dict):
        return ()
    day, rate, used = (_number(quota.get(key)) for key in ("Max24HourSend", "MaxSendRate", "SentLast24Hours"))
    limits = [ServerLimit(rate, 1.0, None, at)] if rate is not None and rate > 0 else []
    if day is not None and day >= 0:
        limits.append(ServerLimit(day, DAY, used, at))
    return tuple(limits)


def may_send(account: Any) -> bool:
    """Whether the account is allowed to send at all (SendingEnabled; EnforcementStatus other than SHUTDOWN)."""
    if not isinstance(account, dict):
        return True
    return account.get("SendingEnabled") is not False and account.get("EnforcementStatus") != "SHUTDOWN"


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
