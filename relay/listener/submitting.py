"""What a listener grants those who submit: the priority of their mail, and how much of it (``submit_limits``).

A limit "N per window" holds for each user of a listener, or for each client that did not log in: in no window of that
length, however placed, are more than N messages accepted. It is kept in memory: a restart forgets it, and after it as
much again may come. Its clock never steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from relay.clock import Clock
from relay.delivery.quota.window import Window
from relay.mail import Client, Priority
from relay.outcome import Reply
from relay.settings import ListenerSettings

KEPT: Final = 10_000
"""Clients and users remembered before those are forgotten who have used nothing within their windows."""


class _Use:
    """What one user or client has used of its limits; ``coming`` counts messages on their way into the spool."""

    __slots__ = ("coming", "windows")

    def __init__(self) -> None:
        self.coming = 0
        self.windows: dict[float, Window] = {}


class Submissions:
    """The grants of all listeners, by their names."""

    def __init__(self, clock: Clock, listeners: Iterable[ListenerSettings] = ()) -> None:
        self._clock = clock
        self._uses: dict[tuple[str, str], _Use] = {}
        self.configure(listeners)

    def configure(self, listeners: Iterable[ListenerSettings]) -> None:
        """Grant what these say from now on; use stays counted in windows that stay."""
        listeners = tuple(listeners)
        self._priorities = {each.name: Priority(each.priority) for each in listeners if each.priority != "normal"}
        self._limits = {each.name: each.submit_limits for each in listeners if each.submit_limits}

    def priority(self, client: Client) -> Priority:
        """The priority of mail that does not name one."""
        return self._priorities.get(client.listener, Priority.NORMAL)

    def refusal(self, client: Client) -> Reply | None:
        """Why it may not submit a message now; None: it may."""
        limits = self._limits.get(client.listener)
        if limits is None:
            return None
        now = self._clock.monotonic()
        use = self._use(client)
        for limit in limits:
            window = use.windows.get(limit.window)
            if window is None:
                window = use.windows[limit.window] = Window(limit.count, limit.window)
            window.forget(now)
            over = window.used + use.coming + 1 - limit.count
            if over > 0:
                left_at = window.left_at(over)
                wait = 1.0 if left_at is None else max(1.0, left_at - now)
                return _too_many(limit.text, wait, self._clock.now())
        return None

    def begin(self, client: Client) -> Reply | None:
        """A message is about to enter the spool, to be followed by :meth:`end`; else the reply that refuses it."""
        if client.listener not in self._limits:
            return None
        refusal = self.refusal(client)
        if refusal is None:
            self._use(client).coming += 1
        return refusal

    def end(self, client: Client, *, accepted: bool) -> None:
        """It is in the spool, or it isn't."""
        use = self._uses.get(_key(client))
        if use is None or not use.coming:
            return
        use.coming -= 1
        if accepted:
            now = self._clock.monotonic()
            for window in use.windows.values():
                window.add(1, now)

    def _use(self, client: Client) -> _Use:
        key = _key(client)
        use = self._uses.get(key)
        if use is None:
            if len(self._uses) >= KEPT:
                self._forget()
            use = self._uses[key] = _Use()
        return use

    def _forget(self) -> None:
        now = self._clock.monotonic()
        for key, use in list(self._uses.items()):
            for window in use.windows.values():
                window.forget(now)
            if not use.coming and not any(window.used for window in use.windows.values()):
                del self._uses[key]


def _key(client: Client) -> tuple[str, str]:
    return client.listener, f"user {client.user}" if client.user else client.address


def _too_many(limit: str, wait: float, now: float) -> Reply:
    """RFC 5321 has no code for it; 452 says that the client did nothing wrong and is to come again."""
    at = datetime.fromtimestamp(now + wait).astimezone().isoformat(" ", "seconds")
    seconds = int(wait) + 1
    return Reply(452, f"Error: no more than {limit} from you; try again in {seconds} s, at {at}", "4.7.1")
