"""What SES answers, as outcomes: SendEmail's errors and the common ones of the API v2 Reference. Pure.

Of a refusal that names addresses only these recipients fail: the others go again without them, at no cost.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from relay.mail import Envelope
from relay.outcome import Outcome, Scope, Trouble, Verdict
from relay.upstream.http.request import HttpResponse, by_status, printable, refusal

_DAILY: Final = re.compile(r"quota|24[ -]?hour|daily", re.IGNORECASE)
_SUSPENDED: Final = re.compile(r"sending (?:is |has been )?(?:paused|suspended|disabled)", re.IGNORECASE)
_IDENTITIES: Final = re.compile(r"identities failed the check in region [^:]+: (?P<names>.+)", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"address|@domain|recipient", re.IGNORECASE)
_IDENTITY: Final = re.compile(r":identity/", re.IGNORECASE)

_THROTTLED: Final = frozenset(
    {"TooManyRequestsException", "LimitExceededException", "ThrottlingException", "Throttling", "RequestLimitExceeded"}
)
_ACCOUNT: Final = frozenset({"AccountSuspendedException", "SendingPausedException", "OptInRequired"})
_AUTH: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotAuthorized",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException"})
"""Said of credentials that were good: newer ones may be at hand."""


def error_of(response: HttpResponse) -> tuple[str, str]:
    """The error's code and its text: x-amzn-ErrorType, or what stands in the JSON."""
    said = response.json()
    said = said if isinstance(said, dict) else {}
    code = response.fields.get("x-amzn-errortype") or said.get("__type") or said.get("code") or said.get("Code") or ""
    code = str(code).partition(":")[0].rpartition("#")[2].strip()
    return code, str(said.get("message") or said.get("Message") or "")


def judge(envelope: Envelope, response: HttpResponse, host: str) -> Sequence[Outcome]:
    """One outcome per recipient; SES takes or refuses a message as a whole."""
    count = len(envelope.recipients)
    if response.status // 100 == 2:
        said = response.json()
        message_id = said.get("MessageId") if isinstance(said, dict) else None
        detail = printable(f"HTTP {response.status} Ok {message_id or ''}").rstrip()
        return (Outcome(Verdict.RELAYED, Scope.RECIPIENT, "2.0.0", detail),) * count
    code, text = error_of(response)
    named = _IDENTITIES.search(text)
    if named is not None:
        names = {name.strip().casefold() for name in named["names"].split(",")}
        unverified = [each.address.casefold() in names for each in envelope.recipients]
        if any(unverified) and envelope.sender.casefold() not in names:
            return _unverified(unverified, response, f"{code}: {text}", host)
    return (refused(response, code, text, host),) * count


def is_about_some_address(response: HttpResponse) -> bool:
    """Whether one recipient's address may be all that was wrong, and SES does not say which."""
    code, text = error_of(response)
    return code == "BadRequestException" and _ADDRESS.search(text) is not None


def refused(response: HttpResponse, code: str, text: str, host: str) -> Outcome:
    """What an error means for the whole message, or for the upstream."""
    said = f"{code}: {text}" if code else text
    if code in _THROTTLED:
        trouble = Trouble.QUOTA if _DAILY.search(text) else Trouble.RATE
        return refusal(response, said, host=host, scope=Scope.UPSTREAM, dsn="4.7.0", trouble=trouble)
    if code in _ACCOUNT or (code == "MessageRejected" and _SUSPENDED.search(text)):
        return refusal(response, said, host=host, scope=Scope.UPSTREAM, dsn="4.7.0", trouble=Trouble.ACCOUNT)
    if code.startswith("AccessDenied") and _IDENTITY.search(text):
        # The policy names senders: this message's is not among them, others' may be. Kept: somebody can mend it.
        return refusal(response, said, host=host, dsn="4.7.1")
    if code in _AUTH:
        return refusal(response, said, host=host, scope=Scope.UPSTREAM, dsn="4.7.0", trouble=Trouble.AUTH)
    if code == "MailFromDomainNotVerifiedException":
        # SES could not read the MX record of the sender's MAIL FROM domain: one domain's DNS, and it comes back.
        return refusal(response, said, host=host, dsn="4.4.4")
    if code == "NotFoundException":
        # A configuration set that is not there: every message would hear the same.
        return refusal(response, said, host=host, scope=Scope.UPSTREAM, dsn="4.3.5", trouble=Trouble.ACCOUNT)
    if code == "MessageRejected":
        dsn = "5.7.1" if "verified" in text else "5.6.0"
        return refusal(response, said, host=host, verdict=Verdict.FAILED, dsn=dsn)
    if code == "BadRequestException":
        return refusal(response, said, host=host, verdict=Verdict.FAILED, dsn="5.5.0")
    return by_status(response, said, host=host)


def _unverified(unverified: list[bool], response: HttpResponse, said: str, host: str) -> Sequence[Outcome]:
    """In the sandbox recipients have to be verified too: those named fail, the others were not looked at."""
    failed = refusal(response, said, host=host, verdict=Verdict.FAILED, scope=Scope.RECIPIENT, dsn="5.7.1")
    again = refusal(response, said, host=host, scope=Scope.SESSION, dsn="4.7.1")
    return tuple(failed if each else again for each in unverified)
