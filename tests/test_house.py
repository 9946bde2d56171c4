from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parents[1]

LAYERS: Final = (
    ("mail", "outcome", "clock", "events", "settings", "value", "backlog", "lessons", "suppression", "spelling"),
    (
        "smtp",
        "policy",
        "headers",
        "rewrite",
        "dkim",
        "bounce",
        "feedback",
        *(
            f"delivery.{m}"
            for m in (
                "schedule",
                "backoff",
                "quota",
                "pool",
                "routing",
                "turns",
                "fairness",
                "warmup",
                "learning",
                "brake",
                "estimate",
                "rehearsal",
                "speed",
            )
        ),
    ),
    ("spool", "upstream", "privatefile"),  # the last is no port: what several edges keep in files of their own
    ("listener", "signing", "control", "spool.*", "upstream.*", "delivery", "maillog", "metrics", "http"),
    ("config", "daemon", "cli", "checking", "sendmail", "compiled", "__main__"),
)
"""docs/decisions.md: words, pure machines, ports, edges, root. "spool.*" is all of the package but its __init__."""

DOORS: Final = {
    "aiohttp": "upstream.http",
    "aiosmtpd": "listener",
    "aiosmtplib": "upstream.handshake",
    "argon2": "listener.passwords",
    "botocore": "upstream.ses.signing",
    "cattrs": "config",
    "click": "cli",
    "cryptography": "signing",
    "dkim": "dkim",
    "dns": "upstream.resolver",
    "h11": "http",
    "jinja2": "http",
    "msgspec": "http",
    "prometheus_client": "http",
    "pysqlite3": "spool",
    "rich": "cli",
    "sqlite3": "spool",
    "sqlite_utils": "spool",
    "starlette": "http",
    "uvicorn": "http",
    "uvloop": "daemon",
}

EMPTY_NAMES: Final = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}

IMPURE: Final = {"asyncio", "logging", "os", "pathlib", "socket", "sqlite3", "ssl", "subprocess", "threading", "time"}


def modules() -> dict[str, Path]:
    """Each module of the package by its name without "relay."."""
    paths = sorted((ROOT / "relay").rglob("*.py"))
    names = (".".join(p.relative_to(ROOT / "relay").with_suffix("").parts) for p in paths)
    return {name.removesuffix(".__init__"): path for name, path in zip(names, paths, strict=True) if name != "__init__"}


MODULES: Final = modules()


def within(name: str, place: str) -> bool:
    return name.startswith(place.removesuffix("*")) if place.endswith("*") else f"{name}.".startswith(f"{place}.")


def layer(name: str) -> int:
    """The layer of a module: that of the longest place that it lies within."""
    found = [(len(p), n) for n, places in enumerate(LAYERS) for p in places if within(name, p)]
    return max(found)[1]


def imported(name: str) -> Iterator[str]:
    """What a module imports, dotted; ours by the module that it comes from."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner.removeprefix("relay.") in MODULES else str(node.module)


def ours(name: str) -> Iterator[str]:
    yield from (i.removeprefix("relay.") for i in imported(name) if i.startswith("relay."))


def room(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_floors_below(name: str) -> None:
    for other in ours(name):
        if layer(name) == layer(other):
            assert layer(name) in {0, 4} or room(name) == room(other), f"{name} imports {other}, another room's"
        else:
            assert layer(other) < layer(name), f"{name} imports {other}, of a higher floor"
            # Words are for all; machines don't know the ports, nor ports the machines.
            assert layer(name) > 2 or layer(other) == 0, f"{name} imports {other}"


@pytest.mark.parametrize("name", [m for m in MODULES if layer(m) < 2])
def test_words_and_machines_touch_no_world(name: str) -> None:
    impure = IMPURE - {"time"} if name == "clock" else IMPURE
    assert not {i.split(".")[0] for i in imported(name)} & impure


@pytest.mark.parametrize("name", MODULES)
def test_each_dependency_has_one_door(name: str) -> None:
    for package in {i.split(".")[0] for i in imported(name)} - {"relay"}:
        if package in DOORS or package not in sys.stdlib_module_names:
            assert within(name, DOORS[package]), f"{package} is not {name}'s to import"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_a_room_with_a_telling_name(name: str) -> None:
    assert name.rsplit(".", maxsplit=1)[-1] not in EMPTY_NAMES
    source = MODULES[name].read_text()
    assert source.count("\n") <= 400
    assert not source or ast.get_docstring(ast.parse(source)), "no docstring"


def test_the_rules_can_be_broken() -> None:
    assert layer("spool") == 2
    assert layer("spool.sqlite") == 3
    assert layer("delivery.backoff") == 1
    assert layer("delivery.engine") == 3
    assert not within("upstream.handshakes", DOORS["aiosmtplib"])
