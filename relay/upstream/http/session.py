"""An HTTP connection as a session of the upstream's port: one message at a time, its end one outcome a recipient.

What is said and what an answer means is the :class:`Api`'s; when a connection has served, and what a broken one leaves
in doubt, is decided here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from relay.outcome import Outcome, Scope, Verdict, lost
from relay.smtp.capabilities import Capabilities, cannot_take
from relay.upstream import ContentWithheld, DeliveryRequest, Finished, SessionObserver
from relay.upstream.http.connection import Broken, HttpConnection
from relay.upstream.http.request import HttpRequest, HttpResponse, Origin

_log: Final = logging.getLogger(__name__)


class Unfit(Exception):
    """A message that can't be put to this API; ``outcome`` says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.detail)
        self.outcome = outcome


class Api(Protocol):
    """One provider's API."""

    @property
    def origin(self) -> Origin:
        """Where it lives."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it takes; a limit of 0 is none."""
        ...

    async def prepare(self, connection: HttpConnection, host: str) -> None:
        """What a fresh connection is asked first; raises UpstreamUnavailable."""
        ...

    async def compose(self, request: DeliveryRequest, host: str) -> HttpRequest:
        """The request that sends a message; raises :class:`Unfit` and what reading a part raises."""
        ...

    def judge(self, request: DeliveryRequest, response: HttpResponse, host: str) -> Sequence[Outcome]:
        """One outcome per recipient, in their order."""
        ...


@dataclass(frozen=True, slots=True)
class Endurance:
    """How long a connection is used and how long it may be silent. Seconds."""

    max_messages: int
    max_age: float
    idle_timeout: float
    reply_timeout: float
    final_reply_timeout: float


@dataclass(slots=True, eq=False)
class _Begun:
    request: DeliveryRequest
    conn_use: int
    at: float
    setup: float


