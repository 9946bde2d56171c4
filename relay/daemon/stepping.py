"""A wall clock that was set back: what fell due by its old time is tried now, not when that time comes again.

Due times are stored in wall time, as they outlive the process. A step ahead only lets mail fall due early.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from relay.clock import Clock
from relay.spool import Selector, Spool, SpoolError

EVERY: Final = 10.0
"""Seconds between two looks at the clocks."""
STEP: Final = 60.0
"""Seconds that the wall clock must have been set back: less is soon made up for."""
PAGE: Final = 500
"""Messages made due at a time."""
_log = logging.getLogger(__name__)


async def follow_the_clock(spool: Spool, clock: Clock, longest: Callable[[], float], due: Callable[[], None]) -> None:
    """Look at the clocks until cancelled; ``longest`` is the longest delay, seconds, ``due`` is told that mail is.

    At the start mail that lies further ahead than any delay can have put it tells of a step while no relay ran.
    """
    before = clock.now() - clock.monotonic()
    stepped = await _lies_too_far_ahead(spool, clock, longest() + STEP)
    while True:
        between = clock.now() - clock.monotonic()
        if stepped or between < before - STEP:
            await _make_due(spool, clock, due)
        before, stepped = between, False
        await asyncio.sleep(EVERY)


async def _lies_too_far_ahead(spool: Spool, clock: Clock, most: float) -> bool:
    try:
        ahead = await spool.next_due(clock.now(), ahead=True)
    except SpoolError:
        return False  # the supply, which asks the same, tells of it
    return ahead is not None and ahead - clock.now() > most


async def _make_due(spool: Spool, clock: Clock, due: Callable[[], None]) -> None:
    count = after = 0
    try:
        while found := await spool.find(Selector(state="deferred", after=after), clock.now(), PAGE):
            numbers = [queued.message.number for queued in found]
            after = numbers[-1]
            count += await spool.retry(numbers, clock.now())
    except SpoolError as error:
        _log.warning("the clock was set back, and deferred mail can't be made due: %s", error)
    if count:
        _log.warning("the clock was set back: %d deferred messages are tried now", count)
        due()
