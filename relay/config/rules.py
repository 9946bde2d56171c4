"""What must hold between keys: no open relay, an upstream that can be reached, credentials that are whole.

A rule keeps silent where one of its keys could not be read: that was said already.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from relay.config.aws import iam_problems
from relay.config.certificates import flaw_of_chain, flaw_of_trust
from relay.config.dkim import dkim_warnings
from relay.config.folders import folder_warnings
from relay.config.http import http_warnings
from relay.config.kinds import kind_problems
from relay.config.listeners import listener_problems, listener_warnings, user_problems
from relay.config.presets import contradictions
from relay.config.problems import Problem, table_name
from relay.config.routes import route_warnings
from relay.config.tables import Table
from relay.config.values import is_loopback, leads_to
from relay.settings import ListenerSettings, Settings, UpstreamSettings, UserSettings
from relay.upstream.addresses import of_family

FINAL_REPLY_TIMEOUT_LEAST: Final = 600.0
"""Seconds that a client waits for the reply to the final dot (RFC 5321 §4.5.3.2.6)."""


def check(
    file: str,
    listeners: Sequence[Table[ListenerSettings]],
    upstreams: Sequence[Table[UpstreamSettings]],
    users: Sequence[Table[UserSettings]],
) -> Iterator[Problem]:
    """Everything that does not go together."""
    addresses: dict[str, str] = {}
    for listener in listeners:
        yield from listener_problems(file, listener, has_users=bool(users))
        address = listener.value.address
        if "address" not in listener.bad and addresses.setdefault(address, listener.name) != listener.name:
            found = f'"{address}", which [{addresses[address]}] has'
            yield listener.problem(file, "address", found, "another address for each listener")
    for user in users:
        yield from user_problems(file, user)
    for upstream in upstreams:
        yield from _upstream(file, upstream)
        yield from _own_door(file, upstream, listeners)


def warnings(settings: Settings) -> tuple[str, ...]:
    """What works but is likely not meant; one sentence each, for the log and ``relay check``."""
    return (
        *folder_warnings(settings),
        *listener_warnings(settings),
        *http_warnings(settings),
        *_upstream_warnings(settings),
        *dkim_warnings(settings),
        *contradictions(settings),
        *route_warnings(settings),
    )


def _upstream(file: str, upstream: Table[UpstreamSettings]) -> Iterator[Problem]:
    settings = upstream.value
    if not upstream.bad & {"kind", "host"} and settings.kind == "smtp" and not settings.host:
        yield upstream.problem(file, "host", "nothing", "a host name or an IP address, as the kind is smtp")
    yield from kind_problems(file, upstream)
    yield from iam_problems(file, upstream)
    yield from _upstream_tls(file, upstream)
    yield from _upstream_limits(file, upstream)
    family, sources = settings.address_family, settings.source_addresses
    if not upstream.bad & {"address_family", "source_addresses"} and sources and not of_family(sources, family):
        found = f'no such address beside address_family = "{family}"'
        yield upstream.problem(file, "source_addresses", found, "an address of that family")
    if upstream.bad & {"username", "password"}:
        return
    if settings.username is None and settings.password is not None:
        yield upstream.problem(file, "username", "nothing beside a password", "the user that the password is for")
    elif settings.username is None and settings.kind == "smtp" and _names_a_mechanism(upstream):
        # Who says how to log in means to.
        found = f'nothing beside auth = "{settings.auth}"'
        yield upstream.problem(file, "username", found, "the user to log in as")
    if settings.username is not None and settings.password is None and settings.oauth2 is None:
        found = "nothing beside a username"
        yield upstream.problem(file, "password", found, "password, password_file, password_env or password_credential")


def _own_door(
    file: str, upstream: Table[UpstreamSettings], listeners: Sequence[Table[ListenerSettings]]
) -> Iterator[Problem]:
    """Mail to ourselves would go round until it has fifty Received lines."""
    settings = upstream.value
    if settings.kind != "smtp" or upstream.bad & {"kind", "host", "port"} or not settings.host:
        return
    for listener in listeners:
        if "address" not in listener.bad and leads_to(settings.host, settings.port, listener.value.address):
            found = f'"{settings.host}" and port {settings.port}, where [{listener.name}] listens'
            yield upstream.problem(file, "host", found, "another server than this relay itself")


def _upstream_limits(file: str, upstream: Table[UpstreamSettings]) -> Iterator[Problem]:
    known: dict[float, str] = {}
    for limit in upstream.value.limits if "limits" not in upstream.bad else ():
        if limit.window in known:
            found = f'"{known[limit.window]}" and "{limit.text}"'
            yield upstream.problem(file, "limits", found, "one limit for each window")
        known[limit.window] = limit.text


def _names_a_mechanism(upstream: Table[UpstreamSettings]) -> bool:
    return "auth" not in upstream.bad and upstream.value.auth != "auto"


def _upstream_tls(file: str, upstream: Table[UpstreamSettings]) -> Iterator[Problem]:
    settings, bad = upstream.value, upstream.bad
    if "tls" not in bad and settings.tls == "opportunistic" and "username" in upstream.raw:
        # Nobody was asked whether the password may go to whoever answers, or in clear.
        found = '"opportunistic" beside a username'
        yield upstream.problem(file, "tls", found, '"starttls" or "implicit", which keep the password safe')
    trust = flaw_of_trust(settings.tls_ca) if settings.tls_ca is not None else None
    if trust is not None:
        yield upstream.problem(file, "tls_ca", trust, "certificates in PEM")
    if bad & {"tls_cert", "tls_key"}:
        return
    if settings.tls_key is not None and settings.tls_cert is None:
        yield upstream.problem(file, "tls_cert", "nothing beside tls_key", "the certificate that the key is for")
    chain = flaw_of_chain(settings.tls_cert, settings.tls_key) if settings.tls_cert is not None else None
    if chain is not None:
        allowed = "a certificate in PEM, its key in the same file or in tls_key, without a passphrase"
        yield upstream.problem(file, "tls_cert", chain, allowed)


def _upstream_warnings(settings: Settings) -> Iterator[str]:
    for upstream in settings.upstreams:
        where = f"[{table_name('upstream', upstream.name)}]"
        if upstream.final_reply_timeout < FINAL_REPLY_TIMEOUT_LEAST:
            yield f"{where} final_reply_timeout is below 10m: taken mail may be sent twice (RFC 5321 §4.5.3.2.6)"
        if upstream.kind in {"ses", "sparkpost"} and not upstream.tls_verify:
            yield f"{where} tls_verify = false: anybody on the way can read mail and key"
        if upstream.kind == "smtp" and upstream.tls == "none" and not upstream.tls_verify:
            yield f'{where} tls_verify has no meaning beside tls = "none": there is no TLS'
        if upstream.kind != "smtp" or is_loopback(upstream.host):
            continue
        if upstream.tls == "none" and upstream.username is not None:
            yield f'{where} tls = "none": the password crosses the network in clear'
        if upstream.tls == "opportunistic":
            yield f'{where} tls = "opportunistic": anybody on the way can read mail'
        elif upstream.tls != "none" and not upstream.tls_verify:
            yield f"{where} tls_verify = false: anybody on the way can read mail and password"
        if "." not in settings.hostname and ":" not in settings.hostname:
            yield f"hostname: {settings.hostname} is no full domain name; some servers refuse it in EHLO"
