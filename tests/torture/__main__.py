"""``scripts/torture``: chosen figures, as many rounds as wanted, a line each; ``--write`` puts them in the table."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import re
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.torture.figures import FIGURES

TABLE = Path(__file__).parents[2] / "docs" / "reliability.md"
HEAD = "| figure | fault | rounds | acknowledged | lost | duplicated | behaviour seen |\n|---|---|---|---|---|---|---|"
MARK = re.compile(r"(?<=<!-- measured -->\n).*?(?=<!-- end -->)", re.DOTALL)


async def measure(names: list[str], rounds: int | None, times: str) -> tuple[list[str], bool]:
    """Run figures one after the other; their rows, and whether all were as they should be."""
    rows, fine = [], True
    for name in names:
        figure = FIGURES[name]
        count = rounds or getattr(figure, times)
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="torture-") as folder:
            try:
                finding = await figure.run(Path(folder), count)
            except pytest.skip.Exception as why:
                print(f"{name}: skipped: {why}", flush=True)
                continue
            except Exception as error:  # noqa: BLE001 - the other figures are wanted all the same
                print(f"{name}: FAILED: {_told(error)}", flush=True)
                fine = False
                continue
        failed = bool(finding.wrong)
        as_meant = failed == figure.control
        what = "control: must fail, and does" if figure.control and failed else ""
        print(f"{name}: {finding.line()} {what}({time.monotonic() - began:.0f} s)", flush=True)
        fine = fine and as_meant
        if figure.control:
            finding.behaviour = (
                f"negative control: {finding.wrong[0] if failed else 'found nothing, which is a defect'}"
            )
        elif failed:
            finding.behaviour = "**" + "; ".join(finding.wrong) + "**"
        rows.append(f"| {name} {finding.row()}")
    return rows, fine


def _told(error: BaseException) -> str:
    """An error in words; each of a group."""
    if isinstance(error, ExceptionGroup):
        return "; ".join(_told(each) for each in error.exceptions)
    return f"{type(error).__name__}: {error}"


def write(rows: list[str]) -> None:
    """Put ``rows`` in the place of those of the same names; the others stay."""
    text = TABLE.read_text()
    found = MARK.search(text)
    assert found is not None
    kept = dict(row.split(" |", 1) for row in found[0].splitlines() if row.startswith("| R"))
    kept |= dict(row.split(" |", 1) for row in rows)
    order = [f"| {name}" for name in FIGURES]
    today = f"Last run {time.strftime('%Y-%m-%d')}, Linux {platform.release().partition('-')[0]}"
    lines = [
        HEAD,
        *(f"{name} |{kept[name]}" for name in order if name in kept),
        "",
        f"{today}, {os.cpu_count()} cores.",
    ]
    body = "\n".join(lines) + "\n"
    TABLE.write_text(MARK.sub(lambda _: body, text))


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/torture", description="injure a relay and count")
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"default all: {', '.join(FIGURES)}")
    parser.add_argument("--rounds", type=int, help="instead of each figure's own")
    parser.add_argument("--quick", action="store_true", help="as few rounds as the tests")
    parser.add_argument("--write", action="store_true", help="put the results into docs/reliability.md")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.figures if name not in FIGURES]
    if unknown:
        parser.error(f"no such figure: {', '.join(unknown)}")
    rows, fine = asyncio.run(
        measure(chosen.figures or list(FIGURES), chosen.rounds, "quick" if chosen.quick else "nightly")
    )
    if chosen.write:
        write(rows)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
