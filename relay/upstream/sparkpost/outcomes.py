"""What SparkPost answers, as outcomes (its API's documentation: Errors, Sending Limits; REST performance). Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from relay.mail import Envelope
from relay.outcome import Outcome, Scope, Trouble, Verdict
from relay.upstream.http.request import HttpResponse, by_status, printable, refusal

_SUSPENDED: Final = re.compile(r"suspend|terminat|deactivat", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"recipient|address\.email|email address", re.IGNORECASE)
_INVALID_DOMAIN: Final = "7001"


def errors_of(response: HttpResponse) -> str:
    """Its errors in one line: message, description and code of each."""
    said = response.json()
    errors = said.get("errors") if isinstance(said, dict) else None
    return "; ".join(_text(each) for each in errors if isinstance(each, dict)) if isinstance(errors, list) else ""


def judge(envelope: Envelope, response: HttpResponse, host: str) -> Sequence[Outcome] | None:
    """One outcome per recipient; None where it took some of several and did not say which."""
    count = len(envelope.recipients)
    if response.status // 100 != 2:
        return (refused(response, host),) * count
    said = response.json()
    results = said.get("results") if isinstance(said, dict) else None
    results = results if isinstance(results, dict) else {}
    taken = Outcome(
        Verdict.RELAYED,
        Scope.RECIPIENT,
        "2.0.0",
        printable(f"HTTP {response.status} Ok {results.get('id') or ''}").rstrip(),
    )
    rejected = results.get("total_rejected_recipients") or 0
    if not isinstance(rejected, int) or rejected <= 0:
        return (taken,) * count
    told = results.get("rcpt_to_errors")
    errors = [_text(each) for each in told if isinstance(each, dict)] if isinstance(told, list) else []
    if rejected >= count:
        texts: list[str | None] = [errors[0] if errors else "recipient rejected"] * count
    else:
        texts = _attributed(envelope, errors)
        if sum(text is not None for text in texts) != rejected:
            return None
    return tuple(taken if text is None else _rejected(response, text, host) for text in texts)


def is_about_some_address(response: HttpResponse) -> bool:
    """Whether one recipient's address may be all that was wrong."""
    return response.status in {400, 422} and _ADDRESS.search(errors_of(response)) is not None


def refused(response: HttpResponse, host: str) -> Outcome:
    """What an error means for the whole transmission, or for the upstream."""
    text = errors_of(response)
    status = response.status
    if status == 420:
        return refusal(response, text, host=host, scope=Scope.UPSTREAM, dsn="4.7.0", trouble=Trouble.QUOTA)
    if status in {401, 403} and _SUSPENDED.search(text):
        return refusal(response, text, host=host, scope=Scope.UPSTREAM, dsn="4.7.0", trouble=Trouble.ACCOUNT)
    if status == 400 and _INVALID_DOMAIN in text:
        # Its SMTP side says 550 5.7.1 Unconfigured Sending Domain.
        return refusal(response, text, host=host, verdict=Verdict.FAILED, dsn="5.7.1")
    return by_status(response, text, host=host)


def _attributed(envelope: Envelope, errors: list[str]) -> list[str | None]:
    """The error that names each recipient; none where none does."""
    return [
        next((text for text in errors if each.address.casefold() in text.casefold()), None)
        for each in envelope.recipients
    ]


def _rejected(response: HttpResponse, text: str, host: str) -> Outcome:
    return refusal(response, text, host=host, verdict=Verdict.FAILED, scope=Scope.RECIPIENT, dsn="5.1.3")


def _text(error: dict[str, Any]) -> str:
    words = ": ".join(str(error[key]) for key in ("message", "description") if error.get(key))
    return f"{words} ({error['code']})" if error.get("code") else words
