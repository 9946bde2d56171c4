"""The records by which receivers judge mail of a domain, read: SPF (RFC 7208), DKIM keys (RFC 6376 §3.6.1) and DMARC
(RFC 9989) with its walk up the DNS tree. Pure.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

SPF_LOOKUPS: Final = 10
"""Terms that ask DNS in one evaluation, those of included records with them (RFC 7208 §4.6.4)."""
DMARC_QUERIES: Final = 8
"""Names that the walk asks at the most (RFC 9989)."""

_SPF: Final = re.compile(r"v=spf1(?: |\Z)", re.IGNORECASE)
_DMARC: Final = re.compile(r"[vV][ \t]*+=[ \t]*+DMARC1[ \t]*+(?:;|\Z)")
_TERM: Final = re.compile(
    r"(?P<qualifier>[+?~-]?)(?P<mechanism>all|include|a|mx|ptr|ip4|ip6|exists)(?P<value>[:/].*)?\Z", re.IGNORECASE
)
_MODIFIER: Final = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9_.-]*+)=(?P<value>.*)\Z")
_ASKING: Final = frozenset({"include", "a", "mx", "ptr", "exists"})
_POLICIES: Final = frozenset({"none", "quarantine", "reject"})


@dataclass(frozen=True, slots=True)
class Spf:
    """One record. ``others`` are the records that it draws in, ``lookups`` counts its own terms that ask DNS.

    ``all`` is the qualifier of its "all" ("" where it has none and no redirect), ``flaw`` what can't be read.
    """

    all: str
    others: tuple[str, ...] = ()
    lookups: int = 0
    flaw: str = ""


def is_spf(text: str) -> bool:
    """Whether a TXT record is an SPF record (RFC 7208 §4.5)."""
    return _SPF.match(text) is not None


def read_spf(text: str) -> Spf:
    """Read an SPF record's terms."""
    end, others, lookups = "", [], 0
    redirect = ""
    for term in text.split()[1:]:
        found = _TERM.match(term)
        if found is None:
            modifier = _MODIFIER.match(term)
            if modifier is None:
                return Spf(end, flaw=f"unknown term {term}")
            if modifier["name"].lower() == "redirect":
                redirect = modifier["value"]
            continue
        mechanism, value = found["mechanism"].lower(), found["value"] or ""
        if mechanism in {"include", "exists", "ip4", "ip6"} and len(value) < 2:
            return Spf(end, flaw=f"{mechanism} without its value")
        lookups += mechanism in _ASKING
        if mechanism == "include":
            others.append(value[1:])
        elif mechanism == "all":
            end = found["qualifier"] or "+"
            break  # what stands behind it is never looked at (§5.1)
    if redirect and not end:
        return Spf("redirect", (*others, redirect), lookups + 1)
    return Spf(end, tuple(others), lookups)


def tags(text: str) -> Mapping[str, str]:
    """``name=value; …`` as DKIM and DMARC have it, names in lower case; the first of a name counts."""
    found: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        if equals:
            found.setdefault(name.strip().lower(), value.strip())
    return found


def key_trouble(published: Sequence[str], ours: str) -> tuple[str, str]:
    """What is wrong with the records at a key's name, and what is doubtful; ``ours`` is the record of our key."""
    if len(published) > 1:
        return "there are several records", ""
    given, own = tags(published[0]), tags(ours)
    if given.get("v", "DKIM1") != "DKIM1" or "p" not in given:
        return "it is no DKIM record", ""
    if not given["p"]:
        return "the key is revoked (an empty p=)", ""
    kind = given.get("k", "rsa")
    if kind != own["k"]:
        return f"it has a key of {kind}, ours is of {own['k']}", ""
    if _octets(given["p"]) != _octets(own["p"]):
        return "it has another key than key_file", ""
    if "h" in given and "sha256" not in _words(given["h"]):
        return f"it allows the hash {given['h']} only", ""
    if "s" in given and not _words(given["s"]) & {"*", "email"}:
        return f"it is for the service {given['s']} only", ""
    return "", "it says that the domain only tries DKIM out (t=y)" if "y" in _words(given.get("t", "")) else ""


def _octets(encoded: str) -> bytes | None:
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except binascii.Error:
        return None


def _words(value: str) -> set[str]:
    return {word.strip().lower() for word in value.split(":")}


def dmarc_names(domain: str) -> tuple[str, ...]:
    """The names that are asked for the policy of ``domain``, in order: itself, then up the tree (RFC 9989)."""
    labels = domain.split(".")
    above = labels[1:] if len(labels) < DMARC_QUERIES else labels[-(DMARC_QUERIES - 1) :]
    return tuple(f"_dmarc.{name}" for name in (domain, *(".".join(above[n:]) for n in range(len(above)))))


def is_dmarc(text: str) -> bool:
    """Whether a TXT record is a DMARC policy record."""
    return _DMARC.match(text) is not None


@dataclass(frozen=True, slots=True)
class Dmarc:
    """The policy that receivers are asked to apply to a domain's mail, and where it stands."""

    policy: str
    at: str
    reports: bool
    testing: bool = False


def policy_of(domain: str, found: Mapping[str, str]) -> Dmarc | None:
    """The policy of ``domain``; ``found`` has the one DMARC record of each of :func:`dmarc_names` that has one.

    Its own record counts; else that of its organizational domain: the walk's with psd=n, else the one below psd=y,
    else the one with the fewest labels; else the public suffix's.
    """
    names = dmarc_names(domain)
    if names[0] in found:
        return _dmarc(found, names[0], own=True)
    there = [name for name in names if name in found]
    chosen = there[-1] if there else None
    for name in there:
        psd = tags(found[name]).get("psd", "u").lower()
        if psd == "n":
            chosen = name
            break
        if psd == "y":
            below = [each for each in there if each.count(".") == name.count(".") + 1]
            chosen = below[0] if below else name
            break
    return _dmarc(found, chosen, own=False) if chosen is not None else None


def _dmarc(found: Mapping[str, str], at: str, *, own: bool) -> Dmarc:
    given = tags(found[at])
    policy = given.get("p", "none").lower()
    if not own:
        policy = given.get("sp", policy).lower()
    policy = policy if policy in _POLICIES else "none"
    return Dmarc(policy, at, bool(given.get("rua")), given.get("t", "n").lower() == "y")
