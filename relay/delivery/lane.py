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
from relay.delivery.charging import is_own, judges_content
from relay.delivery.learning import Refusal
from relay.delivery.pacing import Paced
from relay.delivery.permits import Permits
from relay.delivery.pool import Place, place, to_open
from relay.delivery.regulator import Regulator
from relay.delivery.speed import Speed
from relay.outcome import Outcome, Scope, Trouble, Verdict, unavailable
from relay.settings import InDoubt
from relay.upstream import DeliveryRequest, Finished, Session, Upstream, UpstreamUnavailable

_log = logging.getLogger(__name__)
_PROBING: Final = float("inf")
"""``retry_at`` while a probe is under way: a connection, or the one message of a trial."""


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """What one upstream is given at a time, and what becomes of mail that it leaves in doubt.

    ``authenticates``: each connection is a login. ``idempotency_header`` is the field that names a message to it.
    ``cycle`` messages go to it before a rotating route goes on; ``reserve`` of its connections is for urgent mail.
    """

    max_connections: int
    max_recipients: int
    in_doubt: InDoubt = "retry"
    authenticates: bool = False
    idempotency_header: str = ""
    cycle: int = 50
    reserve: float = 0.0


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
        self.name = upstream.name
        self.limits = limits
        self.max_recipients = limits.max_recipients
        self.permits: Permits | Paced | None = None
        self.regulator = Regulator(upstream.name, wall=wall)
        self.circuit = Circuit()
        self.last_error: str | None = None
        self.moved_at = 0.0  # when it answered last, or an idle session was given something
        self._owner = owner
        self._chance = chance
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self.speed = Speed(self._loop.time())
        self._sessions: dict[Session, bool] = {}  # whether a request got an answer there
        self._idle: list[Session] = []
        self._chainable: deque[Session] = deque()
        self._connects: set[asyncio.Task[None]] = set()
        self._fruitless = 0  # sessions running that ended in trouble before any answer
        self._trial: DeliveryRequest | None = None
        self._told: Outcome | None = None  # the refusal that was heard last
        self._closing = False

    @property
    def state(self) -> Literal["up", "down", "paused", "backoff"]:
        """``up``, ``down``, ``paused`` or ``backoff``, as ``relay status`` shows it."""
        if self.circuit.trouble is not None:
            return "paused"
        if not self.circuit.closed:
            return "down"
        return "backoff" if self.regulator.is_slowed else "up"

    @property
    def condition(self) -> str:
        """The state in words, with why and until when where it pauses."""
        retry_at, trouble = self.circuit.retry_at, self.circuit.trouble
        if trouble is None:
            return self.regulator.condition if self.state == "backoff" else self.state
        if retry_at is None or retry_at == _PROBING:
            return f"paused ({trouble}), being tried"
        if retry_at <= self._loop.time():
            return f"paused ({trouble}), to be tried with the next message"
        until = datetime.fromtimestamp(self._wall() + retry_at - self._loop.time()).astimezone()
        return f"paused ({trouble}) until {until.isoformat(' ', 'seconds')}"

    @property
    def explanation(self) -> str | None:
        """What was last wrong; while it pauses with why and until when, while it is slowed down to what."""
        if self.circuit.trouble is None and (learned := self.regulator.learned) is not None:
            return learned.text if self.circuit.closed else f"{self.last_error}; {learned.text}"
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
    def place_for(self, *, urgent: bool = False) -> Place:
        """Where the next request would go; while one message is on trial no other one does."""
        if self.circuit.retry_at is not None:
            return Place.NOWHERE
        idle = len(self._idle)
        if urgent or not self.limits.reserve:
            return place(idle, len(self._chainable))
        return place(idle, len(self._chainable), self._most(urgent=False) - (len(self._sessions) - idle))

    @property
    def is_whole(self) -> bool:
        """Whether it has all the connections that it may have."""
        return len(self._sessions) + len(self._connects) >= self.limits.max_connections

    def begin(self, request: DeliveryRequest, where: Place = Place.IDLE) -> None:
        """Hand ``request`` to a session; only ``where`` :meth:`place_for` says."""
        if where is Place.IDLE:
            self.moved_at = self._loop.time()
        session = self._idle.pop() if self._idle and where is Place.IDLE else self._chainable.popleft()
        try:
            session.begin(request)
        finally:
            self._file(session)
        if self.circuit.on_trial:
            self._trial = request
            self.circuit = replace(self.circuit, retry_at=_PROBING)
            self._loop.call_soon(self._owner.changed, self)  # the others need not wait for it

    def grow(self, demand: int, *, urgent: bool = False) -> None:
        """Open sessions for ``demand`` requests that found none."""
        if not demand or self._closing or not self.circuit.closed:
            return
        room = self._most(urgent=urgent) - len(self._sessions) - len(self._connects)
        count = to_open(room, len(self._connects), 1 if self.circuit.on_trial else demand)
        if self.limits.authenticates:
            count = min(count, self._logins())
        if not urgent:
            count = min(count, self.regulator.openable(len(self._sessions) + len(self._connects)))
        for _ in range(count):
            self._connects.add(self._loop.create_task(self._connect()))

    def forbids(self, *, urgent: bool = False) -> bool:
        """Whether a limit of ours forbids it another message now."""
        return self.permits is not None and self.permits.forbids(urgent=urgent)

    @property
    def free(self) -> float:
        """The share of it that is unused now: of its limits, and of its connections where it has none."""
        if self.permits is not None:
            return self.permits.free
        return 1 - self.in_flight / (self.in_flight + self.limits.max_connections)

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

    def _most(self, *, urgent: bool) -> int:
        most = self.limits.max_connections
        if self.regulator.is_crowded:
            most = self.regulator.most(most, self._loop.time())
        return most if urgent else most - int(most * self.limits.reserve)

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
        if self.regulator.is_crowded:
            self.regulator.opened(len(self._sessions), self.limits.max_connections, self._loop.time())
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

    def _fail(self, outcome: Outcome, others: int, begun: float | None = None) -> None:
        """``others`` counts the sessions that are not concerned; ``begun`` is when what was refused began."""
        self.last_error = outcome.detail
        now = self._loop.time()
        if outcome.trouble is Trouble.CONNECTIONS and (others or self._connects):
            self._reopen()
            if self.regulator.too_many(outcome, others, now):
                self._owner.trouble(self, outcome)
        elif outcome.trouble is Trouble.RATE and self._slows(outcome, begun, now):
            self._reopen()
        elif self.circuit.closed or self.circuit.retry_at == _PROBING:
            wait = outcome.wait if outcome.until is None else outcome.until - self._wall()
            self.circuit = self.circuit.failed(now, self._chance(), outcome.trouble, wait)
            self._trial = None
            self._owner.trouble(self, outcome)
        elif outcome.trouble is Trouble.AUTH:
            # Connects that fail together are one failure, but as many logins.
            self.circuit = self.circuit.login_refused(now)
        self._owner.changed(self)

    def _slows(self, outcome: Outcome, begun: float | None, now: float) -> bool:
        """Go on more slowly; no where nothing goes at all, or where the upstream says for how long."""
        refusal = self.regulator.too_fast(outcome, begun, now)
        self._regulate()
        return refusal is Refusal.OLD or (refusal is Refusal.LOWERED and outcome.wait is None and outcome.until is None)

    def _reopen(self) -> None:
        if self.circuit.retry_at == _PROBING and self._trial is None:
            self.circuit = self.circuit.reopened()

    def _regulate(self) -> None:
        """Have what is learned asked before something is begun, for as long as there is something."""
        before, self.permits = self.permits, self.regulator.permits(self.permits)
        if isinstance(before, Paced) and not self.regulator.is_slowed:
            self._owner.recovered(self)

    def taught(self, regulator: Regulator) -> None:
        """Begin with what is known of the upstream."""
        self.regulator = regulator
        self._regulate()

    # -- SessionObserver --------------------------------------------------------------------------------------------
    def finished(self, session: Session, finished: Finished) -> None:
        """A request has all its outcomes."""
        self.moved_at = self._loop.time()
        self._learn(session, finished)
        if any(map(is_own, finished.outcomes)):
            if session in self._sessions:  # an ended one may still tell of what it could not have
                self._sessions[session] = True
            self._fruitless = 0
            self.speed.answered(session, self._loop.time(), finished.transmission)
        self._refile(session)
        self._owner.finished(self, finished)

    def _learn(self, session: Session, finished: Finished) -> None:
        """What the outcomes say of the upstream, before anybody sends it something more."""
        refusals = [outcome for outcome in finished.outcomes if outcome.scope is Scope.UPSTREAM]
        trial = self._trial is finished.request
        if trial:
            self._trial = None
        if refusals:
            self._told = refusals[0]
            begun = self._loop.time() - finished.transmission
            self._fail(refusals[0], len(self._sessions.keys() - {session}), begun)
            return
        if finished.outcomes[0].scope is not Scope.SESSION:
            now = self._loop.time()
            self.regulator.took(len(finished.outcomes), now)
            if self.regulator.tempo.pace is not None or isinstance(self.permits, Paced):
                self._regulate()
                if (told := self._told) and self.circuit.closed and self.regulator.is_worth_telling(now):
                    self._owner.trouble(self, told)
        if self.circuit.failures and (self.circuit.closed or self.circuit.retry_at == _PROBING):
            if self.circuit.trouble is None:
                proof = self.circuit.closed and any(is_own(o) for o in finished.outcomes)
            else:
                proof = any(o.verdict is Verdict.RELAYED or judges_content(o) for o in finished.outcomes)
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
        self.speed.ended(session)
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
