"""SES by SMTP with the key of an IAM user: its password is made of the secret and the region, not of the secret alone.

https://docs.aws.amazon.com/ses/latest/dg/smtp-credentials.html
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
from collections.abc import Iterator
from typing import Final

from relay.config.passwords import sources_of
from relay.config.problems import Problem
from relay.config.tables import Table
from relay.settings import Secret, UpstreamSettings

_SCOPE: Final = ("11111111", "{region}", "ses", "aws4_request", "SendRawEmail")
"""What is signed, one after the other; the first stands where a date does in Signature Version 4."""
_VERSION: Final = b"\x04"


def ses_smtp_password(secret_access_key: str, region: str) -> str:
    """The SMTP password of an IAM user in ``region``; the user name is the access key's id."""
    key = f"AWS4{secret_access_key}".encode()
    for message in _SCOPE:
        key = hmac.new(key, message.format(region=region).encode(), hashlib.sha256).digest()
    return base64.b64encode(_VERSION + key).decode()


def with_smtp_credentials(table: Table[UpstreamSettings]) -> Table[UpstreamSettings]:
    """The table with user name and password of its IAM key, where it has one and speaks SMTP."""
    settings = table.value
    if settings.kind != "smtp" or settings.access_key_id is None or settings.secret_access_key is None:
        return table
    password = Secret(ses_smtp_password(settings.secret_access_key.value, settings.region))
    value = dataclasses.replace(settings, username=settings.access_key_id.value, password=password)
    return dataclasses.replace(table, value=value)


def iam_problems(file: str, upstream: Table[UpstreamSettings]) -> Iterator[Problem]:
    """An IAM key beside kind = "smtp" is whole, has its region, and is the only credential."""
    settings, bad = upstream.value, upstream.bad
    keys = {"access_key_id": settings.access_key_id, "secret_access_key": settings.secret_access_key}
    missing = [key for key, value in keys.items() if value is None]
    if settings.kind != "smtp" or len(missing) == len(keys) or bad & {*keys, "kind", "region"}:
        return
    if missing:
        (other,) = keys.keys() - set(missing)
        yield upstream.problem(file, missing[0], f"nothing beside {other}", "both keys of an IAM user")
    if not settings.region and "host" in upstream.raw:
        found = "nothing beside an IAM key"
        yield upstream.problem(file, "region", found, 'the region that the password is for, such as "eu-west-1"')
    for key in ("username", *sources_of("password")):
        if key in upstream.raw:
            allowed = "SMTP credentials, or access_key_id and secret_access_key"
            yield upstream.problem(file, key, f"{key} beside an IAM key", allowed)
