"""The suppression list and feedback as operators handle them: through a running delivery, else in the spool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol, runtime_checkable

from relay.clock import Clock
from relay.control.errors import Exit, Refused
from relay.control.records import Record, iso
from relay.feedback import Feedback, Said
from relay.mail import has_domain
from relay.outcome import Reply
from relay.smtp.address import parse_path
from relay.spool import Spool
from relay.suppression import Cause, Suppression, SuppressionQuery

SLICE: Final = 1000
"""Addresses that are listed or taken off in one go."""
ADDRESSES_MOST: Final = 1000
"""Addresses of one request."""
_CAUSES: Final = {cause.value: cause for cause in Cause}


@runtime_checkable
class Suppresses(Protocol):
    """A delivery that keeps the list in memory, and hears what is said of its mail."""

    async def suppress(self, found: Sequence[Suppression]) -> int:
        """These addresses get no mail from now on; how many of them got some."""
        ...

    async def unsuppress(self, digests: Sequence[int]) -> int:
        """These addresses get mail again; how many of them got none."""
        ...

    async def heard(self, said: Sequence[Feedback], upstream: str) -> None:
        """Act on feedback that came by ``upstream``, "" where that is not known."""
        ...


async def listing(spool: Spool, clock: Clock, arguments: Mapping[str, Any]) -> AsyncIterator[list[Record]]:
    """``relay suppress list --json``, slice by slice, in the order they came."""
    query, now = _query(arguments, clock.now()), clock.now()
    while found := await spool.suppressions(query, SLICE):
        yield [_record(each) for _, each in found if each.until is None or each.until > now]
        query = replace(query, after=found[-1][0])


async def suppress(spool: Spool, delivery: object, clock: Clock, arguments: Mapping[str, Any]) -> Record:
    """Suppress ``entries``, each with address, cause and detail; for ``ttl`` seconds, None: until they are removed."""
    ttl = arguments.get("ttl")
    if ttl is not None and not (isinstance(ttl, int | float) and not isinstance(ttl, bool) and ttl > 0):
        raise Refused("ttl is a number of seconds")
    entries = arguments.get("entries")
    if not isinstance(entries, list) or not 0 < len(entries) <= ADDRESSES_MOST:
        raise Refused(f"entries is a list of 1 to {ADDRESSES_MOST}")
    now = clock.now()
    found = [_entry(each, now, None if ttl is None else now + ttl) for each in entries]
    new = await (delivery if isinstance(delivery, Suppresses) else spool).suppress(found)
    return {"suppressed": len(found), "new": new}


async def unsuppress(spool: Spool, delivery: object, clock: Clock, arguments: Mapping[str, Any]) -> Record:
    """Take off what is meant, all of it where ``all`` says so."""
    query = _query(arguments, clock.now())
    if (query == SuppressionQuery()) is not (arguments.get("all") is True):
        raise Refused("name the addresses, or what they have in common, or say all of them")
    removed = 0
    while found := await spool.suppressions(query, SLICE):
        digests = [each.digest for _, each in found]
        removed += await (delivery if isinstance(delivery, Suppresses) else spool).unsuppress(digests)
        query = replace(query, after=found[-1][0])
    return {"removed": removed}


async def heard(delivery: object, arguments: Mapping[str, Any]) -> Record:
    """Act on ``feedback``, a list of what :class:`~relay.feedback.Feedback` holds, that came by ``upstream``."""
    if not isinstance(delivery, Suppresses):
        raise Refused("feedback is for a running relay, which this is not", Exit.UNAVAILABLE)
    given, upstream = arguments.get("feedback"), arguments.get("upstream", "")
    if not isinstance(given, list) or len(given) > ADDRESSES_MOST or not isinstance(upstream, str):
        raise Refused(f"feedback is a list of at most {ADDRESSES_MOST}")
    await delivery.heard([_feedback(each) for each in given], upstream)
    return {"taken": len(given)}


def is_address(text: str) -> bool:
    """Whether mail could go to ``text`` (RFC 5321 §4.1.2), which has a domain."""
    path = parse_path(f"<{text}>")
    return not isinstance(path, Reply) and path.address == text and has_domain(text)


def _query(arguments: Mapping[str, Any], now: float) -> SuppressionQuery:
    addresses, domain, cause = arguments.get("addresses", []), arguments.get("domain"), arguments.get("cause")
    newer = arguments.get("newer_than")
    if not isinstance(addresses, list) or len(addresses) > ADDRESSES_MOST:
        raise Refused(f"addresses is a list of at most {ADDRESSES_MOST}")
    if not all(isinstance(each, str) for each in (*addresses, *([domain] if domain is not None else []))):
        raise Refused("addresses and domain are texts")
    if cause is not None and cause not in _CAUSES:
        raise Refused(f"no cause {cause!r}; allowed: {', '.join(_CAUSES)}")
    if newer is not None and not (isinstance(newer, int | float) and not isinstance(newer, bool) and newer >= 0):
        raise Refused("newer_than is a number of seconds")
    return SuppressionQuery(
        tuple(addresses), domain, None if cause is None else _CAUSES[cause], None if newer is None else now - newer
    )


def _entry(given: object, now: float, until: float | None) -> Suppression:
    entry = given if isinstance(given, dict) else {}
    address, cause, detail = entry.get("address"), entry.get("cause", Cause.OPERATOR.value), entry.get("detail", "")
    if not isinstance(address, str) or not isinstance(detail, str) or cause not in _CAUSES:
        raise Refused("an entry has an address, a cause and a detail")
    if not is_address(address):
        raise Refused(f"no address: {address!r}")
    return Suppression(address, _CAUSES[cause], now, until, detail)


def _feedback(given: object) -> Feedback:
    entry = given if isinstance(given, dict) else {}
    texts = {key: entry.get(key, "") for key in ("recipient", "provider", "sender", "queue_id", "detail")}
    said, hard = entry.get("said"), entry.get("hard", False)
    if not all(isinstance(each, str) for each in texts.values()) or not texts["recipient"]:
        raise Refused("feedback has a recipient")
    if said not in {each.value for each in Said} or not isinstance(hard, bool):
        raise Refused("feedback says complaint or bounce")
    return Feedback(Said(said), hard=hard, **texts)


def _record(found: Suppression) -> Record:
    return {
        "address": found.address,
        "cause": found.cause.value,
        "since": iso(found.at),
        "until": None if found.until is None else iso(found.until),
        "detail": found.detail,
    }
