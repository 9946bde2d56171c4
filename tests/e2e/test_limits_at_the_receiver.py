"""Limits as the receiver counts them, by its own clock: over kills, restarts, reloads and clock steps."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.harness import Relay, SinkProcess, reached, smtp_upstream
from tests.peers.ledger import Submitter

LIMITS = ("20/second", "60/5s")
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


def arrivals(ledger: Path) -> list[float]:
    return sorted(float(line.split()[0]) for line in ledger.read_text().splitlines())


def most(times: Sequence[float], window: float) -> int:
    """The most in any window, however placed; both its ends count."""
    first = best = 0
    for index, at in enumerate(times):
        while times[first] < at - window:
            first += 1
        best = max(best, index - first + 1)
    return best


def check(ledger: Path) -> list[float]:
    times = arrivals(ledger)
    assert most(times, 1.0) <= 20
    assert most(times, 5.0) <= 60
    return times


async def arrived(ledger: Path, count: int, within: float = 90.0) -> None:
    await reached(lambda: ledger.exists() and ledger.read_bytes().count(b"\n") >= count, within)


@pytest.mark.slow
async def test_a_backlog_fills_every_window_and_overfills_none(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    async with (
        SinkProcess(delay=0.02, ledger=ledger) as sink,
        Relay(tmp_path / "relay", {"peer": smtp_upstream(sink.port, limits=list(LIMITS))}) as relay,
    ):
        await relay.submit_many(2000)
        await arrived(ledger, 241)
        status = (await relay.json("status"))["upstreams"]["peer"]
        assert [limit["limit"] for limit in status["limits"]] == list(LIMITS)
        assert all(0 <= limit["used"] <= 60 for limit in status["limits"])
        times = check(ledger)
        delays = [float(found[1]) for line in relay.log if (found := re.search(r"delays=[^,]*/([0-9.]+),", line))]
        mean = sum(delays) / len(delays)
        # What follows four windows' shares starts no later than four windows, each with a delay, and 2 %.
        assert times[240] - times[0] <= 4 * (5.0 + mean) / 0.98


@pytest.mark.slow
async def test_two_kills_overfill_no_window(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    async with (
        SinkProcess(delay=0.02, ledger=ledger) as sink,
        Relay(tmp_path / "relay", {"peer": smtp_upstream(sink.port, limits=list(LIMITS))}) as relay,
    ):
        await relay.submit_many(300)
        for sofar in (7, 70):
            await arrived(ledger, sofar)
            await relay.kill()
            await relay.start()
        await arrived(ledger, 190)
        assert await relay.stop() == 0
        await relay.start()
        await arrived(ledger, 220)
        check(ledger)


@pytest.mark.slow
async def test_a_reload_with_other_limits_keeps_what_was_used(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    async with (
        SinkProcess(ledger=ledger) as sink,
        Relay(tmp_path / "relay", {"peer": smtp_upstream(sink.port, limits=["60/30s"])}) as relay,
    ):
        await relay.submit_many(100)
        await arrived(ledger, 60)
        relay.upstreams = {"peer": smtp_upstream(sink.port, limits=["70/30s", "65/60s"], limit_unit="recipients")}
        relay.write_config()
        assert relay.process is not None
        relay.process.send_signal(signal.SIGHUP)
        await relay.until("reload: done")
        await arrived(ledger, 65)
        limits = (await relay.json("status"))["upstreams"]["peer"]["limits"]
        assert [(limit["used"], limit["left"]) for limit in limits] == [(65, 5), (65, 0)]


@pytest.mark.slow
async def test_recipients_are_counted_one_by_one(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    async with (
        SinkProcess(ledger=ledger) as sink,
        Relay(
            tmp_path / "relay", {"peer": smtp_upstream(sink.port, limits=["5/2s"], limit_unit="recipients")}
        ) as relay,
    ):
        client = await Submitter.connect(relay.port)
        reply = await client.submit("a@x.test", [f"{n}@y.test" for n in range(12)], b"Subject: many\r\n\r\nhello\r\n")
        client.close()
        assert reply.startswith("250")
        await relay.until("status=sent", 12)
        sizes = [sum(1 for _ in relay.lines(rf"to=<{n}@y\.test>.*status=sent")) for n in range(12)]
        assert sizes == [1] * 12
        first, second, third = arrivals(ledger)
        assert second - first > 2.0
        assert third - second > 2.0


@pytest.mark.slow
@pytest.mark.skipif(not FAKETIME.exists(), reason="needs libfaketime")
async def test_steps_of_the_wall_clock_change_nothing(tmp_path: Path) -> None:
    """A wall clock in 2030, then in 2020, a kill in each of them."""
    ledger, stamp = tmp_path / "ledger", tmp_path / "faketime"
    stamp.write_text("@2028-01-01 00:00:00\n")
    # libfaketime 0.9.10 refuses clock_nanosleep() to a moment of the monotonic clock, which time.sleep() calls.
    (tmp_path / "sitecustomize.py").write_text(
        "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds)\n"
    )
    environment = {
        "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}",
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_TIMESTAMP_FILE": str(stamp),
    }
    async with (
        SinkProcess(ledger=ledger) as sink,
        Relay(
            tmp_path / "relay",
            {"peer": smtp_upstream(sink.port, limits=list(LIMITS))},
            queue={"lifetime": "3650d"},
            environment=environment,
        ) as relay,
    ):
        await relay.submit_many(300)
        sofar = 20
        for when in ("@2031-01-01 00:00:00", "@2020-01-01 00:00:00", "@2028-01-01 00:00:00"):
            await arrived(ledger, sofar)
            stamp.write_text(f"{when}\n")
            sofar += 40
            await arrived(ledger, sofar)
            await relay.kill()
            await relay.start()
        await arrived(ledger, 180)
        check(ledger)
        assert relay.lines(r"^Jan  1 .*status=sent"), "the wall clock was not stepped"
