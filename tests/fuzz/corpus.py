"""The inputs that are kept: a file a target, an input a line, spelled as Python spells octets, so that people can read
it and a merge shows what changed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).with_name("corpus")
MOST: Final = 120
"""Inputs of a target that are kept."""
LONGEST: Final = 600
"""Octets of one."""


def kept(name: str) -> list[bytes]:
    """The inputs of a target."""
    path = FOLDER / f"{name}.txt"
    return [ast.literal_eval(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(name: str, inputs: Iterable[bytes]) -> int:
    """Keep these instead, the shortest first; how many that were."""
    chosen = sorted({each for each in inputs if len(each) <= LONGEST}, key=lambda each: (len(each), each))[:MOST]
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.txt").write_text("".join(f"{each!r}\n" for each in chosen))
    return len(chosen)
