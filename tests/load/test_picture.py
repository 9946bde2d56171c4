"""The bench's picture is drawn of whatever rows were asked for."""

from __future__ import annotations

from tests.load.picture import picture


def test_latencies_alone_make_a_picture() -> None:
    drawn = picture([], {"Postfix": [1.0, 2.0], "relay": [0.5, 3.0]})
    assert drawn.count("<polyline") == 2
    assert "Postfix" in drawn


def test_a_single_rate_makes_a_picture() -> None:
    assert "7,500/s" in picture([("accepted", {"relay": 7500.0})], {})
