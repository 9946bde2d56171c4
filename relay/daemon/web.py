"""The HTTP interface of a running relay, put together; imported where ``[http]`` stands in the configuration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from relay import __version__
from relay.clock import Clock
from relay.control.errors import Exit, Refused
from relay.control.services import Services
from relay.control.verbs import exit_of, perform
from relay.daemon.desk import Desk
from relay.daemon.feedback import FeedbackDesk
from relay.events import Emit, Notice
from relay.http.application import Application
from relay.http.counting import Counts
from relay.http.gate import Gate
from relay.http.metrics import Metrics
from relay.http.neighbours import Gauges, Neighbours, Unanswered, UpstreamGauges
from relay.http.server import HttpServer
from relay.http.submitting import LISTENER, Submitting
from relay.http.token import make_token
from relay.listener.intake import Intake
from relay.listener.server import Listeners
from relay.settings import HttpSettings
from relay.spool import Spool, SpoolBroken, SpoolError, SpoolFull

READY_WITHIN: Final = 5.0
"""Seconds that the spool's writer has to answer."""
_STATUSES: Final = {Exit.USAGE: 400, Exit.NO: 404}


class Web:
    """``emit`` counts events on their way to the log. Raises OSError where the token can't be had."""

    def __init__(self, settings: HttpSettings, hostname: str, clock: Clock, emit: Emit) -> None:
        self._settings = settings
        self._clock = clock
        self._hostname = hostname
        self._token = make_token(settings.token_file) if settings.auth == "token" else None
        self._counts = Counts(emit, clock.now)
        self.emit = self._counts.emit
        self._server: HttpServer | None = None
        self._submitting: Submitting | None = None
        self._ending = False

    async def start(
        self,
        spool: Spool,
        services: Services,
        desk: Desk,
        feedback: FeedbackDesk,
        intake: Intake,
        listeners: Listeners,
    ) -> None:
        """Listen. OSError where that can't be."""
        settings = self._settings
        host, _, port = settings.address.rpartition(":")

        async def readiness() -> str:
            return await self._trouble(spool, listeners)

        async def gauges() -> Gauges:
            return await self._gauges(spool, services, desk)

        def ask(verb: str, arguments: Mapping[str, Any]) -> AsyncIterator[Any]:
            return _asked(services, verb, arguments)

        neighbours = Neighbours(ask, feedback.take, readiness, gauges, intake)
        submitting = self._submitting = Submitting(
            intake, self.emit, self._clock.now, settings.max_message_size, settings.max_recipients
        )
        application = Application(
            neighbours,
            Gate(self._token, (self._hostname, host)),
            Metrics(self._counts, gauges, lambda: {LISTENER: 0, **intake.accepted_by}, __version__),
            submitting,
            __version__,
        )
        self._server = HttpServer(application, host.strip("[]"), int(port))
        await self._server.start()
        self.emit(Notice(self._clock.now(), "master", f"HTTP on {settings.address}"))

    def ending(self) -> None:
        """The relay is on its way down: not ready any more, and no mail is taken."""
        self._ending = True
        if self._submitting is not None:
            self._submitting.close()

    async def stop(self, grace: float = 0.0) -> None:
        """Listen no more; what is being answered gets ``grace`` seconds."""
        if self._server is not None:
            await self._server.stop(grace)

    async def _trouble(self, spool: Spool, listeners: Listeners) -> str:
        if self._ending:
            return "it is being stopped"
        try:
            async with asyncio.timeout(READY_WITHIN):
                await spool.beat()
            spool.check_room(0)
        except TimeoutError:
            return "the spool does not answer"
        except SpoolFull:
            return "the spool or its disk is full"
        except SpoolError:
            return "the spool can't be written"
        return "" if listeners.addresses else "no listener is up"

    async def _gauges(self, spool: Spool, services: Services, desk: Desk) -> Gauges:
        queue = await services.count({})
        oldest = await spool.oldest()
        return Gauges(
            queue,
            0.0 if oldest is None else max(0.0, self._clock.now() - oldest),
            {
                name: UpstreamGauges(
                    view.state,
                    view.connections,
                    view.in_flight,
                    tuple((each.limit, each.used / ((each.used + each.left) or 1)) for each in view.limits),
                )
                for name, view in desk.upstreams().items()
            },
        )


async def _asked(services: Services, verb: str, arguments: Mapping[str, Any]) -> AsyncIterator[Any]:
    try:
        async for part in perform(services, verb, arguments):
            yield part
    except Refused as refusal:
        raise Unanswered(_STATUSES.get(refusal.exit, 503), str(refusal)) from None
    except SpoolBroken:
        raise Unanswered(500, "the spool can't be trusted any more") from None
    except SpoolError as error:
        raise Unanswered(500 if exit_of(error) is Exit.IO_ERROR else 503, f"the spool: {error}") from None
