"""``relay serve``: start in an order that loses nothing, serve, end in the reverse order.

Signals: SIGTERM and SIGINT stop (what is in flight gets ``stop_timeout``), a second one leaves at once, SIGHUP reloads.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Final

import uvloop

from relay.clock import Clock, SystemBootClock, SystemClock
from relay.control.server import ControlServer
from relay.control.services import Services
from relay.daemon import diagnostics
from relay.daemon.activation import passed_sockets
from relay.daemon.desk import Desk
from relay.daemon.feedback import FeedbackDesk
from relay.daemon.lanes import Lanes
from relay.daemon.opening import open_patiently
from relay.daemon.outlook import LiveOutlook
from relay.daemon.rlimits import set_limits
from relay.daemon.signing import SigningDesk
from relay.daemon.stepping import follow_the_clock
from relay.daemon.supervision import Supervision
from relay.daemon.upkeep import Upkeep, current_trouble, expire_backlog, standing, sweep_hourly
from relay.delivery.braking import Braking
from relay.delivery.delays import DelayWarnings
from relay.delivery.engine import Engine
from relay.delivery.flightrecorder import FlightRecorder
from relay.delivery.permits import Quotas
from relay.delivery.remembering import Remembered
from relay.delivery.routing import Routing
from relay.delivery.suspects import Suspects
from relay.events import Emit, Notice
from relay.listener.inherited import Inherited
from relay.listener.intake import Intake
from relay.listener.server import Listeners
from relay.maillog import MailLog
from relay.settings import Settings
from relay.spool import Spool, SpoolBroken, SpoolDamaged, SpoolError, SpoolFull, SpoolLocked
from relay.spool.errors import SpoolBusy

if TYPE_CHECKING:
    from relay.daemon.web import Web

EX_OK: Final = 0
EX_UNAVAILABLE: Final = 69
EX_IOERR: Final = 74
EX_TEMPFAIL: Final = 75
EX_CONFIG: Final = 78
LEFT_AT_ONCE: Final = 128 + signal.SIGTERM
"""Exit status after a second SIGTERM, as a shell would report the signal."""

WEB_GRACE: Final = 1.0
"""Seconds that an HTTP answer under way has after all else has ended."""

Load = Callable[[], Settings]
"""Reads the configuration; raises what the command line reports."""


def serve(load: Load) -> int:
    """Run a relay until it is stopped; the exit status of contract §3."""
    set_limits()
    settings = load()
    try:
        inherited = Inherited(passed_sockets(os.environ, os.getpid()))
        log = MailLog(settings.log, settings.hostname)
    except OSError as error:
        where = f" {error.filename}:" if error.filename else ""
        sys.stderr.write(f"relay: can't start:{where} {error.strerror or error}\n")
        return EX_CONFIG
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Relay(settings, load, SystemClock(), log, inherited).run())


class Relay:
    """A running relay."""

    def __init__(self, settings: Settings, load: Load, clock: Clock, log: MailLog, inherited: Inherited) -> None:
        self._settings = settings
        self._load = load
        self._clock = clock
        self._log = log
        self._inherited = inherited
        self._supervision = Supervision(os.environ, os.getpid())
        self._intake: Intake | None = None
        self._listeners: Listeners | None = None
        self._delays: DelayWarnings | None = None
        self._reloading: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._status = EX_OK
        self._stops = 0

    async def run(self) -> int:
        """Start, serve, stop."""
        try:
            return await self._run()
        finally:
            self._log.close()

    async def _run(self) -> int:
        wordless = self._settings.log.recipients == "hash"
        diagnostics.install(diagnostics.NoticeHandler(self._log.emit, self._clock, wordless=wordless))
        for problem in self._inherited.problems(self._settings.listeners):
            return self._refuse(EX_CONFIG, problem)
        try:
            self._signing = SigningDesk(self._settings, self._clock, self._log.emit)
        except ValueError as error:
            return self._refuse(EX_CONFIG, f"[dkim]: {error}")
        try:
            self._web = _web(self._settings, self._clock, self._log.emit)
        except OSError as error:
            return self._refuse(EX_UNAVAILABLE, f"[http] token_file: {error}")
        self._emit = self._log.emit if self._web is None else self._web.emit
        try:
            spool = await open_patiently(self._settings.spool, self._clock, self._on_broken)
        except SpoolLocked as error:
            return self._refuse(EX_TEMPFAIL, str(error))
        except (SpoolDamaged, SpoolBroken) as error:
            return self._refuse(EX_IOERR, str(error))
        except (SpoolError, OSError) as error:
            return self._refuse(EX_UNAVAILABLE, str(error))
        try:
            return await self._serve(spool)
        except SpoolError as error:
            # What our own statements don't find in a file that was checked is damage; a lock or a full disk passes.
            temporary = isinstance(error, SpoolFull | SpoolBusy)
            return self._refuse(EX_TEMPFAIL if temporary else EX_IOERR, f"{self._settings.spool.path}: {error}")
        finally:
            try:
                await spool.close()
            except SpoolError as error:
                self._status = self._refuse(EX_IOERR, str(error))

    async def _serve(self, spool: Spool) -> int:
        settings, boot = self._settings, SystemBootClock()
        suspects = Suspects(FlightRecorder(Path(f"{settings.spool.path}.flight"), boot.boot))
        engine = Engine(
            spool,
            settings.queue,
            self._clock,
            self._emit,
            reporter=settings.hostname,
            chance=SystemRandom().random,
            suspects=suspects,
        )
        quotas = self._quotas = Quotas(spool, self._clock, boot, engine.permits_came)
        await quotas.load()
        remembered = self._remembered = Remembered(spool, self._clock)
        await remembered.load()
        engine.watch = remembered.look
        braking = engine.braking = Braking(spool, self._clock, self._emit, settings.brake, engine.upstreams_of)
        await braking.load()
        feedback = self._feedback = FeedbackDesk(spool, self._clock, self._emit, engine, settings)
        await feedback.suppressing.load()
        routing = _routing(settings)
        report = feedback.hearing.report
        lanes = self._lanes = Lanes(engine, quotas, remembered, self._clock, self._emit, report)
        engine.route([lanes.open(each, settings.hostname) for each in settings.upstreams], routing)
        engine.signing.configure(self._signing.signer, settings.upstreams)
        await engine.start()
        engine.supervise(self._on_failure)
        self._signals(engine)
        outlook = LiveOutlook(engine, lambda: self._settings, self._clock, boot)
        desk = Desk(engine, feedback.hearing)
        services = Services(spool, self._clock, desk, forecaster=outlook, accepted=self._accepted)
        control = ControlServer(services, settings.control.path)
        intake = self._intake = Intake(
            spool,
            self._clock,
            settings.hostname,
            self._emit,
            engine,
            rewrite=settings.rewrite,
            upstreams=[each.name for each in settings.upstreams],
            dedupe=settings.queue.dedupe,
            routing=routing,
            listeners=settings.listeners,
            signing=self._signing.signer,
            heard=engine.heard,
            doorkeeper=feedback.doorkeeper,
        )
        listeners = self._listeners = Listeners(
            settings.listeners,
            hostname=settings.hostname,
            receiver=intake,
            clock=self._clock,
            emit=self._emit,
            users=settings.users,
            inherited=self._inherited,
        )
        delays = self._delays = DelayWarnings(
            spool,
            self._clock,
            self._emit,
            lambda: self._settings.queue,
            engine.waiting,
            partial(current_trouble, engine),
            reporter=settings.hostname,
        )
        upkeep = Upkeep(
            sweep_hourly(spool, self._clock, lambda: self._settings.spool.history, feedback.suppressing.forget),
            follow_the_clock(spool, self._clock, lambda: max(self._settings.queue.backoff), engine.waiting),
            delays.run(),
            expire_backlog(spool, engine, self._clock, lambda: self._settings.queue.lifetime),
        )
        try:
            await control.start()
            await listeners.start()
            if self._web is not None:
                await self._web.start(spool, services, desk, feedback, intake, listeners)
        except OSError as error:
            upkeep.cancel()
            await listeners.stop(0.0)
            if self._web is not None:
                await self._web.stop()
            await control.stop()
            await engine.stop(0.0)
            return self._refuse(EX_UNAVAILABLE, str(error))
        gc.collect()
        gc.freeze()  # what the start built lives as long as the process: the collector need not look at it again
        self._tell(f"daemon started -- version {_version()}, listening on {', '.join(listeners.addresses)}")
        await self._supervision.ready(spool, lambda: standing(spool, engine))
        await self._stop.wait()
        self._supervision.stopping()
        if self._web is not None:
            self._web.ending()
        upkeep.cancel()
        grace = self._settings.queue.stop_timeout if self._status == EX_OK else 0.0
        await self._wind_up(listeners, engine, grace)
        if self._status == EX_IOERR:
            suspects.close()  # the disk's doing, no message's
        if self._web is not None:
            await self._web.stop(WEB_GRACE)
        await control.stop()
        self._tell("daemon stopped")
        return self._status

    async def _wind_up(self, listeners: Listeners, engine: Engine, grace: float) -> None:
        """End what is open on both sides within ``grace`` seconds.

        Mail goes on leaving while applications end their transactions; for half of the time at the most, so that what
        was begun last has the other half.
        """
        deadline = self._clock.monotonic() + grace
        listening = asyncio.ensure_future(listeners.stop(grace))
        await asyncio.wait([listening], timeout=grace / 2)
        if self._status == EX_OK:
            await engine.stop(max(0.0, deadline - self._clock.monotonic()))
            await self._quotas.close()
            await self._remembered.close()
            if engine.braking is not None:
                await engine.braking.written()
            await self._feedback.suppressing.written()
        await listening

    def _accepted(self) -> int:
        return 0 if self._intake is None else self._intake.accepted

    # -- signals and trouble ----------------------------------------------------------------------------------------
    def _signals(self, engine: Engine) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload, engine)

    def _on_stop(self, number: signal.Signals) -> None:
        self._stops += 1
        if self._stops > 1:
            self._tell("leaving at once")
            self._log.close(1.0)
            os._exit(LEFT_AT_ONCE)
        self._tell(f"terminating on signal {number.value}")
        self._stop.set()

    def _on_reload(self, engine: Engine) -> None:
        self._reloading = asyncio.get_running_loop().create_task(self._reload(engine, self._reloading))

    async def _reload(self, engine: Engine, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._supervision.reloading()
        self._log.reopen()
        try:
            settings = self._load()
        except Exception as error:  # noqa: BLE001 - a broken file, however broken, changes nothing
            for line in str(error).splitlines():
                self._tell(f"reload: {line}", warning=True)
            self._tell("reload: the configuration is kept as it was", warning=True)
        else:
            kept = await self._apply(settings, engine)
            if kept:
                self._tell("reload: done but for the above, which is kept as it was", warning=True)
            else:
                self._tell("reload: done")
        self._supervision.reloaded()

    async def _apply(self, settings: Settings, engine: Engine) -> bool:
        """Take what changed; whether something could not be had, as was said, and so is kept."""
        kept = False
        before, self._settings = self._settings, settings
        for table, old, new in (
            ("hostname", before.hostname, settings.hostname),
            ("[spool]", before.spool, settings.spool),
            ("[control]", before.control, settings.control),
            ("[log]", before.log, settings.log),
            ("[http]", before.http, settings.http),
        ):
            if old != new:
                self._tell(f"reload: a change of {table} takes effect at the next start", warning=True)
        engine.configure(settings.queue)
        if engine.braking is not None and settings.brake != before.brake:
            engine.braking.configure(settings.brake)
        self._feedback.configure(settings)
        if self._delays is not None:
            self._delays.look_again()
        try:
            self._signing.configure(settings)
        except ValueError as error:  # the file changed since it was read a moment ago
            self._tell(f"reload: [dkim] is kept as it was: {error}", warning=True)
            kept = True
        engine.signing.configure(self._signing.signer, settings.upstreams)
        if self._intake is not None:
            self._intake.signing = self._signing.signer
            self._intake.doorkeeper = self._feedback.doorkeeper
            names = [each.name for each in settings.upstreams]
            queue, listeners = settings.queue, settings.listeners
            self._intake.configure(settings.rewrite, names, queue.dedupe, _routing(settings), listeners)
        unchanged = {lane.name: lane for lane in engine.lanes}
        known = {each.name: each for each in before.upstreams}
        engine.route(
            [
                unchanged[each.name] if known.get(each.name) == each else self._lanes.open(each, settings.hostname)
                for each in settings.upstreams
            ],
            _routing(settings),
        )
        if self._listeners is not None and not self._stop.is_set():
            for problem in await self._listeners.configure(settings.listeners, settings.users):
                self._tell(f"reload: {problem}", warning=True)
                kept = True
        return kept

    def _on_broken(self, why: str) -> None:
        self._tell(f"the spool can't be trusted any more: {why}", warning=True)
        self._fail(EX_IOERR)

    def _on_failure(self, error: BaseException) -> None:
        if isinstance(error, SpoolBroken):
            self._on_broken(str(error))
        else:
            diagnostics.report(error)
            self._fail(EX_TEMPFAIL)

    def _fail(self, status: int) -> None:
        self._status = status
        self._stop.set()

    def _refuse(self, status: int, why: str) -> int:
        self._tell(why, warning=True)
        if self._settings.log.target != "stderr":
            sys.stderr.write(f"relay: {why}\n")
        return status

    def _tell(self, text: str, *, warning: bool = False) -> None:
        self._log.emit(Notice(self._clock.now(), "master", text, warning=warning))


def _routing(settings: Settings) -> Routing:
    return Routing(settings.routes, [each.name for each in settings.upstreams], settings.queue.bounces)


def _web(settings: Settings, clock: Clock, emit: Emit) -> Web | None:
    """Where no ``[http]`` stands, nothing of it is imported, and events go straight to the log."""
    if settings.http is None:
        return None
    from relay.daemon.web import Web

    return Web(settings.http, settings.hostname, clock, emit)


def _version() -> str:
    from relay import IS_COMPILED, __version__

    return f"{__version__}, compiled" if IS_COMPILED else __version__
