"""When a deferred recipient is tried again, and how long an upstream that is down or refuses us is left
alone. Pure.

All retry times come from here; sessions and upstreams never retry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from relay.outcome import Trouble

JITTER: Final = 0.2
"""Each delay is shortened or lengthened by up to this share, lest an outage ends in a thundering herd."""
FIRST_PROBE: Final = 1.0
LAST_PROBE: Final = 60.0
"""Seconds until a down upstream is tried again: doubling from the first to the last (contract §4b)."""
LONGEST_PAUSE: Final = 86400.0
"""Seconds that an upstream may ask for at the most."""
LOGINS: Final = 3
LOGIN_WINDOW: Final = 600.0
"""So many refused logins in so many seconds at the most: beyond that providers lock accounts."""


def next_due(attempts: int, now: float, expires: float, delays: Sequence[float], chance: float) -> float:
    """Unix seconds of the next attempt after ``attempts`` charged ones, the last delay repeating.

    ``chance`` in [0, 1) makes the jitter. Never later than ``expires``: then the recipient is looked at to expire.
    """
    delay = delays[min(max(attempts, 1), len(delays)) - 1]
    return min(now + jittered(delay, chance), max(expires, now))


def jittered(delay: float, chance: float) -> float:
    """``delay`` seconds give or take 20 %."""
    return delay * (1 + JITTER * (2 * chance - 1))


@dataclass(frozen=True, slots=True)
class Circuit:
    """Whether an upstream is thought to be usable. Times are monotonic seconds; ``retry_at`` None: it is closed.

    ``trouble`` is None where it is the upstream's health: then a connection is all the proof that is wanted. Where it
    answers and refuses us, the proof is one message that it takes: until then the circuit is *on trial*. Health and
    refusals are counted apart: each kind of trouble begins with its own first pause. ``refused`` are the last refused
    logins: there are never more than :data:`LOGINS` in :data:`LOGIN_WINDOW`, whatever else happens meanwhile.
    """

    failures: int = 0
    retry_at: float | None = None
    trouble: Trouble | None = None
    refused: tuple[float, ...] = ()

    @property
    def closed(self) -> bool:
        """Up, for all we know."""
        return self.retry_at is None

    @property
    def on_trial(self) -> bool:
        """A pause is over: one message will show whether its cause is."""
        return self.closed and self.trouble is not None

    def failed(self, now: float, chance: float, trouble: Trouble | None = None, wait: float | None = None) -> Circuit:
        """After one more failure at ``now``; ``wait`` is the time that the upstream asked for."""
        failures = self.failures if trouble is self.trouble else 0
        if wait is None:
            pauses = _PAUSES[trouble]
            delay = jittered(pauses[min(failures, len(pauses) - 1)], chance)
        else:
            delay = min(max(wait, FIRST_PROBE), LONGEST_PAUSE) + chance  # never before it
        refused = (*self.refused, now)[-LOGINS:] if trouble is Trouble.AUTH else self.refused
        return Circuit(failures + 1, _no_earlier(now + delay, refused), trouble, refused)

    def login_refused(self, now: float) -> Circuit:
        """One more login was refused while the circuit was open already."""
        refused = (*self.refused, now)[-LOGINS:]
        retry_at = None if self.retry_at is None else _no_earlier(self.retry_at, refused)
        return replace(self, refused=refused, retry_at=retry_at)

    def logins_left(self, now: float) -> int:
        """How many logins may be refused yet."""
        return LOGINS - sum(now - each < LOGIN_WINDOW for each in self.refused)

    def connected(self) -> Circuit:
        """A login succeeded: up again, or on trial where a connection alone proves nothing."""
        if self.trouble in {Trouble.AUTH, Trouble.CONNECTIONS}:
            return Circuit()
        return replace(self, retry_at=None, refused=())

    def reopened(self) -> Circuit:
        """Closed again as far as a connection tells; on trial where it tells nothing."""
        return replace(self, retry_at=None)

    def answered(self) -> Circuit:
        """A message had its reply: what was before is forgotten, but not the refused logins."""
        return Circuit(refused=self.refused)

    def inherited(self, now: float) -> Circuit:
        """What an upstream of the same name with other settings begins with: at once, where a login is left."""
        if self.logins_left(now) > 0:
            return Circuit(refused=self.refused)
        return Circuit(1, self.refused[0] + LOGIN_WINDOW, Trouble.AUTH, self.refused)

    def may_probe(self, now: float) -> bool:
        """Whether a down upstream is due for another try."""
        return self.retry_at is not None and now >= self.retry_at


def _no_earlier(when: float, refused: tuple[float, ...]) -> float:
    """``when``, or later where one more login would be one too many."""
    return when if len(refused) < LOGINS else max(when, refused[0] + LOGIN_WINDOW)


_PAUSES: Final[dict[Trouble | None, tuple[float, ...]]] = {
    None: tuple(min(FIRST_PROBE * 2.0**n, LAST_PROBE) for n in range(7)),
    # https://docs.aws.amazon.com/ses/latest/dg/smtp-response-codes.html: 5 s, 10 s, 30 s, then longer.
    Trouble.RATE: (5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
    Trouble.CONNECTIONS: (5.0, 10.0, 30.0, 60.0),
    # A rolling quota frees itself bit by bit: looked after, but seldom.
    Trouble.QUOTA: (300.0, 900.0, 1800.0, 3600.0),
    Trouble.AUTH: (60.0, 240.0, 300.0),
    # Somebody has to do something about it.
    Trouble.ACCOUNT: (300.0, 900.0, 1800.0, 3600.0),
    Trouble.RECIPIENT: (FIRST_PROBE,),
    Trouble.CONTENT: (FIRST_PROBE,),
}
"""Seconds an upstream is left alone after the first, second… failure of a kind running; the last one repeats."""
