"""``relay bench``: figures of a real run, nothing left behind; bad options are told of."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def bench(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "relay", "bench", "--folder", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_one_run_says_what_a_message_costs_and_leaves_nothing(tmp_path: Path) -> None:
    done = bench(tmp_path, "--clients", "3", "--sizes", "2kB", "--delays", "20", "--messages", "40", "--json")
    assert done.returncode == 0, done.stderr
    (figures,) = json.loads(done.stdout)
    assert figures["clients"] == 3
    assert figures["messages"] == 40
    assert figures["upstream_delay_seconds"] == 0.02
    assert 0 < figures["accept_p50_seconds"] <= figures["accept_p99_seconds"] < 5
    assert figures["accepted_per_second"] >= figures["relayed_per_second"] > 0
    assert 1 <= figures["round_trips_per_message"] < 4, "chained: one a message, more only while sessions are opened"
    assert 0 < figures["syncs_per_message"] <= 2.5
    assert figures["cpu_seconds_per_message"] > 0
    assert list(tmp_path.iterdir()) == []


def test_people_get_a_table(tmp_path: Path) -> None:
    done = bench(tmp_path, "--clients", "1,2", "--sizes", "2kB", "--delays", "0", "--messages", "10")
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split()[:3] == ["CLIENTS", "SIZE", "UPSTREAM"]
    assert [row.split()[0] for row in rows] == ["1", "2"]


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--clients", "0", "numbers from 1 to 1000"),
        ("--clients", "2,x", "numbers from 1 to 1000"),
        ("--sizes", "2", "a size above zero"),
        ("--sizes", "1GB", "at most 25000000 octets"),
        ("--delays", "fast", "milliseconds from 0"),
        ("--delays", "-1", "milliseconds from 0"),
        ("--delays", "nan", "milliseconds from 0"),
        ("--messages", "1", "10<=x"),
    ],
)
def test_what_can_not_be_measured_is_wrong_usage(tmp_path: Path, option: str, value: str, said: str) -> None:
    done = bench(tmp_path, option, value)
    assert done.returncode == 2
    assert said in done.stderr
