"""One SMTP session's I/O: bytes between a transport and the machine in ``smtp.client``, time-outs, flow control.

It owns the transport from the end of the handshake to QUIT. It decides nothing about mail: requests go in, outcomes
come out through the observer, exactly one per recipient, also when the connection dies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from relay.outcome import Outcome, ReplyRule, lost
from relay.smtp.capabilities import Capabilities, cannot_take
from relay.smtp.client import ClientSession, Pipelining
from relay.smtp.steps import Done
from relay.upstream import ContentWithheld, DeliveryRequest, Finished, SessionObserver

QUIT_TIMEOUT: Final = 5.0
"""Seconds that a server has to answer QUIT before the connection is just closed."""

_OUT_OF_STEP: Final = frozenset({500, 502, 503})


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How long a conversation may be silent, and how long and for how many messages it is used. Seconds.

    ``window`` is how many messages may be unanswered where the server takes them whole (RFC 3030).
    """

    max_messages: int
    max_age: float
    idle_timeout: float
    reply_timeout: float
    final_reply_timeout: float
    window: int = 8


@dataclass(slots=True, eq=False)
class _Begun:
    request: DeliveryRequest
    conn_use: int
    at: float
    setup: float


class SmtpSession(asyncio.Protocol):
    """A session after the handshake. ``relay`` is ``name[address]:port``; ``setup`` the seconds the handshake took.

    ``lost_step`` is called where the server lost step with pipelined commands, or may have: with True where it said
    so, with False where the connection went, or fell silent, before the first answer. ``rules`` tell what its refusals
    mean.
    """

    def __init__(
        self,
        observer: SessionObserver,
        limits: SessionLimits,
        capabilities: Capabilities,
        pipelining: Pipelining,
        *,
        relay: str,
        setup: float,
        lost_step: Callable[[bool], None],
        rules: tuple[ReplyRule, ...] = (),
    ) -> None:
        self._observer = observer
        self._limits = limits
        self._capabilities = capabilities
        self._relay = relay
        self._host = relay.rpartition(":")[0]
        self._setup = setup
        self._machine: ClientSession[_Begun] = ClientSession(
            capabilities, pipelining, host=self._host, window=limits.window, rules=rules
        )
        self._loop = asyncio.get_running_loop()
        self._opened = self._progress = self._loop.time()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._fires = 0.0
        self._pump: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._heard: asyncio.Event | None = None
        self._begun = 0
        self._answered = 0
        self._unfit = 0
        self._retiring = False
        self._quitting = False
        self._over = False
        self._corked = False
        self._lost_step = lost_step

    def __repr__(self) -> str:
        return f"<SmtpSession {self._relay} begun={self._begun} in_flight={self.in_flight}>"

    # -- the port ---------------------------------------------------------------------------------------------------
    @property
    def capacity(self) -> int:
        """How many more requests it would begin right now."""
        room = min(self._machine.depth - self.in_flight, self._limits.max_messages - self._begun)
        # Asked twice for each message, and mostly it is full: what is dear to tell comes last.
        if room <= 0 or self._retiring or self._over or self._machine.over is not None or self._is_old:
            return 0
        return room

    @property
    def in_flight(self) -> int:
        """Requests begun and not finished."""
        return self._machine.in_flight + self._unfit

    @property
    def transactions(self) -> int:
        """Requests begun so far."""
        return self._begun

    @property
    def max_recipients(self) -> int:
        """RCPTMAX of LIMITS (RFC 9422), or 0."""
        return self._capabilities.max_recipients

    def begin(self, request: DeliveryRequest) -> None:
        """Start relaying ``request``."""
        now = self._loop.time()
        self._begun += 1
        begun = _Begun(request, self._begun, now, self._setup if self._begun == 1 else 0.0)
        message, content = request.message, request.content
        size = len(request.prefix) + message.size
        if self._quitting or self._over:
            # Nothing is answered behind QUIT: the request would never have an outcome.
            unfit: Outcome | None = lost("session ended before", host=self._host)
        else:
            unfit = cannot_take(self._capabilities, message.envelope, content, size, host=self._host)
        if unfit is not None:
            self._unfit += 1
            self._loop.call_soon(self._report_unfit, begun, unfit)
            return
        if request.before_content is not None:
            content = None  # fed, as what is large, once that was awaited
        elif content is not None and request.prefix:
            content = request.prefix + content
        if not self._machine.awaits_reply:
            self._progress = now
        self._machine.begin(begun, message.envelope, content, size)
        if not self._corked:
            self._flush()

    def retire(self) -> None:
        """Take nothing more; QUIT once nothing is in flight."""
        if self._retiring or self._over:
            return
        self._retiring = True
        self._report(self._machine.withdraw())
        if not self.in_flight:
            self._quit()

    def abort(self, why: str) -> None:
        """End at once; what is in flight gets its outcomes."""
        if not self._over:
            self._end(self._machine.lost(why), lost(why, host=self._host))

    # -- the transport's side ---------------------------------------------------------------------------------------
    def attach(self, transport: asyncio.Transport) -> None:
        """Take over a transport whose handshake is done."""
        self._transport = transport
        transport.set_protocol(self)
        self._arm()

    def data_received(self, data: bytes) -> None:
        """The server said something."""
        if self._over:
            return
        if self._quitting:
            self._end([], None)
            return
        self._progress = self._loop.time()
        self._corked = True
        done = self._machine.receive(data)
        self._report(done)
        self._corked = False
        if self._heard is not None:
            self._heard.set()
        over = self._machine.over
        if over is not None:
            if over.reply is None or over.reply.code in _OUT_OF_STEP:
                self._lost_step(True)
            self._end([], over)
            return
        if not self.in_flight and self._is_used_up:
            self._quit()
            return
        self._flush()

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """There is room again."""
        self._progress = self._loop.time()
        self._writable.set()

    def eof_received(self) -> bool:
        """The server closed its side: so do we."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if self._over:
            return
        if self._quitting:
            self._end([], None)
            return
        if self._machine.in_flight > 0 and self._answered == 0:
            self._lost_step(False)
        what = f"lost connection ({exc})" if exc is not None and str(exc) else "lost connection"
        self._end(self._machine.lost(what), lost(what, host=self._host))

    # -- inside -----------------------------------------------------------------------------------------------------
    def _flush(self) -> None:
        transport = self._transport
        if transport is None or self._over:
            return
        out = self._machine.bytes_to_send()
        if out:
            transport.write(out[0] if len(out) == 1 else b"".join(out))
        if self._pump is None and self._machine.wants_content is not None:
            self._pump = self._loop.create_task(self._feed(self._machine.wants_content))
        self._arm()

    async def _feed(self, begun: _Begun) -> None:
        """Send a large content part by part as the transport takes it, or a small one that must wait for a word."""
        request, machine, transport = begun.request, self._machine, self._transport
        assert transport is not None
        try:
            if request.before_content is not None:
                await request.before_content()
            transport.write(machine.feed_content(request.prefix))
            for part in range(request.parts):
                octets = await self._part(request, part)
                await self._writable.wait()
                if self._over:
                    return
                self._progress = self._loop.time()
                transport.write(machine.feed_content(octets))
            transport.write(machine.end_content())
        except ContentWithheld as withheld:
            await self._withhold(begun, str(withheld))
            return
        except Exception as error:  # noqa: BLE001 - without its content the transaction can't go on, whatever the reason
            self._pump = None
            self.abort(f"content can't be read ({type(error).__name__}), transaction broken off")
            return
        self._pump = None
        self._flush()

    async def _withhold(self, begun: _Begun, why: str) -> None:
        """End in place of the content, which must follow a 354 or BDAT (RFC 5321 §4.1.1.4, RFC 3030 §2); but not before
        the messages ahead have their answers, lest these are in doubt.
        """
        while self._machine.oldest is not begun:
            self._heard = asyncio.Event()
            await self._heard.wait()
        self._pump = None
        self._end(self._machine.lost(why), None)

    @staticmethod
    async def _part(request: DeliveryRequest, part: int) -> bytes:
        if request.content is not None:
            return request.content
        assert request.read_part is not None
        return await request.read_part(part)

    def _report(self, done: list[Done[_Begun]]) -> None:
        now = self._progress
        for each in done:
            if not each.untouched:
                self._answered += 1
            begun = each.key
            self._observer.finished(
                self,
                Finished(
                    begun.request,
                    each.outcomes,
                    self._relay,
                    begun.conn_use,
                    begun.setup,
                    now - begun.at,
                    self._capabilities.dsn,
                    each.content_begun,
                ),
            )

    def _report_unfit(self, begun: _Begun, unfit: Outcome) -> None:
        self._unfit -= 1
        count = len(begun.request.message.envelope.recipients)
        self._observer.finished(
            self, Finished(begun.request, (unfit,) * count, self._relay, begun.conn_use, content_sent=False)
        )
        if not self.in_flight and self._is_used_up and not self._over:
            self._quit()

    @property
    def _is_used_up(self) -> bool:
        return self._retiring or self._begun >= self._limits.max_messages or self._is_old

    @property
    def _is_old(self) -> bool:
        """Whether it is to end behind what is in flight, also where there is always more to do."""
        return self._loop.time() - self._opened >= self._limits.max_age

    def _quit(self) -> None:
        if self._quitting or self._over:
            return
        self._quitting = True
        self._progress = self._loop.time()
        if self._transport is not None:
            self._transport.write(b"QUIT\r\n")
        self._arm()

    def _end(self, done: list[Done[_Begun]], why: Outcome | None) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._pump is not None:
            self._pump.cancel()
        self._writable.set()
        transport = self._transport
        if transport is not None and not transport.is_closing():
            if why is None:
                transport.close()
            else:
                transport.abort()
        self._report(done)
        self._observer.ended(self, why)

    def _due(self) -> float:
        """The loop time at which silence has lasted too long, or the session is old."""
        limits = self._limits
        if self._quitting:
            return self._progress + QUIT_TIMEOUT
        if self._machine.awaits_final_reply:
            return self._progress + limits.final_reply_timeout
        if self._machine.awaits_reply or self._machine.in_flight:
            return self._progress + limits.reply_timeout
        return min(self._progress + limits.idle_timeout, self._opened + limits.max_age)

    def _arm(self) -> None:
        """See to it that the one timer fires no later than due; it is moved only when it would be late."""
        due = self._due()
        timer = self._timer
        if timer is not None:
            if self._fires <= due:
                return
            timer.cancel()
        self._fires = due
        self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._over:
            return
        if self._due() > self._loop.time():
            self._arm()
        elif self._quitting:
            self._end([], None)
        elif self._machine.in_flight:
            self._progress = self._loop.time()
            if self._answered == 0:
                self._lost_step(False)  # it may have thrown away what was pipelined, and wait for us
            what = "conversation timed out"
            self._end(self._machine.lost(what), lost(what, host=self._host))
        else:
            self.retire()
            self._observer.capacity_changed(self)  # nobody told us to: it may be chosen for the next request
