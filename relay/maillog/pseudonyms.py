"""Personal data out of the log (``recipients = "hash"``): a local part becomes a keyed hash of its whole address.

``b@y.example`` is logged as ``1f0c6a…@y.example``, the same wherever it stands and for as long as the key is kept, so
lines can still be put together; who has no key can't find out whose it is, nor tell whether two domains' names are one
person's. Fields that hold an address are replaced, and so is what looks like one in any other text: replies quote
addresses. The domain stays, and so do queue ids, Message-IDs, clients and users of [user.NAME].
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, Final, get_args

from relay.events import Event

_DIGITS: Final = 8
"""Octets of a hash that are shown: 64 bits, so that two of a billion addresses are unlikely to meet."""

_ADDRESS_FIELDS: Final = frozenset({"sender", "recipient"})
_KEPT_FIELDS: Final = frozenset({"queue_id", "message_id", "bounce_id", "bounce_of"})
_FIELDS: Final[dict[type, tuple[str, ...]]] = {
    # What may hold words: everything that is not known to hold none about people.
    of: tuple(field.name for field in fields(of) if field.name not in _KEPT_FIELDS)
    for of in get_args(Event)
}

# What a person would take for an address in a sentence; generous to the left, where VERP and tags stand.
_ADDRESS: Final = re.compile(r"""((?:"[^"]*"|(?!['`{])[^\s<>()\[\]:;,"\\@]+)@(?:[\w-]+(?:\.[\w-]+)*|\[[^\]\s]*\]))""")
_LABELS: Final = frozenset({"from", "to", "orig_to", "sender", "recipient", "user", "sasl_username"})
_WORD_LEAST: Final = 3
"""Characters from which on a bare local part in a sentence is replaced; shorter only in brackets or quotes."""


class Pseudonyms:
    """Names for addresses, by a secret ``key``."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, address: str) -> str:
        """What stands for ``address`` in the log; the null one stays. Capitals make no difference."""
        if not address:
            return ""
        _, at, domain = address.rpartition("@")
        return f"{self._name(address)}{at}{domain if at else ''}"

    def conceal(self, event: Event) -> Event:
        """``event`` as it may be logged."""
        texts = {key: value for key in _FIELDS[type(event)] if (value := getattr(event, key))}
        known = [texts[key] for key in _ADDRESS_FIELDS if key in texts]
        hidden = {
            key: self.of(value) if key in _ADDRESS_FIELDS else self._each(value, known) for key, value in texts.items()
        }
        changed: dict[str, Any] = {key: value for key, value in hidden.items() if value != texts[key]}
        return replace(event, **changed)

    def _name(self, address: str) -> str:
        folded = address.casefold().encode(errors="surrogatepass")
        return hmac.digest(self._key, folded, "sha256")[:_DIGITS].hex()

    def _each(self, value: Any, known: Sequence[str]) -> Any:
        if isinstance(value, str):
            return self._sentence(value, known)
        if isinstance(value, tuple):
            return tuple(self._each(part, known) for part in value)
        return value

    def _sentence(self, text: str, known: Sequence[str]) -> str:
        # Between what looks like an address stands other text: even and odd pieces of a split by one group.
        pieces = _ADDRESS.split(text)
        for address in known:
            local = address.rpartition("@")[0] or address
            if local.casefold() in text.casefold():
                pieces[::2] = [_bare(local).sub(self._name(address), piece) for piece in pieces[::2]]
        pieces[1::2] = map(self._found, pieces[1::2])
        return "".join(pieces)

    def _found(self, token: str) -> str:
        label, equals, rest = token.partition("=")
        return f"{label}={self.of(rest)}" if equals and label.lower() in _LABELS else self.of(token)


def _bare(local: str) -> re.Pattern[str]:
    """A local part that a reply names without its domain ("user bob unknown")."""
    name = re.escape(local)
    short = len(local) < _WORD_LEAST or (len(local) == _WORD_LEAST and local.isdigit())
    pattern = f"(?<=[<\"'`]){name}(?=[>\"'`])" if short else rf"(?<!\w){name}(?!\w)"
    return re.compile(pattern, re.IGNORECASE)
