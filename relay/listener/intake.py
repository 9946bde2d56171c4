"""What becomes of a message at the door: mended, judged, kept; the 250 comes after the commit and never before.

Content of at most PART_SIZE octets goes into the accepting commit itself; larger content is staged part by part while
it is read, and published by that commit, so that it never stands in memory whole. Nothing half done stays: what was
staged for a message that isn't accepted is discarded, and room reserved with the delivery is given back.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from relay import headers, policy
from relay.clock import Clock
from relay.delivery.routing import NO_ROUTES, Routing
from relay.events import Accepted, Emit, Repeated
from relay.headers.imprint import imprints
from relay.listener.neighbours import Delivery, Doorkeeper, Draft, Signing
from relay.listener.replies import ACCEPTED, HEADER_TOO_LARGE, NO_ROOM, TROUBLE, queued
from relay.listener.staging import PARTS_AT_A_TIME, Staging
from relay.listener.submitting import Submissions
from relay.mail import UNSIGNED, Body, Client, Envelope, Imprint, Message, Signatures, queue_id
from relay.outcome import Reply
from relay.rewrite import Rewriting
from relay.settings import ListenerSettings, RewriteSettings
from relay.smtp.longlines import LongLines
from relay.spool import PART_SIZE, Arrival, Spool, SpoolError, SpoolFull

NO_REWRITING: Final = RewriteSettings()
"""Only that addresses without a domain get our host name."""


def _nobody() -> None:
    """Nobody makes way."""


class Intake:
    """Takes messages from all listeners' sessions into the spool; a listener's Receiver.

    ``upstreams`` are the names that a message may ask for. Without ``signing`` messages are kept as not looked at.
    ``dedupe`` is for how many seconds a Message-ID stands for the same message; None: it does not.
    ``doorkeeper`` knows the addresses that get no mail.
    ``heard`` is told at each step of a transaction, so that others can make way for it.
    """

    def __init__(
        self,
        spool: Spool,
        clock: Clock,
        hostname: str,
        emit: Emit,
        delivery: Delivery,
        *,
        rewrite: RewriteSettings = NO_REWRITING,
        upstreams: Iterable[str] = (),
        dedupe: float | None = None,
        signing: Signing | None = None,
        routing: Routing = NO_ROUTES,
        listeners: Iterable[ListenerSettings] = (),
        heard: Callable[[], None] = _nobody,
        doorkeeper: Doorkeeper | None = None,
    ) -> None:
        self.spool = spool
        self.clock = clock
        self.hostname = hostname
        self.emit = emit
        self.accepted_by: Counter[str] = Counter()
        """Messages accepted since the start, by listener."""
        self.delivery = delivery
        self.signing = signing
        self.heard = heard
        self.doorkeeper = doorkeeper
        self.staging = asyncio.Semaphore(PARTS_AT_A_TIME)
        self.submissions = Submissions(clock)
        self.configure(rewrite, upstreams, dedupe, routing, listeners)

    def configure(
        self,
        rewrite: RewriteSettings,
        upstreams: Iterable[str],
        dedupe: float | None = None,
        routing: Routing = NO_ROUTES,
        listeners: Iterable[ListenerSettings] = (),
    ) -> None:
        """Take other settings; they hold for messages whose content begins from now on."""
        self.rewriting = Rewriting(rewrite.default_domain or self.hostname, rewrite.aliases)
        self.upstreams = frozenset(upstreams)
        self.dedupe = dedupe
        self.routing = routing
        listeners = tuple(listeners)
        self.submissions.configure(listeners)
        for each in listeners:
            self.accepted_by.setdefault(each.name, 0)

    @property
    def accepted(self) -> int:
        """Messages accepted since the start."""
        return self.accepted_by.total()

    def check_room(self, size: int, client: Client) -> Reply | None:
        """Whether the spool would take ``size`` octets now, and so many messages from this client; else the reply to
        MAIL.
        """
        self.heard()
        refusal = self.submissions.refusal(client)
        if refusal is not None:
            return refusal
        try:
            self.spool.check_room(size)
        except SpoolFull:
            return NO_ROOM
        except SpoolError:
            return TROUBLE
        return None

    def check_recipient(self, address: str) -> Reply | None:
        """Whether mail to ``address``, as it will be rewritten, is taken; else the reply to RCPT."""
        if self.doorkeeper is None:
            return None
        return self.doorkeeper.refusal(self.rewriting.recipient(address))

    def open_content(self, envelope: Envelope, client: Client) -> Reception:
        """Begin to receive a message's content."""
        self.heard()
        return Reception(self, envelope, client)


