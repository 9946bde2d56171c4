"""What must hold in a ``[dkim."DOMAIN"]``, and what is better otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from relay.config.problems import Problem
from relay.config.signing import KEYS_ALLOWED
from relay.config.tables import Table
from relay.settings import DkimSettings, Settings

DOMAIN: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})+")
DOMAIN_ALLOWED: Final = 'a domain in small letters, in ASCII and in quotes, such as [dkim."example.com"]'


def dkim_problems(file: str, table: Table[DkimSettings]) -> Iterator[Problem]:
    """A domain without keys."""
    if "keys" not in table.bad and not table.value.keys:
        yield table.problem(file, "keys", "nothing", KEYS_ALLOWED)


def dkim_warnings(settings: Settings) -> Iterator[str]:
    """Keys that many verifiers find too short."""
    if not settings.dkim:
        return
    from relay.signing.keys import RSA_ADVISED, KeyUnusable, load_key

    for domain in settings.dkim:
        for key in domain.keys:
            try:
                loaded = load_key(key.key_file, key.selector, private=False)
            except KeyUnusable as why:  # it was fine a moment ago
                yield f'[dkim."{domain.name}"] {key.key_file}: {why}'
                continue
            if loaded.algorithm == "rsa-sha256" and loaded.bits < RSA_ADVISED:
                where = f'[dkim."{domain.name}"] {key.key_file}'
                yield f"{where} is an RSA key of {loaded.bits} bits; {RSA_ADVISED} are advised (RFC 8301 §3.2)"
