"""``relay dkim``: keys to sign with, the records that publish them, and whether signatures hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Literal

import click

from relay.cli.access import CONTEXT, config_option, fail, json_option, load_settings

if TYPE_CHECKING:
    from relay.signing.keys import PrivateKey

_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*", re.ASCII)


@click.group(context_settings=CONTEXT)
@config_option
def dkim() -> None:
    """Signatures of mail: [dkim."DOMAIN"] in the configuration."""


def _name(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not _NAME.fullmatch(value):
        raise click.BadParameter("letters, digits, hyphens and dots are wanted")
    return value


_selector_option: Final = click.option(
    "--selector", metavar="NAME", required=True, callback=_name, help="What the key is called in the domain."
)


@dkim.command(context_settings=CONTEXT)
@config_option
@click.option("--domain", metavar="DOMAIN", required=True, callback=_name, help="Whose mail it signs.")
@_selector_option
@click.option("--type", "kind", type=click.Choice(["rsa", "ed25519"]), default="rsa", show_default=True)
@click.option("--bits", type=click.IntRange(1024, 4096), default=2048, show_default=True, help="Of an RSA key.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the key goes; a new file  [default: DOMAIN.SELECTOR.pem]",
)
def keygen(domain: str, selector: str, kind: Literal["rsa", "ed25519"], bits: int, output: Path | None) -> None:
    """Make a key in a file that only its owner can read, and print the record to publish."""
    from relay.signing.keys import make_key, write_key

    key = make_key(selector, kind, bits)
    path = output or Path(f"{domain.lower()}.{selector}.pem")
    try:
        write_key(path, key)
    except OSError as error:
        fail(f"{path}: {error.strerror}", 1)
    click.echo(f"{path}: written; in the configuration:", err=True)
    click.echo(f'[dkim."{domain.lower()}"]', err=True)
    click.echo(f'keys = [ {{ selector = "{selector}", key_file = "{path.absolute()}" }} ]', err=True)
    click.echo("and in the domain:", err=True)
    click.echo(_zone_line(key, domain.lower()))


@dkim.command(context_settings=CONTEXT)
@config_option
@click.option("--domain", metavar="DOMAIN", callback=_name, help="Of this domain only, or whose the key in FILE is.")
@click.option("--selector", metavar="NAME", callback=_name, help="Of this key only, or what the key in FILE is called.")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False))
@click.pass_context
def record(context: click.Context, domain: str | None, selector: str | None, file: str | None) -> None:
    """Print the TXT records of all configured keys, or of the key in FILE, as a zone file has them."""
    from relay.signing.keys import KeyUnusable, load_key

    if file is not None:
        if domain is None or selector is None:
            raise click.UsageError("with FILE, --domain and --selector say where the record stands")
        try:
            click.echo(_zone_line(load_key(file, selector), domain.lower()))
        except KeyUnusable as why:
            fail(f"{file}: {why}", 1)
        return
    shown = 0
    for name, key in _configured(context):
        if domain in {None, name} and selector in {None, key.selector}:
            click.echo(_zone_line(key, name))
            shown += 1
    if not shown:
        fail("no such key is configured", 1)


@dkim.command(context_settings=CONTEXT)
@config_option
@click.option(
    "--record",
    "record_file",
    metavar="FILE",
    type=click.File("r"),
    help="The key's TXT record, bare or as a zone file has it, instead of what the domain publishes.",
)
@click.option("--offline", is_flag=True, help="Take the configured keys instead of what the domains publish.")
@json_option
@click.argument("file", type=click.File("rb"))
@click.pass_context
def verify(
    context: click.Context,
    file: IO[bytes],
    record_file: IO[str] | None,
    *,
    offline: bool,
    as_json: bool,
) -> None:
    """Say of each DKIM signature of the message in FILE ("-": standard input) whether it holds.

    Exits with 0 where there is one and all hold, else with 1.
    """
    import dataclasses
    import json

    from relay.dkim.verifying import verify as verify_signatures
    from relay.smtp.lineends import are_whole, normalised

    message = file.read()
    if not are_whole(message):
        message = normalised(message)
    if record_file is not None:
        lookup = _from_text(record_file.read())
    else:
        lookup = _from_configuration(context) if offline else _from_dns()
    results = verify_signatures(message, lookup)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(result) for result in results]))
    elif not results:
        click.echo("no signature")
    for result in () if as_json else results:
        said = "pass" if result.passed else f"fail ({result.reason})"
        click.echo(f"d={result.domain} s={result.selector} a={result.algorithm}: {said}")
    if not results or not all(result.passed for result in results):
        raise click.exceptions.Exit(1)


def _zone_line(key: PrivateKey, domain: str) -> str:
    from relay.dkim.records import record_name, zone_line

    return zone_line(record_name(key.selector, domain), key.record())


def _configured(context: click.Context) -> list[tuple[str, PrivateKey]]:
    from relay.signing.keys import load_key

    # Their modes were looked at when the configuration was read.
    domains = load_settings(context).dkim
    return [(d.name, load_key(key.key_file, key.selector, private=False)) for d in domains for key in d.keys]


def _from_text(text: str) -> Callable[[str], str | None]:
    from relay.dkim.records import text_of

    found = text_of(text)
    if found is None:
        raise click.UsageError("--record names a file without a DKIM record")
    return lambda _name: found


def _from_configuration(context: click.Context) -> Callable[[str], str | None]:
    from relay.dkim.records import record_name

    records = {record_name(key.selector, domain): key.record() for domain, key in _configured(context)}
    return lambda name: records.get(name.lower())


def _from_dns() -> Callable[[str], str | None]:
    import asyncio

    from relay.dkim.records import text_of
    from relay.upstream.names import NameServiceFailed, NoSuchHost
    from relay.upstream.resolver import DnsResolver

    resolver = DnsResolver()

    def lookup(name: str) -> str | None:
        try:
            texts = asyncio.run(resolver.texts(name))
        except NoSuchHost:
            return None
        except NameServiceFailed:
            fail(f"no name server tells the record at {name}", 75)
        return next((text for text in map(text_of, texts) if text is not None), None)

    return lookup
