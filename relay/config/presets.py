"""Presets of ``[upstream.NAME]``: what is known of a provider, read from ``relay/upstream/presets.toml``.

A preset fills in keys that the configuration leaves open, names the provider's limits, and brings the table that its
refusals are judged by. What it fills in is spelled and read as if it stood in relay.toml.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from relay.config.environment import Variable
from relay.config.problems import Unreadable, describe, table_name
from relay.config.tables import TableReader
from relay.outcome import Command, ReplyRule, Trouble
from relay.settings import Provider, Settings, UpstreamSettings

GENERIC: Final = "generic"
LOCALHOST: Final = "localhost"
_OF_KIND: Final = {"ses": "ses-api", "sparkpost": "sparkpost-api"}
"""An API has one provider: its preset needs no naming."""
_FILE: Final = Path(__file__).parents[1] / "upstream" / "presets.toml"
_REGION: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class ReplyLine:
    """One line of a reply table as the file has it; ``said`` is a reply of that kind, ``source`` where it was found."""

    trouble: Trouble
    match: str
    said: str
    source: str
    commands: tuple[Command, ...] = ()

    def rule(self) -> ReplyRule:
        """The line as replies are judged by it."""
        return ReplyRule(self.trouble, re.compile(self.match), frozenset(self.commands))


@dataclass(frozen=True, slots=True)
class Preset:
    """A provider. ``set`` are keys and their values as relay.toml spells them, ``most`` those that are its limits.

    ``accepted`` is a regular expression with the group ``id``; ``replies`` end with the generic ones.
    """

    name: str
    title: str
    source: str
    kind: str = "smtp"
    host: str = ""
    regions: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, list[int]] = field(default_factory=dict)
    set: Mapping[str, Any] = field(default_factory=dict)
    most: Mapping[str, Any] = field(default_factory=dict)
    accepted: str = ""
    idempotency: str = ""
    notes: tuple[str, ...] = ()
    replies: tuple[ReplyLine, ...] = ()

    def provider(self) -> Provider:
        """What no key sets."""
        return Provider(tuple(line.rule() for line in self.replies), self.accepted, self.idempotency)


def presets() -> dict[str, Preset]:
    """All there are, by name, as the file has them."""
    document = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    generic = tuple(map(_line, document[GENERIC]["replies"]))
    return {name: _preset(name, table, generic) for name, table in document.items()}


def fill_in(
    raw: Mapping[str, Any], known: Mapping[str, Preset]
) -> tuple[dict[str, Any], Provider, list[tuple[str, Unreadable]]]:
    """The table of an upstream with its preset's keys behind its own, the provider, and each key that is wrong."""
    name = _text(raw.get("preset", _OF_KIND.get(str(_text(raw.get("kind"))), GENERIC)))
    preset = known.get(name) if isinstance(name, str) else None
    if preset is None:
        allowed = f"{', '.join(sorted(known))} (relay presets list)"
        return dict(raw), known[GENERIC].provider(), [("preset", Unreadable(describe(name), allowed))]
    if _text(raw.get("kind", preset.kind)) != preset.kind:
        # Another kind has other keys; what its server says is judged by the table all the same.
        return dict(raw), preset.provider(), []
    filled: dict[str, Any] = {**preset.most, **preset.set, **dict(_channel(preset, raw))}
    if preset.kind != "smtp":
        filled |= {"kind": preset.kind, "preset": preset.name}
    wrong = []
    if preset.host and "host" not in raw:
        try:
            filled["host"] = _host(preset, _text(raw.get("region")))
        except Unreadable as why:
            wrong.append(("region", why))
            filled["host"] = preset.host.format(region="region")  # complained of once
    return {**filled, **raw}, preset.provider(), wrong


def contradictions(settings: Settings) -> Iterator[str]:
    """Where the configuration goes beyond what a provider bears; one sentence each."""
    known = presets()
    for upstream in settings.upstreams:
        if upstream.preset != GENERIC:
            yield from _contradictions(upstream, known[upstream.preset])
        elif fitting := [each for each in known.values() if _is_its_host(each, upstream.host)]:
            where, preset = f"[{table_name('upstream', upstream.name)}]", fitting[0]
            yield (
                f'{where} host: that is {preset.title}; preset = "{preset.name}" knows its limits, and its refusals,'
                " of which some return mail without it that could wait"
            )


