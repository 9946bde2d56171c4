"""What must hold in a ``[listener.NAME]`` and a ``[user.NAME]``: no open relay, no password in clear on a network."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Iterator
from typing import Final

from relay.config.certificates import flaw_of_chain
from relay.config.problems import Problem, table_name
from relay.config.tables import Table
from relay.config.values import is_local
from relay.settings import ListenerSettings, Settings, UserSettings

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
_READABLE_BY_ALL: Final = 0o004


def listener_problems(file: str, listener: Table[ListenerSettings], *, has_users: bool) -> Iterator[Problem]:
    """What does not go together in a listener."""
    yield from _for_nobody(file, listener)
    yield from _open_relay(file, listener)
    yield from _tls(file, listener)
    yield from _auth(file, listener, has_users=has_users)


def user_problems(file: str, user: Table[UserSettings]) -> Iterator[Problem]:
    """What a user lacks."""
    if "password_hash" not in user.bad and not user.value.password_hash.value:
        yield user.problem(file, "password_hash", "nothing", "what relay user hash prints")


def listener_warnings(settings: Settings) -> Iterator[str]:
    """What works but is likely not meant."""
    for listener in settings.listeners:
        where = f"[{table_name('listener', listener.name)}]"
        if _strangers_may_send(listener):
            for network in _public(listener.networks):
                yield f"{where} networks: anybody in {network}, a public network, can send through this relay"
        if listener.max_message_size > settings.spool.max_size:
            yield f"{where} max_message_size is above [spool] max_size: such messages are refused for ever"
        key = (listener.tls_key or listener.tls_cert) if listener.tls != "none" else None
        if key is not None and os.stat(key).st_mode & _READABLE_BY_ALL:  # noqa: PTH116 - a plain string
            yield f"{where} {key} holds a private key that everybody on this machine can read"


def _strangers_may_send(listener: ListenerSettings) -> bool:
    """Whether being in ``networks`` is all it takes; a proxy in front brings clients from anywhere."""
    return listener.auth != "required" and (bool(listener.proxy_networks) or not is_local(listener.address))


def _for_nobody(file: str, listener: Table[ListenerSettings]) -> Iterator[Problem]:
    """An address that others reach, and nothing said of who may send: the default lets in this machine alone."""
    settings = listener.value
    if listener.bad & {"address", "networks", "auth"} or "networks" in listener.raw or is_local(settings.address):
        return
    if settings.auth == "none":
        found = f"nothing beside the address {settings.address}, which other machines reach"
        allowed = 'who may send, such as ["10.0.0.0/8"]; or auth = "required" and networks'
        yield listener.problem(file, "networks", found, allowed)


def _open_relay(file: str, listener: Table[ListenerSettings]) -> Iterator[Problem]:
    settings = listener.value
    if listener.bad & {"address", "networks", "auth", "proxy_networks"} or not _strangers_may_send(settings):
        return
    for network in _public(settings.networks):
        if network.prefixlen < _WIDEST_PUBLIC[network.version]:
            found = f'"{network}" on {settings.address}, an open relay'
            allowed = 'private networks, or public ones of your own, or auth = "required"'
            yield listener.problem(file, "networks", found, allowed)


def _tls(file: str, listener: Table[ListenerSettings]) -> Iterator[Problem]:
    settings = listener.value
    if listener.bad & {"tls", "tls_cert", "tls_key"}:
        return
    if settings.tls_cert is None:
        if settings.tls != "none":
            yield listener.problem(file, "tls_cert", f'nothing beside tls = "{settings.tls}"', "a certificate in PEM")
        elif settings.tls_key is not None:
            found = "nothing beside tls_key"
            yield listener.problem(file, "tls_cert", found, "the certificate that the key is for")
        return
    chain = flaw_of_chain(settings.tls_cert, settings.tls_key)
    if chain is not None:
        allowed = "a certificate in PEM, its key in the same file or in tls_key, without a passphrase"
        yield listener.problem(file, "tls_cert", chain, allowed)


def _auth(file: str, listener: Table[ListenerSettings], *, has_users: bool) -> Iterator[Problem]:
    settings = listener.value
    if listener.bad & {"auth", "tls", "address"} or settings.auth == "none":
        return
    if not has_users:
        yield listener.problem(file, "auth", f'"{settings.auth}" and no [user.NAME]', '"none", or users who may log in')
    if settings.tls == "none" and not is_local(settings.address):
        found = f'"{settings.auth}" without TLS on {settings.address}'
        allowed = 'tls = "starttls" or "implicit"; without it a loopback address or a Unix socket'
        yield listener.problem(file, "auth", found, allowed)


def _public(networks: Iterable[str]) -> Iterator[_IPNetwork]:
    """Those that are not wholly private; IPv4 in IPv6's clothes counts as IPv4."""
    for text in networks:
        network: _IPNetwork = ipaddress.ip_network(text)
        if network.version == 6 and network.subnet_of(_MAPPED):
            low = int(network.network_address) & 0xFFFFFFFF
            network = ipaddress.IPv4Network((low, network.prefixlen - 96))
        if not any(p.version == network.version and network.subnet_of(p) for p in _PRIVATE):  # type: ignore[arg-type]
            yield network
