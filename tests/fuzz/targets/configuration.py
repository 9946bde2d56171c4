"""relay.toml and the environment: settings, or problems in words, and never anything else; no secret shows."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from relay.config import ConfigError, load
from relay.config.loading import Machine
from tests.fuzz.supply import Supply

_UPSTREAM = b'[upstream.a]\nhost = "mx.test"\n'
SEEDS = (
    _UPSTREAM,
    _UPSTREAM + b'limits = ["14/second", "100/10m"]\npause = { after = 50, for = "5s" }\nreserve = "10%"\n',
    _UPSTREAM + b'[queue]\nbackoff = ["1m", "5m"]\nlifetime = "5d"\ndelay_warning = "off"\ndedupe = "24h"\n',
    _UPSTREAM + b'[listener.app]\naddress = "[::1]:2525"\nnetworks = ["::1/128"]\nmax_message_size = "25MiB"\n',
    _UPSTREAM + b'[rewrite]\naliases = { root = "ops@x.test" }\n[user.u]\npassword_hash = "x"\nsenders = ["<>"]\n',
    b'[upstream.b]\nkind = "ses"\nregion = "eu-west-1"\naccess_key_id = "AKIA"\nsecret_access_key = "s"\n',
    _UPSTREAM + b"\x00UPSTREAM__A__PORT=587\nQUEUE__BOUNCES=off\nLISTENER__APP__NETWORKS=['0.0.0.0/0']\n",
    _UPSTREAM + b'username = "u"\npassword = "canary-4711"\ntls = "none"\n',
    b"a = [[[[[",
    # Found: a key that a terminal obeys.
    b'"\\u001b[31m" = 1\n',
)
_CANARY = "canary-4711"
_MACHINE = Machine(lambda: "relay.test", lambda: True)
_FOLDER = Path(tempfile.mkdtemp(prefix="relay-fuzz-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)


def check(octets: bytes) -> None:
    text, _, variables = Supply(octets).rest().partition(b"\0")
    if b"/" in text.replace(b"/128", b"").replace(b"/second", b"").replace(b"/10m", b"").replace(b"/0", b""):
        return  # whatever file of this machine that names
    path = _FOLDER / "relay.toml"
    path.write_bytes(text)
    environ = {}
    for line in variables.decode("utf-8", "replace").split("\n"):
        name, given, value = line.partition("=")
        if given:
            environ[f"RELAY__{name}"] = value
    try:
        settings = load(path, environ, _MACHINE)
    except ConfigError as error:
        problems = [str(problem) for problem in error.problems]
        assert problems
        assert all(problem.isprintable() for problem in problems), problems
        assert not any(_CANARY in problem for problem in problems) or not _is_secret(text)
    else:
        assert settings.upstreams
        assert settings.listeners
        assert _CANARY not in repr(settings) or not _is_secret(text)


def _is_secret(text: bytes) -> bool:
    """Whether the canary sits where a secret belongs, and only there."""
    return text.count(_CANARY.encode()) == 1 and f'\npassword = "{_CANARY}"\n'.encode() in text
