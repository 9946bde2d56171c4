"""What killed the relay: recognised by what was on its way, also where a message has parts, and never wrongly."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from relay.delivery.flightrecorder import FlightRecorder
from relay.delivery.items import Item
from relay.delivery.suspects import ALONE, MOST, Suspects, hold_convicted
from relay.events import Event
from relay.mail import Envelope, Message, Recipient
from relay.spool import Arrival, Claimed
from tests.delivery.scene import START
from tests.fake_spool import FakeSpool

BOOT = "12345678-1234-1234-1234-123456789abc"


def life(folder: Path, boot: str = BOOT) -> Suspects:
    """A process that begins; it ends by not being heard of again."""
    return Suspects(FlightRecorder(folder / "spool.db.flight", boot))


def test_what_was_on_its_way_at_three_crashes_is_convicted(tmp_path: Path) -> None:
    for died in range(MOST):
        suspects = life(tmp_path)
        assert suspects.convicted == ()
        assert len(suspects) == (1 if died else 0)
        suspects.begun(7, 0.0)
    assert life(tmp_path).convicted == (7,)
    assert len(life(tmp_path)) == 0, "told once"


def test_who_survived_is_no_suspect(tmp_path: Path) -> None:
    for _ in range(2 * MOST):
        suspects = life(tmp_path)
        suspects.begun(7, 0.0)
        suspects.recorded(7)
        suspects.begun(8, 0.0)
        assert suspects.convicted == () or 8 in suspects.convicted
    assert 7 not in life(tmp_path).convicted


def test_what_goes_again_is_a_suspect_still_but_was_not_on_its_way(tmp_path: Path) -> None:
    life(tmp_path).begun(7, 0.0)
    for _ in range(MOST):
        suspects = life(tmp_path)
        assert len(suspects) == 1
        suspects.begun(7, 0.0)
        suspects.recorded(7, survived=False)
    assert life(tmp_path).convicted == ()


def test_suspects_go_one_at_a_time_and_others_as_ever(tmp_path: Path) -> None:
    first = life(tmp_path)
    for number in (7, 8):
        first.begun(number, 0.0)
    suspects = life(tmp_path)
    assert not suspects.must_wait(7, 0.0)
    suspects.begun(7, 0.0)
    assert suspects.must_wait(8, 0.0)
    assert not suspects.must_wait(7, 0.0), "its other recipients"
    assert not suspects.must_wait(9, 0.0)
    assert not suspects.must_wait(8, ALONE), "an upstream that hangs"
    suspects.recorded(7)
    assert not suspects.must_wait(8, 0.0)


def test_a_message_in_parts_is_on_its_way_until_the_last_is_recorded(tmp_path: Path) -> None:
    suspects = life(tmp_path)
    suspects.begun(7, 0.0)
    suspects.begun(7, 0.0)
    suspects.recorded(7)
    assert len(life(tmp_path)) == 1
    suspects = life(tmp_path)
    suspects.begun(7, 0.0)
    suspects.recorded(7)
    assert len(life(tmp_path)) == 0


def test_what_was_decided_and_not_tried_changes_nothing(tmp_path: Path) -> None:
    life(tmp_path).begun(7, 0.0)
    suspects = life(tmp_path)
    suspects.recorded(7)
    assert len(suspects) == 1


def test_a_power_cut_and_a_clean_end_count_against_nobody(tmp_path: Path) -> None:
    life(tmp_path).begun(7, 0.0)
    assert len(life(tmp_path, "another boot")) == 0
    suspects = life(tmp_path)
    suspects.begun(8, 0.0)
    suspects.close()
    suspects.close()
    assert len(life(tmp_path)) == 0


def test_what_is_over_leaves_its_record_to_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suspects = life(tmp_path)
    written: list[int] = []
    pwrite = os.pwrite

    def count(descriptor: int, octets: bytes, offset: int) -> int:
        written.append(offset)
        return pwrite(descriptor, octets, offset)

    monkeypatch.setattr(os, "pwrite", count)
    for number in range(1, 11):
        suspects.begun(number, 0.0)
        suspects.recorded(number, over=True)
    assert len(written) == 10
    assert len(set(written)) == 1, "one place for all"
    found = life(tmp_path)
    assert found.numbers == (10,)
    found.keep(())
    assert (len(found), len(life(tmp_path))) == (0, 0)
    suspects = life(tmp_path)
    suspects.begun(11, 0.0)
    suspects.recorded(11, over=True)
    suspects.close()
    assert len(life(tmp_path)) == 0


async def test_what_was_done_with_at_the_crash_is_no_suspect(tmp_path: Path) -> None:
    for died in range(MOST):
        suspects = life(tmp_path)
        for number in (7, 8):
            if died == 0 or number in suspects.numbers:
                suspects.begun(number, 0.0)
    suspects = life(tmp_path)
    assert suspects.convicted == (7, 8)
    spool = FakeSpool()
    recipients = (Recipient(0, "b@y.test"),)
    message = Message(8, Envelope("a@x.test", recipients), 3, START)
    await spool.accept(Arrival(message, b"x\r\n"))
    events: list[Event] = []
    held = await hold_convicted(suspects, spool, leased, events.append, START)
    assert [each.item.number for each in held] == [8]
    assert suspects.numbers == (8,)


def leased(claimed: Claimed) -> Item:
    return Item(claimed.message, claimed.nrcpt, claimed.content, claimed.parts, 0.0, 0.0, 1)


def test_more_than_fit_are_relayed_all_the_same(tmp_path: Path) -> None:
    suspects = life(tmp_path)
    for number in range(1, 5000):
        suspects.begun(number, 0.0)
    for number in range(1, 5000):
        suspects.recorded(number)
    suspects.begun(5001, 0.0)
    assert len(life(tmp_path)) == 1


def test_trouble_with_the_recorder_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spool.db.flight").symlink_to(tmp_path / "elsewhere")
    life(tmp_path).begun(7, 0.0)
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "spool.db.flight").unlink()
    suspects = life(tmp_path)

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pwrite", fail)
    suspects.begun(7, 0.0)
    suspects.recorded(7)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_the_file_is_its_owners_alone_and_a_stranger_to_it_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "spool.db.flight"
    path.write_bytes(b"\xff" * 70_000)
    assert len(life(tmp_path)) == 0
    path.unlink()
    life(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
