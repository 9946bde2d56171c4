"""Whether the signatures of a message hold, by dkimpy: the one module that imports it.

The library raises many things on odd mail; what it raises becomes a result here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import dkim

from relay.dkim.fields import signed_domains, split, value_of
from relay.dkim.records import record_name

MIN_KEY: Final = 1024
"""Bits of an RSA key that is believed at all (RFC 8301 §3.2)."""
_MAX_SIGNATURES: Final = 50


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one signature, from the top; ``algorithm``, ``domain`` and ``selector`` are as it claims them."""

    domain: str
    selector: str
    algorithm: str
    passed: bool
    reason: str = ""


def verify(message: bytes, lookup: Callable[[str], str | None]) -> list[Result]:
    """Each signature's result; ``lookup`` gives the text of the TXT record at a name, None where there is none."""
    header = message.partition(b"\r\n\r\n")[0] + b"\r\n"
    signatures = [field for name, field in split(header) if name == b"dkim-signature"][:_MAX_SIGNATURES]
    return [_result(message, n, field, lookup) for n, field in enumerate(signatures)]


def _result(message: bytes, n: int, field: bytes, lookup: Callable[[str], str | None]) -> Result:
    tags = _tags(field)
    domain = next(signed_domains([(b"dkim-signature", field)]), "")
    claims = (domain, tags.get("s", ""), tags.get("a", ""))
    name = record_name(claims[1], domain)
    text = lookup(name)
    if text is None:
        return Result(*claims, passed=False, reason=f"no record at {name}")
    reason = "the signature is not this message's, or not this key's"
    try:
        passed = dkim.DKIM(message, minkey=MIN_KEY).verify(n, dnsfunc=lambda _name, timeout=5: text.encode())  # noqa: ARG005
    except dkim.DKIMException as error:
        passed, reason = False, str(error) or type(error).__name__
    except Exception as error:  # noqa: BLE001 - the library's parsers stumble over odd fields and records
        passed, reason = False, f"can't be verified ({type(error).__name__})"
    return Result(*claims, passed=bool(passed), reason="" if passed else reason)


def _tags(field: bytes) -> dict[str, str]:
    pairs = (tag.partition("=") for tag in value_of(field).decode("utf-8", "replace").split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs}
