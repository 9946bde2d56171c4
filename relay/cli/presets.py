"""``relay presets``: what is known of mail providers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from relay.cli.access import CONTEXT, config_option, fail, json_option

if TYPE_CHECKING:
    from relay.config.presets import Preset


@click.group(context_settings=CONTEXT)
@config_option
def presets() -> None:
    """Mail providers: what preset = "NAME" fills in for [upstream.…], and how their refusals are read."""


@presets.command("list", context_settings=CONTEXT)
@config_option
@json_option
def list_(*, as_json: bool) -> None:
    """List all presets."""
    import json

    from relay.cli.text import columns
    from relay.config.presets import presets as known

    found = known()
    if as_json:
        listing = [{"name": each.name, "kind": each.kind, "title": each.title} for each in found.values()]
        click.echo(json.dumps(listing, ensure_ascii=False, indent=2))
    else:
        click.echo(columns([(each.name, each.title) for each in found.values()]))


@presets.command(context_settings=CONTEXT)
@config_option
@click.argument("name")
@json_option
def show(name: str, *, as_json: bool) -> None:
    """Show what a preset sets, the provider's limits, and what its refusals mean."""
    import json

    from relay.config.presets import presets as known

    preset = known().get(name)
    if preset is None:
        fail(f'no preset "{name}": relay presets list names all', 1)
    click.echo(json.dumps(_record(preset), ensure_ascii=False, indent=2) if as_json else _text(preset))


def _record(preset: Preset) -> dict[str, Any]:
    """``relay presets show --json``."""
    return {
        "name": preset.name,
        "title": preset.title,
        "source": preset.source,
        "kind": preset.kind,
        "host": preset.host or None,
        "regions": dict(preset.regions),
        "ports": dict(preset.ports),
        "sets": {**preset.most, **preset.set},
        "limits": dict(preset.most),
        "accepted": preset.accepted or None,
        "idempotency_header": preset.idempotency or None,
        "notes": list(preset.notes),
        "replies": [
            {
                "class": line.trouble.value,
                "match": line.match,
                "commands": [command.value for command in line.commands],
                "said": line.said,
                "source": line.source,
            }
            for line in preset.replies
        ],
    }


def _text(preset: Preset) -> str:
    from relay.config.presets import spelled

    lines = [f"{preset.name}: {preset.title}", f"  {preset.source}", "", "[upstream.NAME]", f'preset = "{preset.name}"']
    if preset.kind != "smtp":
        lines.append(f'# kind = "{preset.kind}"')
    if preset.host:
        lines.append(f'# host = "{preset.host}"')
    lines += [f'# with region = "{region}": host = "{host}"' for region, host in preset.regions.items()]
    lines += [f"# {key} = {spelled(value)}" for key, value in {**preset.most, **preset.set}.items()]
    lines += ["", *(f"* {note}" for note in preset.notes)]
    if preset.most:
        lines.append(f"* Documented limits: {', '.join(f'{key} {value}' for key, value in preset.most.items())}.")
    if preset.idempotency:
        lines.append(f"* Each message bears {preset.idempotency}.")
    lines += ["", "Refusals with a meaning of their own, the first that fits:"]
    lines += [f"  {line.trouble.value:<12}{line.said}" for line in preset.replies]
    return "\n".join(lines)
