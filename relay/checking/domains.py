"""``relay check --dns``: SPF, DKIM, DMARC and MX of the domains in use, PTR of the addresses that mail leaves from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from ipaddress import ip_address
from typing import Protocol

from relay.checking import records
from relay.checking.findings import Finding, bad, ok, warn
from relay.dkim.records import record_name
from relay.settings import DkimSettings, Settings
from relay.upstream.names import Found, NameServiceFailed, NoSuchHost, RecordType


class Resolver(Protocol):
    """Who asks DNS; all raise :class:`NoSuchHost` or :class:`NameServiceFailed`."""

    async def __call__(self, name: str, record: RecordType) -> Found:
        """Addresses."""
        ...

    async def texts(self, name: str) -> tuple[str, ...]:
        """TXT records."""
        ...

    async def exchanges(self, name: str) -> tuple[str, ...]:
        """MX hosts."""
        ...

    async def names_of(self, address: str) -> tuple[str, ...]:
        """PTR names."""
        ...


def domains_in_use(settings: Settings) -> tuple[str, ...]:
    """The domains that mail leaves from as far as the configuration names them: of [dkim], of users' ``senders`` and
    of [rewrite]; else the host name.
    """
    named = [domain.name for domain in settings.dkim]
    for user in settings.users:
        named += [sender.rpartition("@")[2] for sender in user.senders if "@" in sender]
    if settings.rewrite.default_domain:
        named.append(settings.rewrite.default_domain)
    whole = [name.lower() for name in named if "*" not in name and "." in name and not name.startswith("[")]
    return tuple(dict.fromkeys(whole)) or (settings.hostname.lower(),)


async def check_domains(settings: Settings, resolver: Resolver) -> list[Finding]:
    """Everything, domain by domain, then address by address."""
    keys = {domain.name: domain for domain in settings.dkim}
    found = await asyncio.gather(
        _host(settings.hostname, resolver),
        *(_domain(name, keys.get(name), resolver) for name in domains_in_use(settings)),
        *(_pointer(address, resolver) for address in _sources(settings)),
    )
    return [finding for findings in found for finding in findings]


def _sources(settings: Settings) -> Iterable[str]:
    addresses = dict.fromkeys(address for upstream in settings.upstreams for address in upstream.source_addresses)
    # Others are translated on the way: what they point to is nobody's business.
    return [address for address in addresses if ip_address(address).is_global]


async def _collect(subject: str, check: str, findings: AsyncIterator[Finding]) -> list[Finding]:
    """All ``findings``, or that no name server answered."""
    found = []
    try:
        async for finding in findings:
            found.append(finding)  # noqa: PERF401 - what came before the failure is kept
    except NameServiceFailed:
        found.append(bad(subject, check, "no name server answers"))
    return found


async def _domain(domain: str, keys: DkimSettings | None, resolver: Resolver) -> list[Finding]:
    parts = await asyncio.gather(
        _collect(domain, "SPF", _spf(domain, resolver)),
        *(_collect(domain, "DKIM", _key(domain, *each, resolver)) for each in _records(keys)),
        _collect(domain, "DMARC", _dmarc(domain, resolver)),
        _collect(domain, "MX", _exchanges(domain, resolver)),
    )
    return [finding for part in parts for finding in part]


async def _texts(name: str, resolver: Resolver) -> tuple[str, ...]:
    try:
        return await resolver.texts(name)
    except NoSuchHost:
        return ()


# -- SPF ---------------------------------------------------------------------------------------------------------------
async def _spf(domain: str, resolver: Resolver) -> AsyncIterator[Finding]:
    found = [text for text in await _texts(domain, resolver) if records.is_spf(text)]
    if len(found) != 1:
        what = "several records: receivers take none of them" if found else "no record: nobody is said to send for it"
        yield bad(domain, "SPF", what)
        return
    record = records.read_spf(found[0])
    lookups, trouble = await _lookups(record, resolver, {domain})
    if record.flaw or trouble:
        yield bad(domain, "SPF", f"{found[0]}: {record.flaw or trouble}", record=found[0])
    elif lookups > records.SPF_LOOKUPS:
        most = f"{records.SPF_LOOKUPS} are allowed (RFC 7208 §4.6.4)"
        yield bad(domain, "SPF", f"{found[0]}: asks DNS {lookups} times, {most}", record=found[0])
    elif record.all == "+":
        yield bad(domain, "SPF", f"{found[0]}: everybody may send for it (+all)", record=found[0])
    elif record.all in {"", "?"}:
        yield warn(domain, "SPF", f"{found[0]}: says nothing of others; ~all or -all would", record=found[0])
    else:
        yield ok(domain, "SPF", found[0], record=found[0], lookups=lookups)


async def _lookups(record: records.Spf, resolver: Resolver, seen: set[str]) -> tuple[int, str]:
    """How often a record asks DNS, with all that it draws in; and what of that can't be had."""
    count = record.lookups
    for name in record.others:
        if "%" in name or name in seen or count > records.SPF_LOOKUPS:
            continue  # a macro depends on the message
        seen.add(name)
        found = [text for text in await _texts(name, resolver) if records.is_spf(text)]
        if len(found) != 1:
            return count, f"{name} has {'several SPF records' if found else 'no SPF record'}"
        inner, trouble = await _lookups(records.read_spf(found[0]), resolver, seen)
        count += inner
        if trouble:
            return count, trouble
    return count, ""


