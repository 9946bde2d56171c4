"""IP addresses of a host: what /etc/hosts says of it, and in which order they are tried (RFC 8305 §4)."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping
from itertools import chain, zip_longest
from typing import Final, Literal

Family = Literal["any", "ipv4", "ipv6"]

_LOCALHOST: Final = ("::1", "127.0.0.1")


def is_literal(host: str) -> bool:
    """Whether ``host`` is an address already; IPv6 without brackets, with a zone where it has one."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def family_of(address: str) -> socket.AddressFamily:
    """AF_INET6 or AF_INET."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def of_family(addresses: Iterable[str], family: Family) -> tuple[str, ...]:
    """Those of ``addresses`` that ``family`` allows, in their order."""
    return tuple(each for each in addresses if family == "any" or (":" in each) == (family == "ipv6"))


def parse_hosts(text: str) -> Mapping[str, tuple[str, ...]]:
    """hosts(5): each name in lower case with its addresses in the file's order. Lines that are none are left out."""
    found: dict[str, dict[str, None]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if is_literal(address):
            for name in names:
                found.setdefault(name.lower().rstrip("."), {})[address] = None
    return {name: tuple(addresses) for name, addresses in found.items()}


def without_dns(host: str, hosts: Mapping[str, tuple[str, ...]], family: Family) -> tuple[str, ...]:
    """The addresses that need no name server: a literal, /etc/hosts', or localhost's (RFC 6761 §6.3); or none."""
    if is_literal(host):
        return of_family((host,), family)
    name = host.lower().rstrip(".")
    known = of_family(hosts.get(name, ()), family)
    if not known and (name == "localhost" or name.endswith(".localhost")):
        return of_family(_LOCALHOST, family)
    return known


def in_turn(addresses: Iterable[str], failing: Iterable[str], chance: Callable[[], float]) -> tuple[str, ...]:
    """Each family shuffled by ``chance``, the families in turn from IPv6 on (RFC 8305 §4); ``failing`` come last."""
    shuffled = sorted(dict.fromkeys(addresses), key=lambda _: chance())
    v6, v4 = of_family(shuffled, "ipv6"), of_family(shuffled, "ipv4")
    turns = [each for each in chain.from_iterable(zip_longest(v6, v4)) if each is not None]
    last = frozenset(failing)
    return tuple(sorted(turns, key=last.__contains__))
