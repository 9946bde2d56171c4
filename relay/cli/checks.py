"""What ``relay check --connect`` and ``--dns`` print: a line a finding, or one JSON document."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from relay.checking.findings import Finding, Level, bad, ok
from relay.cli.text import columns
from relay.clock import SystemClock
from relay.control.errors import Exit
from relay.settings import Settings

if TYPE_CHECKING:
    from relay.upstream.resolver import DnsResolver

_DNS_PORT: Final = 53
_SERVER: Final = re.compile(
    r"(?P<v4>[0-9.]+)(?::(?P<port>[0-9]{1,5}))?\Z|\[?(?P<v6>[0-9A-Fa-f:]+)\]?(?:(?<=\]):(?P<port6>[0-9]{1,5}))?\Z"
)


def findings(settings: Settings, *, connect: bool, dns: bool, name_server: str | None) -> list[Finding]:
    """Look at what was asked for."""
    return asyncio.run(_look(settings, connect=connect, resolver=_resolver(name_server) if dns else None))


async def _look(settings: Settings, *, connect: bool, resolver: DnsResolver | None) -> list[Finding]:
    found: list[Finding] = []
    if connect:
        from relay.checking.upstreams import check_upstreams

        found += await check_upstreams(settings, SystemClock())
    if resolver is not None:
        from relay.checking.domains import check_domains

        found += await check_domains(settings, resolver)
    return found


def spool_findings(settings: Settings) -> list[Finding]:
    """Read the whole spool."""
    from relay.control.verbs import exit_of
    from relay.spool import SpoolError
    from relay.spool.examining import examine

    path = Path(settings.spool.path)
    try:
        examined = examine(path)
    except (SpoolError, OSError) as error:
        code = exit_of(error) if isinstance(error, SpoolError) else Exit.UNAVAILABLE
        return [bad("spool", "integrity", str(error), exit=int(code))]
    if examined is None:
        return [ok("spool", "integrity", f"{path} is not made yet")]
    what = f"sound: {examined.messages} open messages, {examined.size} octets, schema {examined.schema}"
    return [ok("spool", "integrity", what, **asdict(examined))]


def _resolver(name_server: str | None) -> DnsResolver:
    from relay.upstream.addresses import is_literal
    from relay.upstream.resolver import DnsResolver

    if name_server is None:
        return DnsResolver()
    found = _SERVER.match(name_server)
    address = (found["v4"] or found["v6"]) if found is not None else ""
    if found is None or not is_literal(address):
        raise click.BadParameter("an IP address is wanted, perhaps with a port", param_hint="--name-server")
    return DnsResolver(servers=(address,), port=int(found["port"] or found["port6"] or _DNS_PORT))


def lines(found: Sequence[Finding]) -> str:
    """A line each, and what it comes to."""
    rows = [(each.level.value, each.subject, each.check, each.what) for each in found]
    failures = sum(each.level is Level.FAIL for each in found)
    doubts = sum(each.level is Level.WARNING for each in found)
    return f"{columns(rows)}\n{len(found)} checks: {failures} failed, {doubts} with a warning"


def document(warnings: Iterable[str], found: Iterable[Finding]) -> str:
    """The same for programs."""
    listed = [
        {
            "level": each.level.value.lower(),
            "subject": each.subject,
            "check": each.check,
            "what": each.what,
            **each.facts,
        }
        for each in found
    ]
    ok = all(each["level"] != "fail" for each in listed)
    return json.dumps({"ok": ok, "warnings": list(warnings), "checks": listed})


def failed(found: Iterable[Finding]) -> int:
    """The exit code: a finding's own one, where it has one."""
    failures = [each for each in found if each.level is Level.FAIL]
    codes = [code for each in failures if isinstance(code := each.facts.get("exit"), int)]
    return max(codes, default=int(bool(failures)))