def _is_its_host(preset: Preset, host: str) -> bool:
    if host in preset.regions.values():
        return True
    before, region, behind = preset.host.partition("{region}")
    if not region:
        return bool(before) and host == before and preset.name != LOCALHOST
    return host.startswith(before) and host.endswith(behind)


def _contradictions(upstream: UpstreamSettings, preset: Preset) -> Iterator[str]:
    where = f"[{table_name('upstream', upstream.name)}]"
    limits = preset_limits(preset)
    for key, most in limits.items():
        value = getattr(upstream, key)
        if value > most or (value == 0 and most > 0):
            found = f"{value:g}" if value else "no limit"
            yield f"{where} {key}: {found} is above what {preset.title} allows, {preset.most[key]} ({preset.source})"
    allowed = preset.ports.get(upstream.tls, [])
    its_own = upstream.host in {preset.host.format(region=upstream.region), *preset.regions.values()}
    if preset.ports and its_own and upstream.port not in allowed:
        ports = " and ".join(f"{', '.join(map(str, each))} for {tls}" for tls, each in preset.ports.items() if each)
        yield f'{where} port {upstream.port} with tls = "{upstream.tls}": {preset.title} has {ports}'


def preset_limits(preset: Preset) -> dict[str, float]:
    """The provider's limits as numbers: seconds, octets, counts."""
    table, problems = TableReader(str(_FILE), _FILE.parent).read(
        UpstreamSettings, preset.name, preset.most, {"name": preset.name, "provider": Provider()}
    )
    assert not problems, problems
    return {key: getattr(table.value, key) for key in preset.most}


def _channel(preset: Preset, raw: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Port and TLS belong together: where the configuration names one, the other follows."""
    port, tls = _text(raw.get("port")), _text(raw.get("tls"))
    for name, ports in preset.ports.items():
        if port in ports and tls is None:
            yield "tls", name
        if tls == name and port is None and ports:
            yield "port", ports[0]


def _host(preset: Preset, region: object) -> str:
    if preset.regions:
        if region is None:
            return preset.host
        if isinstance(region, str) and region in preset.regions:
            return preset.regions[region]
        raise Unreadable(describe(region), " or ".join(f'"{each}"' for each in preset.regions))
    if "{region}" not in preset.host:
        if region is None:
            return preset.host
        raise Unreadable(describe(region), f"no such key: {preset.title} has one host for all")
    if isinstance(region, str) and _REGION.fullmatch(region):
        return preset.host.format(region=region)
    found = "nothing" if region is None else describe(region)
    raise Unreadable(found, f'the region of the account, such as "eu-west-1", as the host is {preset.host}')


def _text(value: object) -> object:
    return value.toml if isinstance(value, Variable) else value


def _preset(name: str, table: Mapping[str, Any], generic: tuple[ReplyLine, ...]) -> Preset:
    known = {each.name for each in fields(Preset)}
    assert table.keys() <= known, f"{name}: {sorted(table.keys() - known)}"
    own = tuple(map(_line, table.get("replies", []))) if name != GENERIC else ()
    return Preset(**{**table, "name": name, "notes": tuple(table.get("notes", ())), "replies": own + generic})


def _line(table: Mapping[str, Any]) -> ReplyLine:
    commands = tuple(Command(each) for each in table.get("commands", []))
    return ReplyLine(Trouble(table["class"]), table["match"], table["said"], table["source"], commands)


def spelled(value: object) -> str:
    """A value of a preset as TOML spells it."""
    match value:
        case dict():
            return f"{{ {', '.join(f'{key} = {spelled(each)}' for key, each in value.items())} }}"
        case list():
            return f"[{', '.join(map(spelled, value))}]"
        case _:
            return json.dumps(value, ensure_ascii=False)
