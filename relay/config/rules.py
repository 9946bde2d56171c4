"""What must hold between keys: no open relay, an upstream that can be reached, credentials that are whole.

A rule keeps silent where one of its keys could not be read: that was said already.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from relay.config.problems import Problem
from relay.config.tables import Table
from relay.config.values import is_loopback, split_address
from relay.settings import ListenerSettings, Settings, UpstreamSettings

FINAL_REPLY_TIMEOUT_LEAST: Final = 600.0
"""Seconds that a client waits for the reply to the final dot (RFC 5321 §4.5.3.2.6)."""

_IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
_PRIVATE: Final[tuple[_IPNetwork, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_WIDEST_PUBLIC: Final = {4: 16, 6: 32}
"""The shortest prefix of a public network that one organisation has; anything wider is the Internet."""


def check(
    file: str, listeners: Sequence[Table[ListenerSettings]], upstreams: Sequence[Table[UpstreamSettings]]
) -> Iterator[Problem]:
    """Everything that does not go together."""
    addresses: dict[str, str] = {}
    for listener in listeners:
        yield from _listener(file, listener)
        address = listener.value.address
        if "address" not in listener.bad and addresses.setdefault(address, listener.name) != listener.name:
            found = f'"{address}", which [{addresses[address]}] has'
            yield listener.problem(file, "address", found, "another address for each listener")
    for upstream in upstreams:
        yield from _upstream(file, upstream)


def warnings(settings: Settings) -> tuple[str, ...]:
    """What works but is likely not meant; one sentence each, for the log and ``relay check``."""
    return (*_listener_warnings(settings), *_upstream_warnings(settings))


def _listener(file: str, listener: Table[ListenerSettings]) -> Iterator[Problem]:
    if listener.bad & {"address", "networks"} or is_loopback(split_address(listener.value.address)[0]):
        return
    for network in _public(listener.value.networks):
        if network.prefixlen < _WIDEST_PUBLIC[network.version]:
            found = f'"{network}" on {listener.value.address}, an open relay'
            yield listener.problem(file, "networks", found, "private networks, or public ones of your own")


def _upstream(file: str, upstream: Table[UpstreamSettings]) -> Iterator[Problem]:
    settings = upstream.value
    if not upstream.bad & {"kind", "host"} and settings.kind == "smtp" and not settings.host:
        yield upstream.problem(file, "host", "nothing", "a host name or an IP address, as the kind is smtp")
    if upstream.bad & {"username", "password"}:
        return
    if settings.username is None and settings.password is not None:
        yield upstream.problem(file, "username", "nothing beside a password", "the user that the password is for")
    if settings.username is not None and settings.password is None:
        found = "nothing beside a username"
        yield upstream.problem(file, "password", found, "password, password_file, password_env or password_credential")


def _listener_warnings(settings: Settings) -> Iterator[str]:
    for listener in settings.listeners:
        where = f"[listener.{listener.name}]"
        if not is_loopback(split_address(listener.address)[0]):
            for network in _public(listener.networks):
                yield f"{where} networks: anybody in {network}, a public network, can send through this relay"
        if listener.max_message_size > settings.spool.max_size:
            yield f"{where} max_message_size is above [spool] max_size: such messages are refused for ever"


def _upstream_warnings(settings: Settings) -> Iterator[str]:
    for upstream in settings.upstreams:
        where = f"[upstream.{upstream.name}]"
        if upstream.final_reply_timeout < FINAL_REPLY_TIMEOUT_LEAST:
            yield f"{where} final_reply_timeout is below 10m: taken mail may be sent twice (RFC 5321 §4.5.3.2.6)"
        if upstream.kind != "smtp" or is_loopback(upstream.host):
            continue
        if upstream.tls == "none" and upstream.username is not None:
            yield f'{where} tls = "none": the password crosses the network in clear'
        if upstream.tls != "none" and not upstream.tls_verify:
            yield f"{where} tls_verify = false: anybody on the way can read mail and password"
        if "." not in settings.hostname and ":" not in settings.hostname:
            yield f"hostname: {settings.hostname} is no full domain name; some servers refuse it in EHLO"


def _public(networks: Iterable[str]) -> Iterator[_IPNetwork]:
    """Those that are not wholly private; IPv4 in IPv6's clothes counts as IPv4."""
    for text in networks:
        network: _IPNetwork = ipaddress.ip_network(text)
        if network.version == 6 and network.subnet_of(_MAPPED):
            low = int(network.network_address) & 0xFFFFFFFF
            network = ipaddress.IPv4Network((low, network.prefixlen - 96))
        if not any(p.version == network.version and network.subnet_of(p) for p in _PRIVATE):  # type: ignore[arg-type]
            yield network
