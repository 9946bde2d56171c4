"""Limits that a provider tells of the account: they hold beside the configured ones, and the lower of two binds.

What others send by the same account, another relay or a program of its own, counts too. How much that is follows from
the provider's count of all and from ours of what went through here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from relay.settings import Limit
from relay.upstream import ServerLimit

DAY: Final = 86400.0
"""A longer window (SparkPost's month) is a plan's, that of the calendar: a provider may bill what is above it."""
_NAMES: Final = {1.0: "second", 60.0: "minute", 3600.0: "hour", DAY: "day"}


@dataclass(frozen=True, slots=True)
class AccountLimit:
    """``used`` is the provider's count of its window; ``elsewhere`` is what of it others have used."""

    limit: Limit
    used: int = 0
    elsewhere: int = 0

    def shared(self, here: int) -> AccountLimit:
        """The same, where ``here`` of the window went through us."""
        return replace(self, elsewhere=min(self.limit.count, max(0, self.used - here)))


def account_limits(told: Iterable[ServerLimit]) -> list[AccountLimit]:
    """What is to be kept to of what a provider told."""
    return [AccountLimit(_limit(each), math.ceil(each.used or 0)) for each in told if each.window <= DAY]


def tightened(limits: Sequence[Limit], account: Iterable[AccountLimit]) -> tuple[Limit, ...]:
    """The configured limits with the account's in the place of those that allow more of the same window."""
    found = {limit.window: limit for limit in limits}
    for each in account:
        window = each.limit.window
        if window not in found or each.limit.count - each.elsewhere < found[window].count:
            found[window] = each.limit
    return tuple(found.values())


def _limit(told: ServerLimit) -> Limit:
    """Half a message a second is one in two; one of none stands for none, as a limit has something to it."""
    count, window = max(1, int(told.count)), told.window
    if 0 < told.count < 1:
        window = min(DAY, window / told.count)
    return Limit(count, window, f"{count}/{_NAMES.get(window, f'{window:g}s')} of the account")
