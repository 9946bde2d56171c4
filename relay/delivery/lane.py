"""One upstream at work: its sessions, its circuit, the connects under way.

A lane opens and retires sessions and knows which of them can take a request; what to relay it is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from relay.delivery.backoff import Circuit
from relay.delivery.pool import Place, PoolView, place, to_open
from relay.outcome import Command, Outcome, Scope, unavailable
from relay.upstream import DeliveryRequest, Finished, Session, Upstream, UpstreamUnavailable

_log = logging.getLogger(__name__)
_PROBING: Final = float("inf")
"""``retry_at`` while a probe is under way."""


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """What one upstream is given at a time."""

    max_connections: int
    max_recipients: int


class LaneOwner(Protocol):
    """The engine, as a lane sees it."""

    def finished(self, lane: Lane, finished: Finished) -> None:
        """A request has its outcomes."""
        ...

    def changed(self, lane: Lane) -> None:
        """There may be room for another request, or the upstream went up or down."""
        ...

    def trouble(self, lane: Lane, outcome: Outcome) -> None:
        """The upstream was found unusable just now."""
        ...


class Lane:
    """``chance`` gives random numbers in [0, 1) for jitter."""

    def __init__(self, upstream: Upstream, limits: LaneLimits, owner: LaneOwner, chance: Callable[[], float]) -> None:
        self.upstream = upstream
        self.limits = limits
        self.max_recipients = limits.max_recipients
        self.circuit = Circuit()
        self.last_error: str | None = None
        self._owner = owner
        self._chance = chance
        self._loop = asyncio.get_running_loop()
        self._sessions: dict[Session, bool] = {}  # whether a request got an answer there
        self._idle: list[Session] = []
        self._chainable: deque[Session] = deque()
        self._connects: set[asyncio.Task[None]] = set()
        self._fruitless = 0  # sessions running that ended in trouble before any answer
        self._paused = False
        self._closing = False

    @property
    def name(self) -> str:
        """The upstream's name."""
        return self.upstream.name

    @property
    def state(self) -> Literal["up", "down", "paused"]:
        """``up``, ``down`` or ``paused``, as ``relay status`` shows it."""
        if self.circuit.closed:
            return "up"
        return "paused" if self._paused else "down"

    @property
    def connections(self) -> int:
        """Open sessions."""
        return len(self._sessions)

    @property
    def in_flight(self) -> int:
        """Requests begun and not finished."""
        return sum(session.in_flight for session in self._sessions)

    # -- giving it work ---------------------------------------------------------------------------------------------
    @property
    def place(self) -> Place:
        """Where the next request would go."""
        return place(self._view())

    def begin(self, request: DeliveryRequest) -> None:
        """Hand ``request`` to a session; only where :attr:`place` is somewhere."""
        session = self._idle.pop() if self._idle else self._chainable.popleft()
        try:
            session.begin(request)
        finally:
            self._file(session)

    def grow(self, demand: int) -> None:
        """Open sessions for ``demand`` requests that found none."""
        if self._closing:
            return
        for _ in range(to_open(self._view(), demand)):
            self._connects.add(self._loop.create_task(self._connect()))

    def probe(self) -> None:
        """Try a down upstream with one session: one that was opened meanwhile, else a new one."""
        if self._closing or self._connects:
            return
        if self._idle:
            self.circuit = Circuit(self.circuit.failures)
            self._loop.call_soon(self._owner.changed, self)
        else:
            self.circuit = Circuit(self.circuit.failures, _PROBING)
            self._connects.add(self._loop.create_task(self._connect()))

    def retire(self) -> None:
        """Open nothing more; sessions end once nothing is in flight."""
        self._closing = True
        for task in self._connects:
            task.cancel()
        self._idle.clear()
        self._chainable.clear()
        for session in list(self._sessions):
            session.retire()

    def abort(self, why: str) -> None:
        """End all sessions at once."""
        self.retire()
        for session in list(self._sessions):
            session.abort(why)

    def _view(self) -> PoolView:
        return PoolView(
            len(self._idle),
            len(self._chainable),
            len(self._sessions),
            len(self._connects),
            self.limits.max_connections,
        )

    def _file(self, session: Session) -> None:
        """Put a session where its next request finds it; it stands in neither list before."""
        if session.capacity > 0:
            if session.in_flight:
                self._chainable.append(session)
            else:
                self._idle.append(session)

    async def _connect(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            session = await self.upstream.connect(self)
        except UpstreamUnavailable as error:
            self._connects.discard(task)
            self._fail(error.outcome)
            return
        except Exception:  # noqa: BLE001 - a bug in connecting must not end the relay
            _log.exception("connecting to upstream %s failed in an unforeseen way", self.name)
            self._connects.discard(task)
            self._fail(unavailable("internal error while connecting", "4.3.0"))
            return
        # No longer counted as connecting before anybody is told that there is a session.
        self._connects.discard(task)
        self._sessions[session] = False
        # The server's word, as its latest session has it.
        self.max_recipients = min(self.limits.max_recipients, session.max_recipients or self.limits.max_recipients)
        if self._closing:
            session.retire()
            return
        if self.circuit.retry_at == _PROBING:
            self.circuit = Circuit(self.circuit.failures)  # up again; forgotten once a request is answered
        self._file(session)
        self._owner.changed(self)

    def _fail(self, outcome: Outcome) -> None:
        self.last_error = outcome.detail
        # Connects that fail together are one failure.
        if self.circuit.closed or self.circuit.retry_at == _PROBING:
            self._paused = _is_account(outcome)
            self.circuit = self.circuit.failed(self._loop.time(), self._chance())
            self._owner.trouble(self, outcome)
        self._owner.changed(self)

    # -- SessionObserver --------------------------------------------------------------------------------------------
    def finished(self, session: Session, finished: Finished) -> None:
        """A request has all its outcomes."""
        scopes = {outcome.scope for outcome in finished.outcomes}
        if scopes & {Scope.RECIPIENT, Scope.MESSAGE} and not all(o.in_doubt for o in finished.outcomes):
            if session in self._sessions:  # an ended one may still tell of what it could not have
                self._sessions[session] = True
            self._fruitless = 0
            if self.circuit.failures and self.circuit.closed:
                self.circuit = Circuit()
        self._refile(session)
        self._owner.finished(self, finished)

    def capacity_changed(self, session: Session) -> None:
        """It may take more."""
        self._refile(session)
        self._owner.changed(self)

    def ended(self, session: Session, why: Outcome | None) -> None:
        """The session is over, without trouble where ``why`` is None."""
        self._unfile(session)
        answered = self._sessions.pop(session, True)
        if why is not None and not self._closing and self._is_upstreams_trouble(session, why, answered=answered):
            self._fail(why)
        else:
            self._owner.changed(self)

    def _is_upstreams_trouble(self, session: Session, why: Outcome, *, answered: bool) -> bool:
        """Over our account, before its first transaction, or the second one running that no request got an answer of:
        a 421 or a loss within a transaction only ends the session, but not session after session.
        """
        if why.scope is Scope.UPSTREAM or not session.transactions:
            return True
        if answered:
            return False
        self._fruitless += 1
        return self._fruitless > 1

    def _refile(self, session: Session) -> None:
        self._unfile(session)
        if session in self._sessions and not self._closing:
            self._file(session)

    def _unfile(self, session: Session) -> None:
        if session in self._chainable:
            self._chainable.remove(session)
        elif session in self._idle:
            self._idle.remove(session)


def _is_account(outcome: Outcome) -> bool:
    """Whether the upstream is there and it is us it refuses (authentication), so that it is *paused*, not *down*."""
    return outcome.reply is not None and (
        outcome.reply.code in {530, 535, 538, 454} or outcome.detail.endswith(f"{Command.AUTH} command)")
    )
