"""Amazon SNS around a notification: what is signed, by whose certificate, and what a topic is to be answered.

By the SNS Developer Guide, "Verifying the signatures of Amazon SNS messages". A signature shows that Amazon sends it;
only the topic's name shows for whom, as everybody can have a topic and point it here. The arithmetic is the caller's.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from relay.feedback import Unbelievable
from relay.value import dataclass

MESSAGE_MOST: Final = 1_000_000
"""Octets of a request; SNS sends up to 256 KB."""
_HOST: Final = re.compile(r"sns\.[a-z0-9-]{3,}\.amazonaws\.com(?:\.cn)?")
_HASHES: Final[dict[str, Literal["sha1", "sha256"]]] = {"1": "sha1", "2": "sha256"}
"""SHA-1 is what topics are made with, by Amazon's default: a signature can't be moved to another text."""
_NOTIFICATION: Final = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION: Final = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_SIGNED: Final = {
    "Notification": _NOTIFICATION,
    "SubscriptionConfirmation": _CONFIRMATION,
    "UnsubscribeConfirmation": _CONFIRMATION,
}


@dataclass(frozen=True, slots=True)
class SnsMessage:
    """One message of ``topic``, not yet proved: ``signature`` is to be that of ``signed``, by ``hash_name`` and the key
    of the certificate at ``certificate_url``. ``subscribe_url`` is where to confirm a subscription, "" for none. One
    that comes again has the same ``message_id``.
    """

    message_id: str
    topic: str
    text: str
    signed: bytes
    signature: bytes
    hash_name: Literal["sha1", "sha256"]
    certificate_url: str
    subscribe_url: str


def read_message(body: bytes) -> SnsMessage:
    """Read a request's body; raises Unbelievable where it is no message of SNS, or none as Amazon signs them."""
    if len(body) > MESSAGE_MOST:
        raise Unbelievable(f"a message of more than {MESSAGE_MOST} octets")
    try:
        message: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise Unbelievable("a message that is no JSON") from None
    if not isinstance(message, dict) or not all(isinstance(value, str) for value in message.values()):
        raise Unbelievable("a message that is no object of texts")
    kind = message.get("Type")
    names = _SIGNED.get(str(kind))
    if names is None:
        raise Unbelievable("a message of no known type")
    missing = [name for name in names if name not in message and name != "Subject"]
    if missing:
        raise Unbelievable(f"a message without {', '.join(missing)}")
    signed = "".join(f"{name}\n{message[name]}\n" for name in names if name in message)
    try:
        signature = b64decode(message.get("Signature", ""), validate=True)
    except ValueError:
        raise Unbelievable("a signature that is no base64") from None
    hash_name = _HASHES.get(message.get("SignatureVersion", ""))
    if hash_name is None:
        raise Unbelievable("a signature of no known version")
    return SnsMessage(
        message["MessageId"],
        message["TopicArn"],
        message["Message"],
        signed.encode("utf-8", "surrogatepass"),
        signature,
        hash_name,
        _amazons(message.get("SigningCertURL", ""), ".pem"),
        _amazons(message["SubscribeURL"]) if kind == "SubscriptionConfirmation" else "",
    )


def _amazons(url: str, suffix: str = "") -> str:
    """An address of SNS itself: whatever else a message names is not asked."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        port = -1
    if (
        port is not None
        or parts.scheme != "https"
        or "@" in parts.netloc
        or not _HOST.fullmatch(parts.hostname or "")
        or not parts.path.endswith(suffix)
        or not url.isascii()
        or not url.isprintable()
        or " " in url
    ):
        raise Unbelievable("an address that is none of Amazon SNS")
    return url
