"""A few rounds of each figure, named after the accident; its negative control must find something (scripts/torture)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.figures import FIGURES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


async def suffers(name: str, folder: Path) -> None:
    figure = FIGURES[name]
    finding = await figure.run(folder, figure.quick)
    print(finding.line())
    assert finding.rounds
    if figure.control:
        assert finding.wrong, "a defective relay passed: the figure finds nothing"
    else:
        assert not finding.wrong


async def test_killed_at_random_under_load(tmp_path: Path) -> None:
    await suffers("R1", tmp_path)


async def test_killed_at_system_calls(tmp_path: Path) -> None:
    await suffers("R2", tmp_path)


async def test_power_is_cut(tmp_path: Path) -> None:
    await suffers("R3", tmp_path)


async def test_the_disk_is_full(tmp_path: Path) -> None:
    await suffers("R4-full", tmp_path)


async def test_a_sync_fails(tmp_path: Path) -> None:
    await suffers("R4-fsync", tmp_path)


@pytest.mark.parametrize("name", ["R4-write", "R4-readonly-write", "R4-large"])
async def test_a_write_fails(tmp_path: Path, name: str) -> None:
    await suffers(name, tmp_path)


async def test_the_disk_is_slow(tmp_path: Path) -> None:
    await suffers("R4-slow", tmp_path)


async def test_somebody_reads_for_long(tmp_path: Path) -> None:
    await suffers("R4-reader", tmp_path)


async def test_file_descriptors_are_used_up(tmp_path: Path) -> None:
    await suffers("R4-files", tmp_path)


async def test_started_on_a_read_only_disk(tmp_path: Path) -> None:
    await suffers("R4-readonly", tmp_path)


async def test_another_program_locks_the_spool(tmp_path: Path) -> None:
    await suffers("R4-locked", tmp_path)


async def test_the_spool_is_damaged(tmp_path: Path) -> None:
    await suffers("R4-damaged", tmp_path)


async def test_crowds_come(tmp_path: Path) -> None:
    await suffers("R10", tmp_path)


async def test_thirty_large_messages_at_once(tmp_path: Path) -> None:
    await suffers("R10-large", tmp_path)


async def test_a_message_kills_the_relay(tmp_path: Path) -> None:
    await suffers("R11", tmp_path)


async def test_two_days_of_kills_and_clock_steps_under_a_limit(tmp_path: Path) -> None:
    await suffers("R12", tmp_path)


async def test_restarted_again_and_again(tmp_path: Path) -> None:
    await suffers("R15", tmp_path)


@pytest.mark.parametrize("name", [name for name, figure in FIGURES.items() if figure.control])
async def test_a_defect_is_found(tmp_path: Path, name: str) -> None:
    await suffers(name, tmp_path)
