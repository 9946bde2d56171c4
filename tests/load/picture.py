"""The bench's picture as SVG: a bar chart of rates, and latency curves. No library: some rectangles and two lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

WIDTH, LEFT, BAR = 860, 390, 13
COLOURS = {"Postfix": "#9aa5b1", "relay": "#1f6feb"}
STYLE = "font-family='sans-serif' font-size='12'"


def picture(rates: Sequence[tuple[str, Mapping[str, float]]], curves: Mapping[str, Sequence[float]]) -> str:
    """``rates``: for each row its name and the messages a second of each service; ``curves``: sorted latencies."""
    bars, y = [], 34
    # A logarithmic scale: rows differ by a hundred times.
    most = max((value for _, values in rates for value in values.values()), default=1.0)
    least = min((value for _, values in rates for value in values.values()), default=1.0) / 2
    span = math.log(most / least)
    for name, values in rates:
        bars.append(f"<text x='{LEFT - 8}' y='{y + BAR + 3}' text-anchor='end'>{name}</text>")
        for service, value in values.items():
            wide = (WIDTH - LEFT - 90) * math.log(value / least) / span
            bars.append(f"<rect x='{LEFT}' y='{y}' width='{wide:.0f}' height='{BAR - 2}' fill='{COLOURS[service]}'/>")
            bars.append(f"<text x='{LEFT + wide + 6:.0f}' y='{y + BAR - 3}'>{value:,.0f}/s</text>")
            y += BAR
        y += 10
    parts = [f"<text x='8' y='20'>Messages a second (logarithmic): {_legend(COLOURS)}</text>", *bars]
    if curves:
        parts += _curves(curves, y + 20)
        y += 260
    body = "\n".join(parts)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{y + 10}' {STYLE}>\n"
        f"<rect width='100%' height='100%' fill='white'/>\n{body}\n</svg>\n"
    )


def _curves(curves: Mapping[str, Sequence[float]], top: int) -> list[str]:
    """Share of submissions that took no longer than: one line a service, time logarithmic."""
    high, wide = 180, WIDTH - 120
    first = min(ordered[0] for ordered in curves.values())
    last = max(ordered[-1] for ordered in curves.values())
    span = math.log(last / first) or 1.0
    parts = [f"<text x='8' y='{top}'>Accept latency of a lone client, share of submissions: {_legend(curves)}</text>"]
    for percent in (0, 50, 90, 100):
        y = top + 20 + high * (1 - percent / 100)
        parts.append(f"<line x1='60' x2='{60 + wide}' y1='{y:.0f}' y2='{y:.0f}' stroke='#ddd'/>")
        parts.append(f"<text x='52' y='{y + 4:.0f}' text-anchor='end'>{percent} %</text>")
    for tick in (first, math.sqrt(first * last), last):
        x = 60 + wide * math.log(tick / first) / span
        parts.append(f"<text x='{x:.0f}' y='{top + high + 38}' text-anchor='middle'>{tick * 1000:.2g} ms</text>")
    for service, ordered in curves.items():
        points = " ".join(
            f"{60 + wide * math.log(value / first) / span:.1f},{top + 20 + high * (1 - (n + 1) / len(ordered)):.1f}"
            for n, value in enumerate(ordered)
        )
        parts.append(f"<polyline points='{points}' fill='none' stroke='{COLOURS[service]}' stroke-width='2'/>")
    return parts


def _legend(services: Mapping[str, object]) -> str:
    return " ".join(f"<tspan fill='{COLOURS[name]}'>■ {name}</tspan>" for name in services)
