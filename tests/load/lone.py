"""What one application feels: the latency of its submissions, one at a time, while others' mail is under way."""

from __future__ import annotations

import smtplib
import time

CONTENT = b"From: a@x.test\r\nTo: b@y.test\r\nSubject: lone\r\n\r\n" + b"A line of content\r\n" * 100


def latencies(port: int, count: int, pause: float) -> list[float]:
    """Seconds from MAIL to the reply to the content of ``count`` messages on one connection, sorted."""
    found: list[float] = []
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.ehlo("lone.test")
        for _ in range(count):
            began = time.perf_counter()
            client.mail("a@x.test")
            client.rcpt("b@y.test")
            code, said = client.data(CONTENT)
            found.append(time.perf_counter() - began)
            if code != 250:
                raise RuntimeError(f"refused: {code} {said!r}")
            time.sleep(pause)
    return sorted(found)


def share(ordered: list[float], part: float) -> float:
    """The latency that ``part`` of all stay within."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