class Reception:
    """One message on its way in."""

    __slots__ = (
        "_at",
        "_client",
        "_controls",
        "_draft",
        "_eight_bit",
        "_held",
        "_intake",
        "_long_lines",
        "_number",
        "_refusal",
        "_rewritten",
        "_size",
        "_staging",
        "_stamped",
    )

    def __init__(self, intake: Intake, envelope: Envelope, client: Client) -> None:
        self._intake = intake
        self._rewritten = intake.rewriting.rewrite(envelope)
        self._client = client
        self._at = 0.0
        self._number = 0
        self._held: list[bytes] = []
        self._size = 0
        self._staging: Staging | None = None
        self._eight_bit = False
        self._long_lines = LongLines()
        self._stamped: headers.Stamped | None = None
        self._controls = headers.NO_CONTROLS
        self._draft: Draft | None = None
        self._refusal: Reply | None = None

    async def write(self, octets: bytes) -> None:
        """Take the next octets; whole parts are on their way into the spool. What follows a refusal is dropped."""
        if self._refusal is not None:
            return
        self._long_lines.feed(octets)
        self._eight_bit = self._eight_bit or not octets.isascii()
        self._held.append(octets)
        self._size += len(octets)
        if self._draft is not None:
            self._draft.feed(octets)
        if self._size > PART_SIZE:
            await self._stage_parts()

    async def _stage_parts(self) -> None:
        try:
            self._stamp()
            if self._refusal is None:
                await self._stage()
        except SpoolFull:
            await self._refuse(NO_ROOM)
        except SpoolError:
            await self._refuse(TROUBLE)

    async def finish(self) -> Reply:
        """Accept the message; the reply to its end of data."""
        submissions = self._intake.submissions
        refusal = submissions.begin(self._client)
        if refusal is not None:
            await self.discard()
            return refusal
        accepted = False
        try:
            reply = await self._finish()
            accepted = reply.code == ACCEPTED
            return reply
        finally:
            submissions.end(self._client, accepted=accepted)

    async def _finish(self) -> Reply:
        self._intake.heard()
        try:
            if self._refusal is None:
                self._stamp(whole=True)
            refusal = self._refusal
            return await self._accept() if refusal is None else refusal
        except SpoolFull:
            await self.discard()
            return NO_ROOM
        except SpoolError:
            await self.discard()
            return TROUBLE

    async def discard(self) -> None:
        """Forget the message."""
        self._held.clear()
        staging, self._staging = self._staging, None
        if staging is not None:
            await staging.discard()

    async def _refuse(self, reply: Reply) -> None:
        self._refusal = reply
        await self.discard()

    def _stamp(self, *, whole: bool = False) -> None:
        """Put the stamp on the octets held, if they are still the message's first, or set the refusal."""
        if self._stamped is not None:
            return
        intake = self._intake
        octets = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._held.clear()
        end = headers.header_end(octets, whole=whole)
        if end > headers.MAX_HEADER:
            self._refusal = HEADER_TOO_LARGE
            return
        self._at = intake.clock.now()
        self._number = intake.spool.allocate(self._at)
        envelope = self._rewritten.envelope
        recipients = envelope.recipients
        client = self._client
        trace = headers.Trace(
            client.helo,
            client.name,
            client.address,
            intake.hostname,
            # RFC 6531 §4.3: UTF8SMTP, UTF8SMTPS, UTF8SMTPSA.
            client.protocol.replace("ESMTP", "UTF8SMTP") if envelope.smtputf8 else client.protocol,
            queue_id(self._number),
            recipients[0].address if len(recipients) == 1 else None,
            self._at,
        )
        stamped = headers.stamp(octets, end, trace, envelope.sender)
        controls = stamped.controls
        if isinstance(controls, Reply):
            self._refusal = controls
            return
        decision = policy.decide(
            hostname=intake.hostname,
            received=stamped.received,
            ours=stamped.ours,
            upstream=controls.upstream,
            upstreams=intake.upstreams,
        )
        if isinstance(decision, policy.Refused):
            self._refusal = decision.reply
            return
        self._stamped = stamped
        self._eight_bit = self._eight_bit or not stamped.octets.isascii()
        self._controls = controls
        self._held.append(stamped.octets)
        self._size += len(stamped.octets) - len(octets)
        if intake.signing is not None:
            self._draft = intake.signing.open(stamped.octets, envelope.sender)

    async def _stage(self, *, last: bool = False) -> None:
        """Write out the whole parts that are held; with ``last`` what remains too."""
        staging = self._staging
        if staging is None:
            staging = self._staging = Staging(self._intake.spool, self._intake.staging, self._number)
        self._held = [await staging.stage(b"".join(self._held), last=last)]

    async def _accept(self) -> Reply:
        intake = self._intake
        stamped = self._stamped
        assert stamped is not None
        signing = self._sign()
        if isinstance(signing, Reply):
            await self.discard()
            return signing
        content: bytes | None = None
        if self._staging is not None or self._size > PART_SIZE:
            await self._stage(last=True)
        else:
            content = stamped.octets
        envelope, controls = self._rewritten.envelope, self._controls
        if envelope.body is Body.EIGHT_BIT and not self._eight_bit:
            # RFC 6152 §3: plain ASCII asks nothing of a server, whatever it was declared as.
            envelope = replace(envelope, body=Body.SEVEN_BIT)
        message = Message(
            self._number,
            envelope,
            self._size,
            self._at,
            stamped.message_id,
            str(self._client),
            controls.not_after,
            controls.upstream,
            controls.priority or intake.submissions.priority(self._client),
            controls.tag,
            controls.idempotency_key,
            signing if isinstance(signing, Signatures) else None,
            self._marks(stamped),
        )
        turn = intake.routing.turn(message)
        leased = intake.delivery.reserve(message.size, turn)
        arrival = Arrival(message, content, leased, imprints=self._imprints(stamped), turn=turn)
        try:
            if isinstance(signing, asyncio.Future) and not (leased and content is not None):
                arrival = _signed(arrival, await signing)
            elif isinstance(signing, asyncio.Future) and intake.signing is not None and intake.signing.is_behind:
                await signing  # who submits more than can be signed is slowed down
            duplicate = await intake.spool.accept(arrival)
        except BaseException:
            if leased:
                intake.delivery.unreserve(message.size, turn)
            raise
        if duplicate is not None:
            if leased:
                intake.delivery.unreserve(message.size, turn)
            first = queue_id(duplicate.number)
            intake.emit(Repeated(self._at, message.queue_id, message.client, first, duplicate.kind))
            return queued(first)
        intake.heard()
        intake.emit(
            Accepted(
                self._at,
                message.queue_id,
                message.client,
                message.message_id,
                envelope.sender,
                self._size,
                len(envelope.recipients),
                None,
                self._repairs(stamped),
            )
        )
        intake.accepted_by[self._client.listener] += 1
        if leased:
            self._hand_over(arrival, signing)
        else:
            intake.delivery.waiting(turn)
        return queued(message.queue_id)

    def _hand_over(self, arrival: Arrival, signing: Signatures | asyncio.Future[Signatures] | None) -> None:
        """Once it is signed: nobody who submits waits for that, nor does its signature need to be kept."""
        delivery = self._intake.delivery
        if arrival.message.signatures is None and isinstance(signing, asyncio.Future):
            signing.add_done_callback(lambda signed: delivery.handed_over(_signed(arrival, signed.result())))
        else:
            delivery.handed_over(arrival)

    def _marks(self, stamped: headers.Stamped) -> tuple[str, ...]:
        """What the routes want to know of listener and header: nobody else can tell later."""
        routing, octets = self._intake.routing, stamped.octets
        if not routing.has_marks:
            return ()
        end = headers.header_end(octets, whole=True) if routing.fields else 0
        return routing.marks(self._client.listener, headers.values_of(octets, end, routing.fields) if end else {})

    def _imprints(self, stamped: headers.Stamped) -> tuple[Imprint, ...]:
        key, window = self._controls.idempotency_key, self._intake.dedupe
        if key is None and window is None:
            return ()
        # A Message-ID that we made is no other's.
        own = None if "message-id" in stamped.repairs else stamped.message_id
        return imprints(self._rewritten.envelope, user=self._client.user, key=key, message_id=own, window=window)

    def _sign(self) -> Signatures | Reply | asyncio.Future[Signatures] | None:
        """Begun before the commit: what goes into memory is signed meanwhile or soon after, what is kept first."""
        signing = self._intake.signing
        if signing is None:
            return None
        if self._draft is None:
            return UNSIGNED
        return signing.begin(self._draft, queue_id(self._number), self._controls.upstream)

    def _repairs(self, stamped: headers.Stamped) -> tuple[str, ...]:
        # Taken as they are: whether a long line can be sent is the upstream's to say.
        noted = ("long-line",) if self._long_lines.found else ()
        return self._rewritten.repairs + stamped.repairs + noted


def _signed(arrival: Arrival, signatures: Signatures) -> Arrival:
    return replace(arrival, message=replace(arrival.message, signatures=signatures))
