"""The long run: ``scripts/fuzz [TARGET…] [--seconds N] [--found FOLDER] [--keep]``: each target in its own process.

Seconds are of the CPU, so that a busy machine gives no less work. atheris watches which of our lines an input reaches.
An input that breaks a check is printed as Python spells it: it belongs into the target's SEEDS, beside the mending.
Exit 1 where there was one.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz import corpus

LONGEST = 2048
"""Octets of an input."""
SLOWEST = 20
"""Seconds on the wall that a second of CPU may take."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--seconds", type=int, default=60, help="of CPU, for each target")
    parser.add_argument(
        "--found", type=Path, metavar="FOLDER", help="where inputs are kept for the next run to go on from"
    )
    parser.add_argument("--keep", action="store_true", help="let tests/fuzz/corpus hold what reached most")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        fuzz(options.targets[0], options.seconds, Path(options.folder))
    names = importlib.import_module("tests.fuzz.targets").names()
    unknown = set(options.targets) - set(names)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return max(run(name, options.seconds, options.found, keep=options.keep) for name in options.targets or names)


def run(name: str, seconds: int, before: Path | None, *, keep: bool) -> int:
    """Fuzz one target, from what ``before`` has of it too; 1 where an input broke it."""
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-") as folder:
        found = Path(folder) / "found"
        if before is not None and (before / name).exists():
            shutil.copytree(before / name, found)
        command = [sys.executable, "-m", "tests.fuzz", name, f"--seconds={seconds}", f"--folder={folder}"]
        ended = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
        told = [*ended.stdout.splitlines(), *ended.stderr.splitlines()]
        runs = next((line for line in told if line.startswith("stat::number_of_executed_units")), "").rpartition(" ")[2]
        reached = next((line for line in reversed(told) if " cov: " in line), "").partition(" cov: ")[2].split(" ")[0]
        findings = [path for path in Path(folder).iterdir() if path.is_file()]
        said = f"{runs or '?'} inputs in {seconds} s of CPU, {reached or '?'} edges, {len(findings)} findings"
        print(f"{name}: {said}", flush=True)
        for path in findings:
            print(f"  {path.name.partition('-')[0]}: {path.read_bytes()!r}")
        if before is not None:
            shutil.copytree(found, before / name, dirs_exist_ok=True)
        if findings or ended.returncode:
            print("\n".join(f"  {line}" for line in told[-40:]))
            return 1
        if keep:
            count = corpus.keep(name, (path.read_bytes() for path in found.iterdir()))
            print(f"  {count} inputs kept")
    return 0


def fuzz(name: str, seconds: int, folder: Path) -> None:
    """This process becomes the fuzzer of ``name``; it does not return."""
    import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]

    with atheris.instrument_imports(include=["relay"]):
        target = importlib.import_module(f"tests.fuzz.targets.{name}")
    found = folder / "found"
    found.mkdir(exist_ok=True)
    for n, octets in enumerate([*target.SEEDS, *corpus.kept(name)]):
        (found / str(n)).write_bytes(octets)

    def check(octets: bytes) -> None:
        if time.process_time() > seconds:
            os.kill(os.getpid(), signal.SIGUSR1)  # libFuzzer ends after this input, and tells its counts
        target.check(octets)

    arguments = [
        name,
        f"-max_len={LONGEST}",
        f"-max_total_time={seconds * SLOWEST}",
        "-timeout=60",
        "-rss_limit_mb=2000",
    ]
    arguments += [f"-artifact_prefix={folder}/", "-print_final_stats=1", str(found)]
    atheris.Setup(arguments, check)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
