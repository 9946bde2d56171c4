"""DKIM verifiers of other makers, each with the keys from a file: nobody asks a name server."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relay.dkim.verifying import verify
from tests.matrix.clients import NODE_MODULES, PROGRAMS, missing

Verdicts = Mapping[str, Mapping[str, bool]]
"""By message and selector."""


@dataclass(frozen=True)
class Verifier:
    """``judge(keys, messages)``; ``missing`` says why it can't be had; ``knows`` are the algorithms that it knows."""

    judge: Callable[[Mapping[str, str], Sequence[Path]], Verdicts]
    missing: str = ""
    knows: tuple[str, ...] = ("rsa", "ed25519")


def by_dkimpy(keys: Mapping[str, str], messages: Sequence[Path]) -> Verdicts:
    return {
        message.name: {result.selector: result.passed for result in verify(message.read_bytes(), keys.get)}
        for message in messages
    }


def by_opendkim(keys: Mapping[str, str], messages: Sequence[Path]) -> Verdicts:
    folder = messages[0].parent.parent
    configuration = folder / "opendkim.conf"
    configuration.write_text(f"Mode v\nSyslog no\nTestPublicKeys {_written(keys, folder)}\n")
    found: dict[str, dict[str, bool]] = defaultdict(dict)
    for message in messages:
        said = _run("opendkim", "-x", str(configuration), "-v", "-v", "-v", "-t", str(message))
        for result, selector in re.findall(r"dkim=(\w+).*? header\.s=(\S+)", said):
            found[message.name][selector] = result == "pass"
    return found


def by_mail_dkim(keys: Mapping[str, str], messages: Sequence[Path]) -> Verdicts:
    return _by_program(keys, messages, "perl", str(PROGRAMS / "dkim_verify.pl"))


def by_mailauth(keys: Mapping[str, str], messages: Sequence[Path]) -> Verdicts:
    return _by_program(keys, messages, "node", str(PROGRAMS / "dkim_verify.mjs"))


def _by_program(keys: Mapping[str, str], messages: Sequence[Path], *program: str) -> Verdicts:
    found: dict[str, dict[str, bool]] = defaultdict(dict)
    written = _written(keys, messages[0].parent.parent)
    for line in _run(*program, str(written), *map(str, messages)).splitlines():
        message, selector, result = line.split(" ")
        found[Path(message).name][selector] = result == "pass"
    return found


def _written(keys: Mapping[str, str], folder: Path) -> Path:
    file = folder / "keys"
    file.write_text("".join(f"{name} {text}\n" for name, text in keys.items()))
    return file


def _run(*arguments: str) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, errors="replace", check=False, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


def _without_perl_module() -> str:
    if reason := missing(("perl",)):
        return reason
    done = subprocess.run(["perl", "-MMail::DKIM", "-e", "1"], capture_output=True, check=False, timeout=20)
    return "" if done.returncode == 0 else "not installed: Mail::DKIM"


def verifiers() -> dict[str, Verifier]:
    opendkim = "" if shutil.which("opendkim") else "not installed: opendkim"
    return {
        "dkimpy": Verifier(by_dkimpy),
        "opendkim": Verifier(by_opendkim, opendkim),
        "Mail::DKIM": Verifier(by_mail_dkim, _without_perl_module(), ("rsa",)),
        "mailauth": Verifier(by_mailauth, missing(("node", str(NODE_MODULES / "mailauth")))),
    }


VERIFIERS: Final = ("dkimpy", "opendkim", "Mail::DKIM", "mailauth")
