"""``/metrics``: counters and gauges in Prometheus' text formats (``relay_`` names with units, per upstream)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from relay.events import Status
from relay.http.counting import Counts
from relay.http.neighbours import Gauges, ReadGauges

STATES: Final = ("up", "paused", "backoff", "down")
_OUTCOMES: Final = tuple(Status)


class Metrics:
    """``accepted`` gives how many messages each listener accepted since the start."""

    def __init__(
        self, counts: Counts, gauges: ReadGauges, accepted: Callable[[], Mapping[str, int]], version: str
    ) -> None:
        self._counts = counts
        self._gauges = gauges
        self._accepted = accepted
        self._version = version
        self._process = ProcessCollector(registry=None)

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """The text and its content type, in the format that ``accept`` (a header field's value) prefers."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self._process)
        registry.register(_Families(self._families(await self._gauges())))
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type

    def _families(self, gauges: Gauges) -> Iterator[Metric]:
        yield InfoMetricFamily("relay_build", "The relay that runs.", {"version": self._version})
        yield from self._listening()
        yield from self._delivery(gauges)
        yield from _standing(gauges)

    def _listening(self) -> Iterator[Metric]:
        counts = self._counts
        accepted = CounterMetricFamily("relay_messages_accepted", "Messages taken, by listener.", labels=["listener"])
        for listener, count in self._accepted().items():
            accepted.add_metric([listener], count)
        yield accepted
        for name, text, count in (
            ("relay_octets_accepted", "Octets of the messages accepted.", counts.octets),
            ("relay_rejected", "Connections, addresses and messages refused at the door.", counts.rejected),
            ("relay_messages_repeated", "Messages that were in the spool before.", counts.repeated),
            ("relay_notifications", "Delivery status notifications made for senders.", counts.notifications),
        ):
            yield CounterMetricFamily(name, text, value=count)
        yield HistogramMetricFamily(
            "relay_accept_seconds",
            "From the end of a message to its durable acceptance.",
            buckets=counts.accepting.buckets(),
            sum_value=counts.accepting.total,
        )

    def _delivery(self, gauges: Gauges) -> Iterator[Metric]:
        counts = self._counts
        recipients = CounterMetricFamily(
            "relay_recipients", "Attempts that ended, by upstream and outcome.", labels=["upstream", "outcome"]
        )
        # All that there may be from the first scrape on: a rate needs a zero to begin with.
        for upstream in dict.fromkeys([*gauges.upstreams, *(name for name, _ in counts.attempts)]):
            for status in _OUTCOMES:
                recipients.add_metric([upstream, status], counts.attempts.get((upstream, status), 0))
        yield recipients
        doubtful = CounterMetricFamily(
            "relay_recipients_in_doubt", "Attempts whose final dot was not answered.", labels=["upstream"]
        )
        for upstream in dict.fromkeys([*gauges.upstreams, *counts.in_doubt]):
            doubtful.add_metric([upstream], counts.in_doubt.get(upstream, 0))
        yield doubtful
        delivery = HistogramMetricFamily(
            "relay_delivery_seconds", "From a message's arrival to the reply that took it.", labels=["upstream"]
        )
        for upstream, histogram in counts.delivery.items():
            delivery.add_metric([upstream], histogram.buckets(), histogram.total)
        yield delivery


class _Families(Collector):
    def __init__(self, families: Iterator[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return self._families


def _standing(gauges: Gauges) -> Iterator[Metric]:
    """What is so at this moment."""
    queue = GaugeMetricFamily("relay_queue_messages", "Open messages, by state.", labels=["state"])
    for state, count in gauges.queue.items():
        queue.add_metric([state], count)
    yield queue
    yield GaugeMetricFamily("relay_queue_oldest_seconds", "Age of the oldest open message.", value=gauges.oldest)
    connections = GaugeMetricFamily("relay_connections", "Open sessions, by upstream.", labels=["upstream"])
    in_flight = GaugeMetricFamily("relay_messages_in_flight", "Messages in sessions.", labels=["upstream"])
    states = GaugeMetricFamily("relay_upstream_state", "1 for the state it is in.", labels=["upstream", "state"])
    used = GaugeMetricFamily("relay_limit_used_ratio", "Share of a limit in use.", labels=["upstream", "limit"])
    for name, upstream in gauges.upstreams.items():
        connections.add_metric([name], upstream.connections)
        in_flight.add_metric([name], upstream.in_flight)
        for state in STATES:
            states.add_metric([name, state], float(upstream.state == state))
        for limit, share in upstream.limits:
            used.add_metric([name, limit], share)
    yield from (connections, in_flight, states, used)
