"""What each kind of upstream needs and what it has no use for: a key of another kind is a mistake, not a default."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Final

from relay.config.passwords import sources_of
from relay.config.problems import Problem
from relay.config.tables import Table
from relay.config.values import is_loopback
from relay.settings import OAuth2Settings, UpstreamSettings

_SMTP: Final = frozenset(
    ("host", "port", "tls", "tls_cert", "tls_key", "auth", "username", *sources_of("password"), "oauth2")
) | {"pipelining", "chunking", "chunking_window"}
_SES: Final = frozenset(("region", *sources_of("access_key_id"), *sources_of("secret_access_key"), "configuration_set"))
_SPARKPOST: Final = frozenset((*sources_of("api_key"), "return_path", "options"))
_ENDPOINT: Final = frozenset({"endpoint"})

_FOREIGN: Final = {
    # An SMTP password of SES is made from an IAM secret and the region.
    "smtp": (_SES | _SPARKPOST | _ENDPOINT)
    - frozenset(("region", *sources_of("access_key_id"), *sources_of("secret_access_key"))),
    "ses": _SMTP | _SPARKPOST,
    "sparkpost": _SMTP | _SES,
    "simulator": _SES | _SPARKPOST | _ENDPOINT,
}
_NEEDS: Final = {"ses": ("aiohttp", "botocore"), "sparkpost": ("aiohttp",)}
_INSTALL: Final = 'what "pip install relay[apis]" brings'
_SPELLINGS: Final = "{0}, {0}_file, {0}_env or {0}_credential"


def kind_problems(file: str, upstream: Table[UpstreamSettings]) -> Iterator[Problem]:
    """What is missing for the kind, or is another one's."""
    if "kind" in upstream.bad:
        return
    settings, bad = upstream.value, upstream.bad
    kind = settings.kind
    for key in upstream.raw:
        if key in _FOREIGN[kind] and key not in bad:
            owners = " or ".join(f'"{each}"' for each, foreign in _FOREIGN.items() if key not in foreign)
            yield upstream.problem(file, key, f"a key of kind = {owners}", f'no such key where kind = "{kind}"')
    missing = [package for package in _NEEDS.get(kind, ()) if find_spec(package) is None]
    if missing:
        yield upstream.problem(file, "kind", f'"{kind}" without {" and ".join(missing)}', _INSTALL)
    if kind == "ses":
        yield from _ses(file, upstream)
    if kind == "sparkpost" and settings.api_key is None and "api_key" not in bad:
        yield upstream.problem(file, "api_key", "nothing, as the kind is sparkpost", _SPELLINGS.format("api_key"))
    if kind == "smtp":
        yield from _oauth2(file, upstream)


def oauth2_problems(file: str, table: Table[OAuth2Settings]) -> Iterator[Problem]:
    """A token request needs somewhere to go and somebody who asks."""
    settings, bad = table.value, table.bad
    for key, value in (("token_url", settings.token_url), ("client_id", settings.client_id)):
        if not value and key not in bad:
            yield table.problem(file, key, "nothing", "what the provider gave for this client")
    if (
        settings.client_secret is None
        and settings.refresh_token is None
        and not bad & {"client_secret", "refresh_token"}
    ):
        allowed = f"{_SPELLINGS.format('client_secret')}, or the same of refresh_token"
        yield table.problem(file, "client_secret", "nothing, nor a refresh_token", allowed)


def _ses(file: str, upstream: Table[UpstreamSettings]) -> Iterator[Problem]:
    settings, bad = upstream.value, upstream.bad
    if not settings.region and "region" not in bad:
        yield upstream.problem(file, "region", "nothing, as the kind is ses", 'a region such as "eu-west-1"')
    keys = {"access_key_id": settings.access_key_id, "secret_access_key": settings.secret_access_key}
    missing = [key for key, value in keys.items() if value is None]
    if len(missing) == 1 and not bad & keys.keys():
        (other,) = keys.keys() - {missing[0]}
        yield upstream.problem(file, missing[0], f"nothing beside {other}", "both, or none for AWS' default chain")


def _oauth2(file: str, upstream: Table[UpstreamSettings]) -> Iterator[Problem]:
    settings, bad = upstream.value, upstream.bad
    if bad & {"auth", "username", "password"}:
        return
    if settings.oauth2 is None:
        if settings.auth in {"xoauth2", "oauthbearer"}:
            yield upstream.problem(file, "auth", f'"{settings.auth}" without oauth2', "a table oauth2 beside it")
        return
    if find_spec("aiohttp") is None:
        yield upstream.problem(file, "oauth2", "a table, without aiohttp", _INSTALL)
    if settings.auth not in {"auto", "xoauth2", "oauthbearer"}:
        yield upstream.problem(file, "auth", f'"{settings.auth}" beside oauth2', '"auto", "xoauth2" or "oauthbearer"')
    if settings.password is not None:
        yield upstream.problem(file, "oauth2", "a table beside a password", "one of them")
    elif settings.username is None:
        yield upstream.problem(file, "username", "nothing beside oauth2", "the mailbox or user that the token is for")
    if settings.tls in {"none", "opportunistic"} and "tls" not in bad and not is_loopback(settings.host):
        yield upstream.problem(file, "tls", f'"{settings.tls}" beside oauth2', '"starttls" or "implicit"')
