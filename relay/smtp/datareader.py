"""The content of DATA as it is read: where it ends, what its line ends and dots mean (RFC 5321 §4.1.1.4, §4.5.2).

Only ``CRLF . CRLF`` ends it, however the octets are split over reads (§4.1.1.4 forbids to take anything else: SMTP
smuggling). A bare CR or LF inside becomes CRLF; a dot that leads a line is removed after CRLF and after a bare LF, as
clients that send LF stuff it there too. NUL and all else is content. What comes out holds no bare CR or LF.

Octets are searched, counted and replaced in whole chunks: no loop over lines, whatever the lines are.
"""

from __future__ import annotations

from typing import Final

from relay.outcome import Reply
from relay.smtp.lineends import are_whole, has, normalised

_END: Final = b"\r\n.\r\n"
_PREFIXES: Final = tuple(_END[:n] for n in range(len(_END) - 1, 0, -1))

TOO_LARGE: Final = Reply(552, "Error: message exceeds the maximum size", "5.3.4")
"""RFC 1870 §6.2; given after the end of the content, not in its midst."""
BARE_LINE_END: Final = Reply(550, "Error: bare CR or LF in message", "5.6.11")
"""Where the listener rejects them; X.6.11 is IANA's "invalid content" for this."""


class DataReader:
    """Feed it what arrives after the 354 until ``done``.

    ``limit`` is the largest content taken, in octets as they come out; more is read and dropped, up to twice the
    limit, after which ``hopeless`` says that the client won't end. ``reject`` refuses bare CR and LF instead of
    normalising them. After the end ``refusal`` is the reply due for what was read, or None, and ``rest`` holds the
    octets behind the end: the next commands of a pipelining client.
    """

    __slots__ = ("_after_line_feed", "_held", "_limit", "_reject", "_skip", "done", "refusal", "rest", "seen", "size")

    def __init__(self, limit: int, *, reject: bool = False) -> None:
        self.done = False
        self.refusal: Reply | None = None
        self.rest = b""
        self.size = 0
        self.seen = 0
        self._limit = limit
        self._reject = reject
        # The content begins at the start of a line: as if CRLF had been before it. That CRLF isn't given out.
        self._held = b"\r\n"
        self._skip = 2
        self._after_line_feed = False

    @property
    def hopeless(self) -> bool:
        """The content is so far over the limit that its end isn't worth waiting for."""
        return self.seen > 2 * self._limit + len(_END)

    def feed(self, octets: bytes) -> bytes:
        """Take the next octets, in any split; return what of the content is certain by now, in its final form.

        Nothing comes out any more once the content is refused.
        """
        data = self._held + octets
        end = data.find(_END) if has(data, _END) else -1
        if end >= 0:
            self.done = True
            self.rest = data[end + len(_END) :]
            self.seen += len(octets) - len(self.rest)
            stop = end + 2
        else:
            self.seen += len(octets)
            self._held = _held_back(data)
            stop = len(data) - len(self._held)
        if stop < self._skip or self.refusal is not None:
            return b""
        content = data[self._skip : stop]
        leads_line = self._skip > 0 or self._after_line_feed
        self._skip = 0
        if not content:
            return b""
        # The dot that leads the first line, or a line whose bare LF came with the octets before.
        return self._normalised(content.removeprefix(b".") if leads_line else content)

    def _normalised(self, content: bytes) -> bytes:
        # A final CR or CRLF is held back, so what ends in LF here ends in a bare one, or is all.
        self._after_line_feed = content.endswith(b"\n")
        if has(content, b"\n."):
            content = content.replace(b"\n.", b"\n")
        if not are_whole(content):
            if self._reject:
                self.refusal = self.refusal or BARE_LINE_END
            else:
                content = normalised(content)
        self.size += len(content)
        if self.size > self._limit:
            self.refusal = self.refusal or TOO_LARGE
        return b"" if self.refusal is not None else content


def _held_back(data: bytes) -> bytes:
    """The longest end of ``data`` that could still become the end of the content."""
    for prefix in _PREFIXES:
        if data.endswith(prefix):
            return prefix
    return b""
