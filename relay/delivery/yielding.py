"""Applications first: while one is handing something over, delivery takes turns with it. Pure; times are monotonic
seconds.

An application waits for each of our replies, a provider for none of our messages. The door is *busy* until QUIET after
the last word of a client within a transaction. Then delivery goes in slices: one for SLICE * PER_SLICE messages that
were taken, and one after PATIENCE whatever was taken, so that nothing starves; and the first AT_ONCE of a burst go as
they come, so that the connections to a server far away are filled from the beginning. Once BURST messages stand in
memory it keeps pace with what comes, so that a load that never ends is not put off for ever. As soon as the door is
quiet it goes at full speed; but by slices where clients come and go, each of which would feel it.
"""

from __future__ import annotations

from math import exp
from typing import Final

QUIET: Final = 0.002
"""A client that says nothing for so long keeps nobody from using the time."""
LISTENED: Final = 0.001
"""Silence counts once it is heard twice, so far apart: on a busy machine words may lie unread in the sockets."""
PATIENCE: Final = 0.050
"""The longest that delivery waits for a slice."""
SLICE: Final = 20
"""What begins in a slice: so many small messages, which take some 2 ms of the event loop."""
PER_SLICE: Final = 8
"""Messages taken for each one that is begun meanwhile."""
AT_ONCE: Final = 100
"""Messages of a burst, the first after RECENT, that are begun as they come; less those that stand in memory already."""
BURST: Final = 5000
"""Messages in memory from which on as many are begun as are taken, and some more."""
OCTETS: Final = 16_384
"""A message counts once more for each so many octets."""
RECENT: Final = 1.0
"""Seconds for which a client that came and went and came again is likely to do so once more."""
FEW: Final = 300
"""Messages a second, over some SPELL: who brings more has no visitors' patience, and wants them gone."""
SPELL: Final = 0.25
PACE: Final = 0.005
"""From slice to slice meanwhile, so that it finds no long work under way."""
PORTION: Final = 64
WHOLE: Final = 500

_WORTH: Final = 1 / PER_SLICE


class Yielding:
    """Whose turn it is."""

    __slots__ = (
        "_came",
        "_earned",
        "_heard",
        "_lately",
        "_left",
        "_pace_at",
        "_silent_since",
        "_slice_at",
        "_took_at",
        "_visited",
    )

    def __init__(self) -> None:
        self._heard = float("-inf")
        self._silent_since = float("-inf")
        self._came = float("-inf")
        self._visited = False
        self._lately = 0.0
        self._took_at = 0.0
        self._pace_at = 0.0
        self._slice_at = 0.0
        self._earned = 0.0
        self._left = 0.0

    def heard(self, now: float, held: int) -> None:
        """A client speaks within a transaction; so many messages stand in memory."""
        if self.is_quiet(now):
            is_first = now - self._heard >= RECENT
            self._begin_turn(now, max(0, AT_ONCE - held) if is_first else 0.0)
            self._visited = now - self._came < RECENT
            self._came = now
        self._heard = now

    def took(self, now: float, held: int) -> None:
        """A message is being taken; so many stand in memory."""
        self._lately = self._taken_lately(now) + 1
        self._took_at = now
        self._earned += _WORTH if held < BURST else 1 + _WORTH
        if self._earned >= SLICE:
            self._begin_turn(now, min(self._earned, 2 * SLICE))

    def portion(self, now: float) -> int:
        """How many messages to claim or settle in one go: few where a client's commit may come right behind."""
        return PORTION if self._is_visited(now) else WHOLE

    def is_busy(self, now: float) -> bool:
        """Whether a commit is likely to be asked for in a moment: no long work for the spool should begin."""
        return now - self._heard < QUIET

    def wait(self, now: float) -> float:
        """For how many seconds nothing may begin; 0: something may."""
        if self._left > 0:
            return 0.0
        if self.is_quiet(now):
            if self._is_visited(now):
                if now < self._pace_at:
                    return self._pace_at - now
                self._left = float(SLICE)
                self._pace_at = now + PACE
            return 0.0
        quiet_in = self._heard + QUIET - now
        if quiet_in <= 0:
            if self._silent_since < self._heard:
                self._silent_since = now
            quiet_in = self._silent_since + LISTENED - now
        slice_in = self._slice_at - now
        if slice_in > 0:
            return min(quiet_in, slice_in)
        self._begin_turn(now, SLICE)
        return 0.0

    def began(self, octets: int) -> None:
        """A message of that size was begun."""
        self._left -= 1 + octets // OCTETS

    def _is_visited(self, now: float) -> bool:
        return self._visited and now - self._heard < RECENT and self._taken_lately(now) < FEW * SPELL

    def _taken_lately(self, now: float) -> float:
        return self._lately * exp((self._took_at - now) / SPELL)

    def is_quiet(self, now: float) -> bool:
        """Whether nobody hands anything over, as far as has been heard."""
        heard, silent = self._heard, self._silent_since
        return (silent >= heard and now - silent >= LISTENED) or now - heard >= RECENT

    def _begin_turn(self, now: float, count: float) -> None:
        self._left = count
        self._earned = 0.0
        self._slice_at = now + PATIENCE
