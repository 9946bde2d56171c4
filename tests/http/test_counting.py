from __future__ import annotations

from collections.abc import Mapping

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from relay.events import Accepted, Attempted, Bounced, Event, Rejected, Removed, Repeated, Status
from relay.http.counting import Counts, Histogram
from relay.http.metrics import Metrics
from relay.http.neighbours import Gauges, UpstreamGauges

EVENTS: tuple[Event, ...] = (
    Accepted(99.5, "A", "localhost[127.0.0.1]", "<1@x>", "a@x", 300, 2),
    Accepted(99.0, "B", None, "<2@x>", "", 900, 1, bounce_of="A"),
    Accepted(101.0, "C", "localhost[127.0.0.1]", "<3@x>", "a@x", 200, 1),
    Attempted(100.0, "A", "b@y", "ses", "ses[1]:25", Status.SENT, "2.0.0", "ok", (0.01, 0.02, 0.03, 0.04)),
    Attempted(100.0, "A", "c@y", "ses", "ses[1]:25", Status.BOUNCED, "5.1.1", "no"),
    Attempted(100.0, "C", "c@y", "ses", "ses[1]:25", Status.DEFERRED, "4.4.2", "lost", in_doubt=True),
    Attempted(100.0, "D", "c@y", "gone", "none", Status.EXPIRED, "5.4.7", "old"),
    Rejected(100.0, "localhost[127.0.0.1]", "RCPT", "553 no"),
    Repeated(100.0, "E", "localhost[127.0.0.1]", "A", "Message-ID"),
    Bounced(100.0, "A", "B"),
    Removed(100.0, "A"),
)


def counted() -> Counts:
    emitted: list[Event] = []
    counts = Counts(emitted.append, lambda: 100.0)
    for event in EVENTS:
        counts.emit(event)
    assert emitted == list(EVENTS)
    return counts


def metrics(counts: Counts) -> Metrics:
    async def gauges() -> Gauges:
        upstreams = {
            "ses": UpstreamGauges("paused", 3, 2, (("14/second", 0.5), ("600/hour", 1.0))),
            'odd"\\name': UpstreamGauges("up", 0, 0),
        }
        return Gauges({"waiting": 5, "leased": 2, "deferred": 1, "held": 0}, 12.5, upstreams)

    return Metrics(counts, gauges, lambda: {"app": 2}, "1.2.3")


async def samples(counts: Counts) -> Mapping[tuple[str, ...], float]:
    text, _ = await metrics(counts).exposition("")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


async def test_events_become_the_names_of_the_contract() -> None:
    found = await samples(counted())
    assert found["relay_messages_accepted_total", "app"] == 2
    assert found["relay_recipients_total", "sent", "ses"] == 1
    assert found["relay_recipients_total", "bounced", "ses"] == 1
    assert found["relay_recipients_total", "deferred", "ses"] == 1
    assert found["relay_recipients_total", "expired", "gone"] == 1
    assert found["relay_recipients_total", "sent", 'odd"\\name'] == 0
    assert found["relay_recipients_in_doubt_total", "ses"] == 1
    assert found["relay_octets_accepted_total",] == 500
    assert found["relay_rejected_total",] == 1
    assert found["relay_messages_repeated_total",] == 1
    assert found["relay_notifications_total",] == 1
    assert found["relay_queue_messages", "waiting"] == 5
    assert found["relay_queue_oldest_seconds",] == 12.5
    assert found["relay_connections", "ses"] == 3
    assert found["relay_messages_in_flight", "ses"] == 2
    assert found["relay_limit_used_ratio", "600/hour", "ses"] == 1.0
    assert [found["relay_upstream_state", state, "ses"] for state in ("up", "paused")] == [0, 1]
    assert found["relay_build_info", "1.2.3"] == 1


async def test_times_are_counted_where_somebody_waits() -> None:
    found = await samples(counted())
    # Half a second, and one whose clock was set back; the notification is nobody's.
    assert found["relay_accept_seconds_count",] == 2
    assert found["relay_accept_seconds_sum",] == 0.5
    assert found["relay_accept_seconds_bucket", "0.25"] == 1
    assert found["relay_accept_seconds_bucket", "0.5"] == 2
    assert found["relay_accept_seconds_bucket", "+Inf"] == 2
    assert found["relay_delivery_seconds_count", "ses"] == 1
    assert found["relay_delivery_seconds_sum", "ses"] == pytest.approx(0.1)


async def test_each_format_is_one_that_its_reader_takes() -> None:
    text, content_type = await metrics(counted()).exposition("application/openmetrics-text; version=1.0.0; q=0.9")
    assert content_type.startswith("application/openmetrics-text")
    families = list(openmetrics_families(text.decode()))  # type: ignore[no-untyped-call]
    assert {family.name for family in families} >= {"relay_messages_accepted"}
    for family in families:
        assert family.documentation, family.name
        assert family.type != "unknown", family.name


def test_a_histogram_has_every_value_once() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.0, 1.0, 1.5, 2.0, 99.0):
        histogram.observe(value)
    assert histogram.buckets() == [("1.0", 2.0), ("2.0", 4.0), ("+Inf", 5.0)]
    assert histogram.total == 103.5
