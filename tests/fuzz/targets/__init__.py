"""The targets by name; each is a module with ``check`` and ``SEEDS``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from typing import Protocol, cast


class Target(Protocol):
    """A module of this package."""

    SEEDS: Sequence[bytes]

    def check(self, octets: bytes) -> None:
        """Raise where something does not hold for ``octets``."""
        ...


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def target(name: str) -> Target:
    return cast("Target", importlib.import_module(f"{__name__}.{name}"))
