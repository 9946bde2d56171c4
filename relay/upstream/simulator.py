"""``kind = "simulator"``: an upstream that answers as a provider's mailbox simulator does, without any network.

Outcomes are built from replies by :func:`relay.outcome.classify`, so that log lines, retries and bounces are those of
a real next hop; only the wire is missing. Nothing leaves the machine. A session keeps the order of its requests as a
connection would: behind ``slow@`` the next one waits, behind ``drop@`` it is lost. ``complaint@`` sends a
feedback report back.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from relay.clock import Clock
from relay.outcome import Command, Outcome, Reply, Verdict, classify, lost
from relay.settings import UpstreamSettings
from relay.smtp.complaint import feedback_report
from relay.smtp.mailbox import COMPLAINT, Mailbox, end_of_content, mailbox
from relay.upstream import DeliveryRequest, Finished, SessionObserver

_WINDOW: Final = 2
"""Requests a session holds at a time: one being answered and one right behind it, as chained PIPELINING has."""

_THINKING: Final = 0.2
"""Seconds until a recipient complains: its mail has arrived by then."""


class SimulatorUpstream:
    """An upstream of mailboxes; ``counts`` holds how many recipients each mailbox (by name) was asked for."""

    def __init__(
        self, settings: UpstreamSettings, clock: Clock, report: Callable[[bytes, str], None] | None = None
    ) -> None:
        self.name = settings.name
        self.destination = f"{settings.name}[simulator]:25"
        self.counts: Counter[str] = Counter()
        self._limit = settings.max_messages_per_connection
        self._clock = clock
        self._report = report

    def complained(self, request: DeliveryRequest, recipient: str) -> None:
        """A recipient complains: a report of it goes back, as a provider would send it."""
        if self._report is not None:
            message = request.message
            # Of a large message its header is not at hand: the report shows what is.
            original = request.content or f"Message-ID: {message.message_id}\r\n".encode()
            now = self._clock.now()
            sender = message.envelope.sender
            report = feedback_report(original, sender=sender, recipient=recipient, reporter=self.name, now=now)
            asyncio.get_running_loop().call_later(_THINKING, self._report, report, self.name)

    async def connect(self, observer: SessionObserver) -> SimulatorSession:
        """Open a session; never fails."""
        return SimulatorSession(self, observer, self._clock, self._limit)


class SimulatorSession:
    """One simulated connection."""

    def __init__(self, upstream: SimulatorUpstream, observer: SessionObserver, clock: Clock, limit: int) -> None:
        self.transactions = 0
        self.max_recipients = 0
        self._upstream = upstream
        self._observer = observer
        self._clock = clock
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._held: deque[tuple[DeliveryRequest, int]] = deque()
        self._answering: asyncio.Handle | None = None
        self._begun_at = 0.0
        self._retired = False
        self._over = False

    @property
    def capacity(self) -> int:
        """How many more requests it would begin right now; 0 once it retires."""
        if self._retired:
            return 0
        return max(0, min(_WINDOW - len(self._held), self._limit - self.transactions))

    @property
    def in_flight(self) -> int:
        """Requests begun and not finished."""
        return len(self._held)

    def begin(self, request: DeliveryRequest) -> None:
        """Start relaying; only where ``capacity`` allows it."""
        # One that broke, and whose observer is told in a moment, has what it takes now reported with the others.
        assert self._over or self.capacity > 0, "begin() on a session without capacity"
        self.transactions += 1
        self._held.append((request, self.transactions))
        if self._answering is None and not self._over:
            self._answer_next()

    def retire(self) -> None:
        """Take nothing more; end once nothing is in flight."""
        self._retired = True
        if not self._held and not self._over:
            self._over = True
            self._loop.call_soon(self._observer.ended, self, None)

    def abort(self, why: str) -> None:
        """End at once; what is in flight gets outcomes as for a lost connection."""
        if not self._over:
            self._break(why, in_doubt=True)

    def _answer_next(self) -> None:
        request, _ = self._held[0]
        self._begun_at = self._clock.monotonic()
        boxes = [mailbox(recipient.address) for recipient in request.message.envelope.recipients]
        self._upstream.counts.update(box.name for box in boxes)
        delay, drops = end_of_content(box for box in boxes if box.accepts)
        if drops:
            self._answering = self._loop.call_later(delay, self._drop)
        elif delay:
            self._answering = self._loop.call_later(delay, self._finish)
        else:
            self._answering = self._loop.call_soon(self._finish)

    def _finish(self) -> None:
        request, use = self._held.popleft()
        self._answering = None
        queued = Reply(250, f"Ok: simulated as {request.message.queue_id}", "2.0.0")
        self._report(request, use, tuple(self._outcome(box, queued) for box in _boxes(request)))
        for recipient in request.message.envelope.recipients:
            if mailbox(recipient.address).name == COMPLAINT:
                self._upstream.complained(request, recipient.address)
        if self._over:
            return
        if self._held:
            if self._answering is None:
                self._answer_next()
        elif self._retired or self.transactions >= self._limit:
            self.retire()
            return
        self._observer.capacity_changed(self)

    def _drop(self) -> None:
        self._break("lost connection after end of DATA", in_doubt=True)

    def _break(self, why: str, *, in_doubt: bool) -> None:
        """End without replies. Only what was being answered is in doubt: what stood behind it never left."""
        self._retired = self._over = True
        if self._answering is not None:
            self._answering.cancel()
            self._answering = None
        held, self._held = self._held, deque()
        self._loop.call_soon(self._report_broken, why, held, in_doubt)

    def _report_broken(self, why: str, held: deque[tuple[DeliveryRequest, int]], in_doubt: bool) -> None:
        host = self._upstream.destination
        in_doubt = in_doubt and bool(held)
        late, self._held = self._held, deque()
        for request, use in (*held, *late):
            outcome = lost(why, host=host, in_doubt=in_doubt)
            # A refusal at RCPT was answered before the content went: it stands.
            self._report(
                request,
                use,
                tuple(outcome if not in_doubt or box.accepts else self._outcome(box, None) for box in _boxes(request)),
            )
            in_doubt = False
        self._observer.ended(self, lost(why, host=host))

    def _report(self, request: DeliveryRequest, use: int, outcomes: tuple[Outcome, ...]) -> None:
        took = self._clock.monotonic() - self._begun_at
        # It refuses at RCPT.
        content_sent = any(outcome.verdict is Verdict.RELAYED or outcome.in_doubt for outcome in outcomes)
        destination = self._upstream.destination
        self._observer.finished(
            self, Finished(request, outcomes, destination, use, transmission=took, content_sent=content_sent)
        )

    def _outcome(self, box: Mailbox, queued: Reply | None) -> Outcome:
        if box.accepts and queued is not None:
            return classify(queued, Command.CONTENT, host=self._upstream.destination)
        return classify(box.reply, Command.RCPT, host=self._upstream.destination)


def _boxes(request: DeliveryRequest) -> list[Mailbox]:
    return [mailbox(recipient.address) for recipient in request.message.envelope.recipients]
