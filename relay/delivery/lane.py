"""One upstream at work: its sessions, its circuit, the connects under way.

A lane opens and retires sessions and knows which of them can take a request; what to relay it is told.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, Protocol

from relay.delivery.backoff import Circuit
from relay.delivery.permits import Permits
from relay.delivery.pool import Place, PoolView, place, to_open
from relay.outcome import Outcome, Scope, Trouble, Verdict, unavailable
from relay.settings import InDoubt
from relay.upstream import DeliveryRequest, Finished, Session, Upstream, UpstreamUnavailable

_log = logging.getLogger(__name__)
_PROBING: Final = float("inf")
"""``retry_at`` while a probe is under way: a connection, or the one message of a trial."""
CROWDED: Final = 60.0
"""Seconds that no more connections are opened than there were when the upstream said that they are too many."""


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """What one upstream is given at a time, and what becomes of mail that it leaves in doubt.

    ``authenticates``: each connection is a login. ``idempotency_header`` is the field that names a message to it.
    """

    max_connections: int
    max_recipients: int
    in_doubt: InDoubt = "retry"
    authenticates: bool = False
    idempotency_header: str = ""


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

    def recovered(self, lane: Lane) -> None:
        """It is of use again, as a message's reply shows."""
        ...


class Lane:
    """``chance`` gives random numbers in [0, 1) for jitter, ``wall`` Unix seconds."""

    def __init__(
        self,
        upstream: Upstream,
        limits: LaneLimits,
        owner: LaneOwner,
        chance: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.upstream = upstream
        self.limits = limits
        self.max_recipients = limits.max_recipients
        self.permits: Permits | None = None
        self.circuit = Circuit()
        self.last_error: str | None = None
        self._owner = owner
        self._chance = chance
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._sessions: dict[Session, bool] = {}  # whether a request got an answer there
        self._idle: list[Session] = []
        self._chainable: deque[Session] = deque()
        self._connects: set[asyncio.Task[None]] = set()
        self._fruitless = 0  # sessions running that ended in trouble before any answer
        self._trial: DeliveryRequest | None = None
        self._told: Outcome | None = None  # the refusal that was heard last
        self._ceiling = limits.max_connections
        self._crowded_until = 0.0
        self._closing = False

    @property
    def name(self) -> str:
        """The upstream's name."""
        return self.upstream.name

    @property
    def state(self) -> Literal["up", "down", "paused"]:
        """``up``, ``down`` or ``paused``, as ``relay status`` shows it."""
        if self.circuit.trouble is not None:
            return "paused"
        return "up" if self.circuit.closed else "down"

    @property
    def condition(self) -> str:
        """The state in words, with why and until when where it pauses."""
        retry_at, trouble = self.circuit.retry_at, self.circuit.trouble
        if trouble is None:
            if self._loop.time() < self._crowded_until:
                return f"{self.state} with no more than {self._ceiling} connections for {CROWDED:g} s"
            return self.state
        if retry_at is None or retry_at == _PROBING:
            return f"paused ({trouble}), being tried"
        if retry_at <= self._loop.time():
            return f"paused ({trouble}), to be tried with the next message"
        until = datetime.fromtimestamp(self._wall() + retry_at - self._loop.time()).astimezone()
        return f"paused ({trouble}) until {until.isoformat(' ', 'seconds')}"

    @property
    def explanation(self) -> str | None:
        """What was last wrong; while it pauses with why and until when."""
        return f"{self.condition}: {self.last_error}" if self.circuit.trouble is not None else self.last_error

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
        """Where the next request would go; while one message is on trial no other one does."""
        return place(self._view()) if self.circuit.closed else Place.NOWHERE

    def begin(self, request: DeliveryRequest) -> None:
        """Hand ``request`` to a session; only where :attr:`place` is somewhere."""
        session = self._idle.pop() if self._idle else self._chainable.popleft()
        try:
            session.begin(request)
        finally:
            self._file(session)
        if self.circuit.on_trial:
            self._trial = request
            self.circuit = replace(self.circuit, retry_at=_PROBING)
            self._loop.call_soon(self._owner.changed, self)  # the others need not wait for it

    def grow(self, demand: int) -> None:
        """Open sessions for ``demand`` requests that found none."""
        if self._closing or not self.circuit.closed:
            return
        count = to_open(self._view(), 1 if self.circuit.on_trial else demand)
        if self.limits.authenticates:
            count = min(count, self._logins())
        for _ in range(count):
            self._connects.add(self._loop.create_task(self._connect()))

    @property
    def is_spent(self) -> bool:
        """Whether a limit of ours forbids it another message now."""
        return self.permits is not None and self.permits.is_spent

    def _logins(self) -> int:
        """Logins that may be begun: one until it has succeeded, then as many as may fail at the same time."""
        left = self.circuit.logins_left(self._loop.time())
        return max(0, (left if self._sessions else min(left, 1)) - len(self._connects))

    def probe(self) -> None:
        """Try a down upstream with one session: one that was opened meanwhile, else a new one."""
        if self._closing or self._connects:
            return
        if self._idle:
            self.circuit = self.circuit.reopened()
            self._loop.call_soon(self._owner.changed, self)
        else:
            self.circuit = replace(self.circuit, retry_at=_PROBING)
            self._connects.add(self._loop.create_task(self._connect()))

    def succeed(self, other: Lane) -> None:
        """Take the place of an upstream of the same name: refused logins count on, as its provider counts them."""
        self.circuit = other.circuit.inherited(self._loop.time())

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
        most = self.limits.max_connections
        if self._crowded_until and self._loop.time() < self._crowded_until:
            most = min(most, self._ceiling)
        return PoolView(len(self._idle), len(self._chainable), len(self._sessions), len(self._connects), most)

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
            self._fail(error.outcome, len(self._sessions))
            return
        except Exception:  # noqa: BLE001 - a bug in connecting must not end the relay
            _log.exception("connecting to upstream %s failed in an unforeseen way", self.name)
            self._connects.discard(task)
            self._fail(unavailable("internal error while connecting", "4.3.0"), len(self._sessions))
            return
        # No longer counted as connecting before anybody is told that there is a session.
        self._connects.discard(task)
        self._sessions[session] = False
        # The server's word, as its latest session has it.
        self.max_recipients = min(self.limits.max_recipients, session.max_recipients or self.limits.max_recipients)
        if self._closing:
            session.retire()
            return
        if self.circuit.retry_at == _PROBING and self._trial is None:
            refused = self.circuit.trouble is not None
            self.circuit = self.circuit.connected()  # the failures are forgotten once a request is answered
            if refused and self.circuit.trouble is None:
                self._owner.recovered(self)
        elif self.circuit.refused and self.limits.authenticates:
            self.circuit = replace(self.circuit, refused=())
        self._file(session)
        self._owner.changed(self)

    def _fail(self, outcome: Outcome, others: int) -> None:
        """``others`` counts the sessions that are not concerned."""
        self.last_error = outcome.detail
        now = self._loop.time()
        if outcome.trouble is Trouble.CONNECTIONS and others:
            if self.circuit.retry_at == _PROBING and self._trial is None:
                self.circuit = self.circuit.reopened()
            if now >= self._crowded_until or self._ceiling > others:
                self._ceiling, self._crowded_until = others, now + CROWDED
                self._owner.trouble(self, outcome)
        elif self.circuit.closed or self.circuit.retry_at == _PROBING:
            wait = outcome.wait if outcome.until is None else outcome.until - self._wall()
            self.circuit = self.circuit.failed(now, self._chance(), outcome.trouble, wait)
            self._trial = None
            self._owner.trouble(self, outcome)
        elif outcome.trouble is Trouble.AUTH:
            # Connects that fail together are one failure, but as many logins.
            self.circuit = self.circuit.login_refused(now)
        self._owner.changed(self)

    # -- SessionObserver --------------------------------------------------------------------------------------------
    def finished(self, session: Session, finished: Finished) -> None:
        """A request has all its outcomes."""
        self._learn(session, finished)
        scopes = {outcome.scope for outcome in finished.outcomes}
        if scopes & {Scope.RECIPIENT, Scope.MESSAGE} and not all(o.in_doubt for o in finished.outcomes):
            if session in self._sessions:  # an ended one may still tell of what it could not have
                self._sessions[session] = True
            self._fruitless = 0
        self._refile(session)
        self._owner.finished(self, finished)

    def _learn(self, session: Session, finished: Finished) -> None:
        """What the outcomes say of the upstream, before anybody sends it something more."""
        refusal = next((o for o in finished.outcomes if o.scope is Scope.UPSTREAM), None)
        trial = self._trial is finished.request
        if trial:
            self._trial = None
        if refusal is not None:
            self._told = refusal
            self._fail(refusal, len(self._sessions.keys() - {session}))
        elif self.circuit.failures and (self.circuit.closed or self.circuit.retry_at == _PROBING):
            if self.circuit.trouble is None:
                proof = self.circuit.closed and any(_is_own(o) for o in finished.outcomes)
            else:
                proof = any(o.verdict is Verdict.RELAYED or _judges_content(o) for o in finished.outcomes)
            if proof:
                self.circuit = self.circuit.answered()
                self._owner.recovered(self)
            elif trial:
                self.circuit = self.circuit.reopened()  # it told nothing: the next message is the trial

    def capacity_changed(self, session: Session) -> None:
        """It may take more."""
        self._refile(session)
        self._owner.changed(self)

    def ended(self, session: Session, why: Outcome | None) -> None:
        """The session is over, without trouble where ``why`` is None."""
        self._unfile(session)
        answered = self._sessions.pop(session, True)
        news = why is not None and why is not self._told and not self._closing
        if why is not None and news and self._is_upstreams_trouble(session, why, answered=answered):
            self._fail(why, len(self._sessions))
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


def _is_own(outcome: Outcome) -> bool:
    """Whether it is a recipient's or a message's own, by the server's word."""
    return outcome.scope in {Scope.RECIPIENT, Scope.MESSAGE} and not outcome.in_doubt


def _judges_content(outcome: Outcome) -> bool:
    """Whether the server has looked at the message, as it would not where it refuses us."""
    return outcome.scope is Scope.MESSAGE and outcome.reply is not None
