"""What docs/reliability.md says is tested is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.torture.figures import FIGURES

TESTS = Path(__file__).parents[1]
TABLE = (TESTS.parent / "docs" / "reliability.md").read_text()
ROWS = [row.split("|")[1:4] for row in TABLE.partition("Each fault, and its test")[2].splitlines() if row[:2] == "| "]


@pytest.mark.parametrize("row", ROWS[1:], ids=lambda row: row[0].strip())
def test_each_fault_has_a_test(row: list[str]) -> None:
    named = re.findall(r"`([^`]+)`", row[2])
    figures = re.findall(r"\bR\d+(?:-\w+)*", row[2])
    assert named or figures
    assert [path for path in named if not ((TESTS / path).is_dir() or (TESTS / f"{path}.py").exists())] == []
    assert set(figures) <= FIGURES.keys()


def test_there_are_rows() -> None:
    assert len(ROWS) > 40
