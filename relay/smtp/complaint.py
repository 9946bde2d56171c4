"""The feedback report of a recipient who complained: ARF (RFC 5965), as a provider sends it back. Pure."""

from __future__ import annotations

from email.utils import formatdate

_HEAD = 65_536
"""Octets of the original that its header is looked for in."""


def feedback_report(original: bytes, *, sender: str, recipient: str, reporter: str, now: float) -> bytes:
    """A report of abuse: ``original`` (octets, CR LF) went from ``sender`` to ``recipient``; ``now``: Unix seconds."""
    boundary = f"report.{int(now)}/{reporter}"
    head = original[:_HEAD]
    end = head.find(b"\r\n\r\n")
    header = head[: end + 2] if end != -1 else head
    report = "\r\n".join(
        [
            f"From: complaints@{reporter}",
            f"To: {sender}",
            f"Date: {formatdate(now)}",
            "Subject: complaint about a message",
            "MIME-Version: 1.0",
            f'Content-Type: multipart/report; report-type=feedback-report; boundary="{boundary}"',
            "",
            f"--{boundary}",
            "Content-Type: text/plain; charset=utf-8",
            "",
            f"{recipient} marked a message of yours as unwanted.",
            "",
            f"--{boundary}",
            "Content-Type: message/feedback-report",
            "",
            # RFC 5965 §3.1: these three are required.
            "Feedback-Type: abuse",
            f"User-Agent: {reporter}",
            "Version: 1",
            f"Original-Mail-From: <{sender}>",
            f"Original-Rcpt-To: <{recipient}>",
            f"Arrival-Date: {formatdate(now)}",
            "",
            f"--{boundary}",
            "Content-Type: text/rfc822-headers",
            "",
            "",
        ]
    )
    return report.encode() + header + f"\r\n--{boundary}--\r\n".encode()