class ApiSession:
    """``relay`` is ``name[address]:port``; ``setup`` the seconds that connecting took."""

    def __init__(
        self,
        api: Api,
        connection: HttpConnection,
        observer: SessionObserver,
        endurance: Endurance,
        capabilities: Capabilities,
        *,
        relay: str,
        setup: float,
    ) -> None:
        self.transactions = 0
        self._api = api
        self._connection = connection
        self._observer = observer
        self._endurance = endurance
        self._capabilities = capabilities
        self._relay = relay
        self._host = relay.rpartition(":")[0]
        self._setup = setup
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.time()
        self._begun: _Begun | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._retiring = False
        self._over = False
        connection.ended = self._connection_ended
        self._wait_idle()

    def __repr__(self) -> str:
        return f"<ApiSession {self._relay} begun={self.transactions} in_flight={self.in_flight}>"

    @property
    def capacity(self) -> int:
        """1 where it would begin a request right now."""
        return int(not (self._begun or self._retiring or self._over) and self._connection.usable)

    @property
    def in_flight(self) -> int:
        """Requests begun and not finished."""
        return int(self._begun is not None)

    @property
    def max_recipients(self) -> int:
        """Recipients of one request at the most."""
        return self._capabilities.max_recipients

    def begin(self, request: DeliveryRequest) -> None:
        """Start relaying ``request``."""
        assert self.capacity > 0, "begin() on a session without capacity"
        self._stop_timer()
        self.transactions += 1
        setup = self._setup if self.transactions == 1 else 0.0
        self._begun = begun = _Begun(request, self.transactions, self._loop.time(), setup)
        self._task = self._loop.create_task(self._relay_one(begun))

    def retire(self) -> None:
        """Take nothing more; end once nothing is in flight."""
        if self._over or self._retiring:
            return
        self._retiring = True
        if self._begun is None:
            self._loop.call_soon(self._end, None)

    def abort(self, why: str) -> None:
        """End at once; what is in flight gets outcomes as for a lost connection."""
        if self._over:
            return
        begun = self._begun
        outcome = lost(why, host=self._host, in_doubt=begun is not None and self._connection.written)
        if begun is None:
            self._end(outcome)
        else:
            self._conclude(begun, _all(begun.request, outcome), outcome)
        if self._task is not None:
            self._task.cancel()

    async def _relay_one(self, begun: _Begun) -> None:
        self._connection.written = False
        try:
            outcomes, why = await self._outcomes(begun.request)
        except Exception:  # noqa: BLE001 - a bug of ours must cost an attempt, not the session's slot
            _log.exception("message %s can't be put to %s", begun.request.message.queue_id, self._relay)
            internal = Outcome(
                Verdict.DEFERRED, Scope.MESSAGE, "4.3.0", "internal error", in_doubt=self._connection.written
            )
            outcomes = _all(begun.request, internal)
            why = lost("internal error", host=self._host)
        if self._begun is begun:
            self._conclude(begun, outcomes, why)

    async def _outcomes(self, request: DeliveryRequest) -> tuple[Sequence[Outcome], Outcome | None]:
        """One a recipient, and why the session can't go on, if so."""
        message = request.message
        size = len(request.prefix) + message.size
        unfit = cannot_take(self._capabilities, message.envelope, request.content, size, host=self._host)
        if unfit is not None:
            return _all(request, unfit), None
        try:
            http = await self._api.compose(request, self._host)
            if request.before_content is not None:
                await request.before_content()
            response = await self._connection.exchange(
                http, self._endurance.reply_timeout, self._endurance.final_reply_timeout
            )
        except Unfit as error:
            outcome = error.outcome
            return _all(request, outcome), outcome if outcome.scope is Scope.UPSTREAM else None
        except ContentWithheld as error:
            return _all(request, lost(str(error), host=self._host)), None
        except Broken as error:
            outcome = lost(error.what, host=self._host, in_doubt=error.written)
            return _all(request, outcome), lost(error.what, host=self._host)
        except Exception as error:  # noqa: BLE001 - without its content it can't go on, whatever the reason
            what = f"content can't be read ({type(error).__name__}), transaction broken off"
            outcome = lost(what, host=self._host)
            return _all(request, outcome), outcome
        outcomes = self._api.judge(request, response, self._host)
        return outcomes, next((each for each in outcomes if each.scope is Scope.UPSTREAM), None)

    def _conclude(self, begun: _Begun, outcomes: Sequence[Outcome], why: Outcome | None) -> None:
        """Tell of a request's end; the session goes on where it can."""
        now = self._loop.time()
        endurance = self._endurance
        self._begun = None
        used_up = self.transactions >= endurance.max_messages or now - self._opened >= endurance.max_age
        # An API that takes fewer recipients from now on says so by its next connection.
        narrowed = self._api.capabilities.max_recipients < self._capabilities.max_recipients
        goes_on = not (why or used_up or narrowed or self._retiring) and self._connection.usable
        if goes_on:
            self._wait_idle()
        else:
            self._retiring = True
        # What the provider refuses to have from us at all, as it does with 429, it does not count.
        refused = all(outcome.scope is Scope.UPSTREAM and outcome.trouble is not None for outcome in outcomes)
        finished = Finished(
            begun.request,
            tuple(outcomes),
            self._relay,
            begun.conn_use,
            begun.setup,
            max(0.0, now - begun.at),
            content_sent=self._connection.written and not refused,
        )
        self._observer.finished(self, finished)
        if not goes_on:
            self._end(why)

    def _connection_ended(self) -> None:
        """The other side closed; a request under way tells of it itself."""
        if self._begun is None:
            self._end(None if self.transactions else lost("lost connection", host=self._host))

    def _wait_idle(self) -> None:
        self._stop_timer()
        age_left = self._opened + self._endurance.max_age - self._loop.time()
        self._timer = self._loop.call_later(max(0.0, min(self._endurance.idle_timeout, age_left)), self._end, None)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, why: Outcome | None) -> None:
        if self._over:
            return
        self._over = self._retiring = True
        self._stop_timer()
        self._connection.close()
        self._observer.ended(self, why)


def _all(request: DeliveryRequest, outcome: Outcome) -> tuple[Outcome, ...]:
    return (outcome,) * len(request.message.envelope.recipients)
