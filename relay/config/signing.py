"""The inline tables of ``[dkim."DOMAIN"] keys`` and of an upstream's ``dkim``; the keys are read and tried."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from relay.config.environment import Variable
from relay.config.problems import Unreadable, describe, unknown
from relay.settings import DkimKeySettings, UpstreamDkimSettings

_SELECTOR: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9][A-Za-z0-9_-]{0,62})*", re.ASCII)
_FIELD: Final = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
KEYS_ALLOWED: Final = 'an array of tables such as { selector = "r1", key_file = "r1.pem" }'
_UPSTREAM: Final = "a table such as { signatures = 1 }"
_MAX_KEYS: Final = 4


def read_keys(value: object, folder: Path) -> tuple[DkimKeySettings, ...]:
    """``keys``; raises :class:`Unreadable`, or all that is wrong inside as one ExceptionGroup."""
    given = _plain(value)
    if not isinstance(given, list) or not 1 <= len(given) <= _MAX_KEYS:
        raise Unreadable(describe(given), f"{KEYS_ALLOWED}, {_MAX_KEYS} at the most")
    keys: list[DkimKeySettings] = []
    wrong: list[Exception] = []
    for n, each in enumerate(given):
        try:
            keys.append(_key(each, folder, f"[{n}]"))
        except Unreadable as why:
            wrong.append(why)
    selectors = [key.selector for key in keys]
    wrong += [
        Unreadable(f"the selector {name} twice", "another selector for each key")
        for name in sorted(set(selectors))
        if selectors.count(name) > 1
    ]
    if wrong:
        raise ExceptionGroup("keys", wrong)
    return tuple(keys)


def read_upstream_dkim(value: object) -> UpstreamDkimSettings:
    """An upstream's ``dkim``; raises :class:`Unreadable`, or all that is wrong inside as one ExceptionGroup."""
    given = _plain(value)
    if not isinstance(given, dict):
        raise Unreadable(describe(given), _UPSTREAM)
    table = {key: _plain(each) for key, each in given.items()}
    known = ("signatures", "leave_out", "alone")
    wrong = [Unreadable(*unknown(key, known), part=f".{key}") for key in table if key not in known]
    signatures = table.get("signatures")
    if signatures is not None and (type(signatures) is not int or not 0 <= signatures <= _MAX_KEYS):
        wrong.append(Unreadable(describe(signatures), f"an integer from 0 to {_MAX_KEYS}", part=".signatures"))
    fields = table.get("leave_out", [])
    names = [name.lower() for name in fields if isinstance(name, str)] if isinstance(fields, list) else []
    if not isinstance(fields, list) or len(names) != len(fields) or not all(map(_FIELD.fullmatch, names)):
        allowed = 'an array of field names such as ["Date", "Message-ID"]'
        wrong.append(Unreadable(describe(fields), allowed, part=".leave_out"))
    elif "from" in names:
        allowed = "any other field (RFC 6376 §5.4: From is always signed)"
        wrong.append(Unreadable('"From"', allowed, part=".leave_out"))
    alone = table.get("alone", False)
    if not isinstance(alone, bool):
        wrong.append(Unreadable(describe(alone), "true or false", part=".alone"))
    if wrong:
        raise ExceptionGroup("dkim", wrong)
    count = signatures if isinstance(signatures, int) else None
    return UpstreamDkimSettings(count, tuple(sorted(set(names))), bool(alone))


def _key(value: object, folder: Path, part: str) -> DkimKeySettings:
    # Imported where keys are configured: OpenSSL's bindings take their time to load.
    from relay.signing.keys import KeyUnusable, load_key

    given = _plain(value)
    if not isinstance(given, dict):
        raise Unreadable(describe(given), KEYS_ALLOWED, part=part)
    table = {key: each.text if isinstance(each, Variable) else each for key, each in given.items()}
    known = ("selector", "key_file")
    for key in table:
        if key not in known:
            raise Unreadable(*unknown(key, known), part=f"{part}.{key}")
    selector, name = table.get("selector"), table.get("key_file")
    if not isinstance(selector, str) or not _SELECTOR.fullmatch(selector):
        found = describe(selector) if "selector" in table else "nothing"
        raise Unreadable(found, "letters, digits, hyphens and dots", part=f"{part}.selector")
    if not isinstance(name, str) or not name or "\0" in name:
        found = describe(name) if "key_file" in table else "nothing"
        raise Unreadable(found, "the path of a private key", part=f"{part}.key_file")
    path = os.path.normpath(folder / name)
    try:
        load_key(path, selector, private=not _is_credential(path))
    except KeyUnusable as why:
        raise Unreadable(f"{path}: {why.found}", why.allowed, part=f"{part}.key_file") from None
    return DkimKeySettings(selector, path)


def _is_credential(path: str) -> bool:
    """Whether systemd keeps this file for us (LoadCredential=); it sees to who may read it, by an ACL."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    return bool(folder) and os.path.dirname(path) == os.path.normpath(folder)  # noqa: PTH120 - plain strings


def _plain(value: object) -> object:
    return value.toml if isinstance(value, Variable) else value