# -- DKIM --------------------------------------------------------------------------------------------------------------
def _records(keys: DkimSettings | None) -> Sequence[tuple[str, str]]:
    """Selector and record of each key."""
    if keys is None:
        return []
    from relay.signing.keys import load_key

    # Their modes were looked at when the configuration was read.
    return [(key.selector, load_key(key.key_file, key.selector, private=False).record()) for key in keys.keys]


async def _key(domain: str, selector: str, ours: str, resolver: Resolver) -> AsyncIterator[Finding]:
    name = record_name(selector, domain)
    published = await _texts(name, resolver)
    if not published:
        yield bad(domain, "DKIM", f"no record at {name}: relay dkim record prints it", selector=selector)
        return
    trouble, doubt = records.key_trouble(published, ours)
    if trouble:
        yield bad(domain, "DKIM", f"{name}: {trouble}", selector=selector)
    elif doubt:
        yield warn(domain, "DKIM", f"{name}: {doubt}", selector=selector)
    else:
        yield ok(domain, "DKIM", f"{name} is our key's", selector=selector)


# -- DMARC -------------------------------------------------------------------------------------------------------------
async def _dmarc(domain: str, resolver: Resolver) -> AsyncIterator[Finding]:
    found: dict[str, str] = {}
    for name in records.dmarc_names(domain):
        there = [text for text in await _texts(name, resolver) if records.is_dmarc(text)]
        if len(there) > 1:
            yield warn(domain, "DMARC", f"{name} has several records: receivers take none of them")
        elif there:
            found[name] = there[0]
            if name == f"_dmarc.{domain}":
                break
    policy = records.policy_of(domain, found)
    if policy is None:
        yield warn(domain, "DMARC", f"no policy at _dmarc.{domain} or above: large receivers want one of bulk senders")
        return
    tried = ", tried out only (t=y)" if policy.testing else ""
    reports = "" if policy.reports else "; nobody gets reports (no rua)"
    yield ok(
        domain,
        "DMARC",
        f"{policy.at}: p={policy.policy}{tried}{reports}",
        policy=policy.policy,
        record=found[policy.at],
    )


# -- MX, addresses, PTR ------------------------------------------------------------------------------------------------
async def _exchanges(domain: str, resolver: Resolver) -> AsyncIterator[Finding]:
    try:
        hosts = await resolver.exchanges(domain)
    except NoSuchHost:
        yield bad(domain, "MX", "there is no such domain")
        return
    if hosts == ("",):
        yield warn(domain, "MX", "it takes no mail (RFC 7505): bounces and replies have nowhere to go")
    elif hosts:
        yield ok(domain, "MX", ", ".join(hosts), hosts=list(hosts))
    elif await _addresses(domain, resolver):
        yield ok(domain, "MX", "none, but an address (RFC 5321 §5.1)", hosts=[domain])
    else:
        yield warn(domain, "MX", "none, and no address: bounces and replies have nowhere to go")


async def _addresses(name: str, resolver: Resolver) -> frozenset[str]:
    found: list[str] = []
    for record in ("AAAA", "A"):
        try:
            found += (await resolver(name, record)).addresses
        except NoSuchHost:
            break
    return frozenset(str(ip_address(each)) for each in found)


async def _host(hostname: str, resolver: Resolver) -> list[Finding]:
    async def look() -> AsyncIterator[Finding]:
        found = await _addresses(hostname, resolver)
        if found:
            yield ok(hostname, "hostname", ", ".join(sorted(found)))
        else:
            yield warn(hostname, "hostname", "no address: some servers refuse such a name in EHLO")

    return await _collect(hostname, "hostname", look())


async def _pointer(address: str, resolver: Resolver) -> list[Finding]:
    async def look() -> AsyncIterator[Finding]:
        try:
            names = await resolver.names_of(address)
        except NoSuchHost:
            names = ()
        if not names:
            yield bad(address, "PTR", "none: many servers refuse mail from such an address")
            return
        for name in names:
            if str(ip_address(address)) in await _addresses(name, resolver):
                yield ok(address, "PTR", f"{name}, and back", name=name)
                return
        yield bad(address, "PTR", f"{', '.join(names)}, whose addresses are others (no forward-confirmed name)")

    return await _collect(address, "PTR", look())
