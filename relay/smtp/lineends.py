"""Line ends of content: CR LF and nothing else, before anything is hashed, signed or kept (RFC 5321 §2.3.8)."""

from __future__ import annotations


def are_whole(content: bytes) -> bool:
    """Whether every CR and every LF is half of a CR LF."""
    pairs = content.count(b"\r\n")
    return content.count(b"\n") == pairs and content.count(b"\r") == pairs


def normalised(content: bytes) -> bytes:
    """``content`` with CR LF for each bare CR and each bare LF."""
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
