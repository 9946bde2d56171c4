"""Keys set from the environment: ``RELAY__UPSTREAM__SES__HOST`` lies over ``[upstream.ses] host`` of the file.

Names are lower-cased; a name that the file spells with capitals or "-" is met by the same name with "_". A value is
read as TOML where that gives what the key takes ("587", "true", "[…]"), else as the text it is.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

PREFIX: Final = "RELAY__"
_DEPTH: Final = 2
"""Tables above a key: [upstream.NAME]."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A value from the environment, as text; ``name`` is the variable's. The text may be a secret: not in a repr."""

    name: str
    text: str = field(repr=False)

    @property
    def toml(self) -> object:
        """What the text means as a TOML value; the text itself where it is none."""
        try:
            document = tomllib.loads(f"value = {self.text}")
        except (tomllib.TOMLDecodeError, RecursionError):
            return self.text
        return document["value"] if document.keys() == {"value"} else self.text


def overlay(document: dict[str, Any], environ: Mapping[str, str]) -> list[Variable]:
    """Put the environment's values into ``document``; the variables that fit nowhere are given back."""
    misfits = []
    for name in sorted(environ):
        if not name.startswith(PREFIX):
            continue
        variable = Variable(name, environ[name])
        *tables, key = name.removeprefix(PREFIX).lower().split("__")
        node = document
        if len(tables) > _DEPTH:
            misfits.append(variable)
            continue
        for table in tables:
            child = node.setdefault(_spelled(node, table), {})
            if not isinstance(child, dict):
                break
            node = child
        else:
            if key and all(tables):
                node[_spelled(node, key)] = variable
                continue
        misfits.append(variable)
    return misfits


def _spelled(node: dict[str, Any], name: str) -> str:
    """The key of ``node`` that ``name`` means: as the file spells it, where it has it."""
    return next((key for key in node if key.lower().replace("-", "_") == name), name)
