"""A lane for each upstream of the configuration, with its limits, what is known of it and what its account may send."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import SystemRandom

from relay.clock import Clock
from relay.daemon.upstreams import open_upstream
from relay.delivery.engine import Engine
from relay.delivery.lane import Lane, LaneLimits
from relay.delivery.permits import Quotas
from relay.delivery.remembering import Remembered
from relay.events import Emit, Notice
from relay.settings import UpstreamSettings
from relay.upstream import ServerLimit


class Lanes:
    """Makes lanes of ``engine``; ``report`` takes the abuse reports that simulators make, with their names."""

    def __init__(
        self,
        engine: Engine,
        quotas: Quotas,
        remembered: Remembered,
        clock: Clock,
        emit: Emit,
        report: Callable[[bytes, str], None],
    ) -> None:
        self._engine = engine
        self._quotas = quotas
        self._remembered = remembered
        self._clock = clock
        self._emit = emit
        self._report = report

    def open(self, settings: UpstreamSettings, hostname: str) -> Lane:
        """The lane of a ``[upstream.NAME]``; it connects once there is mail for it."""

        def told(account: Sequence[ServerLimit]) -> None:
            self._told(lane, settings, account)

        limits = LaneLimits(
            settings.max_connections,
            settings.max_recipients,
            settings.in_doubt,
            authenticates=settings.username is not None,
            idempotency_header=settings.provider.idempotency_header,
            cycle=settings.cycle,
            reserve=settings.reserve,
        )
        upstream = open_upstream(settings, hostname, self._clock, told, self._report)
        lane = Lane(upstream, limits, self._engine, SystemRandom().random, self._clock.now)
        lane.permits = self._quotas.of(settings)
        self._remembered.teach(lane, settings)
        for before in self._engine.lanes:
            if before.name == lane.name:
                lane.succeed(before)
        return lane

    def _told(self, lane: Lane, settings: UpstreamSettings, account: Sequence[ServerLimit]) -> None:
        """Have the lane keep to what the provider says of the account."""
        permits, is_news = self._quotas.told(settings, account)
        if permits is None:
            return
        lane.permits = permits
        lane.regulator.bounded(permits.limits)
        lane.taught(lane.regulator)  # a learned pace holds on beside it
        if is_news:
            limits = " and ".join(limit.text for limit in permits.limits)
            self._emit(Notice(self._clock.now(), "smtp", f"upstream {settings.name} may send {limits}"))
