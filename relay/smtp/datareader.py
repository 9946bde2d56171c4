"""The content of DATA as it is read: where it ends, what its line ends and dots mean (RFC 5321 §4.1.1.4, §4.5.2).

Only ``CRLF . CRLF`` ends it, however the octets are split over reads (§4.1.1.4 forbids to take anything else: SMTP
smuggling). A bare CR or LF inside becomes CRLF; a dot that leads a line is removed after CRLF and after a bare LF, as
clients that send LF stuff it there too. NUL and all else is content. What comes out holds no bare CR or LF.

Octets are searched, counted and replaced in whole chunks: no loop over lines, whatever the lines are.
"""

from __future__ import annotations

from typing import Final

from relay.smtp.lineends import Content

_END: Final = b"\r\n.\r\n"
_LEADING_DOT: Final = b"\n."
_PREFIXES: Final = tuple(_END[:n] for n in range(len(_END) - 1, 0, -1))


class DataReader(Content):
    """Feed it what arrives after the 354 until ``done``.

    What goes beyond ``limit`` is read and dropped, up to twice the limit, after which ``hopeless`` says that the client
    won't end. After the end ``rest`` holds the octets behind it: the next commands of a pipelining client.
    """

    __slots__ = ("_after_line_feed", "_held", "_skip", "done", "rest", "seen")

    def __init__(self, limit: int, *, reject: bool = False) -> None:
        super().__init__(limit, reject=reject)
        self.done = False
        self.rest = b""
        self.seen = 0
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
        # Most of what is read holds no dot at all, which is seen at once, or none that leads a line.
        last = data.rfind(_LEADING_DOT) if b"." in data else -1
        end, dotted = _end_in(data, last) if last >= 0 else (-1, False)
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
        return self._normalised(content.removeprefix(b".") if leads_line else content, dotted=dotted)

    def _normalised(self, content: bytes, *, dotted: bool) -> bytes:
        # A final CR or CRLF is held back, so what ends in LF here ends in a bare one, or is all.
        self._after_line_feed = content.endswith(b"\n")
        if dotted:
            content = content.replace(_LEADING_DOT, b"\n")
        return self._taken(content)


def _end_in(data: bytes, last: int) -> tuple[int, bool]:
    """Where the content's end begins, or -1, and whether a dot leads a line before it; ``last`` is where the last does.

    There are several ends where a client has pipelined messages.
    """
    if data.startswith(_END, last - 1) and data.rfind(_LEADING_DOT, 0, last) < 0:
        return last - 1, False
    return (data.find(_END) if data.rfind(_END) >= 0 else -1), True


def _held_back(data: bytes) -> bytes:
    """The longest end of ``data`` that could still become the end of the content."""
    for prefix in _PREFIXES:
        if data.endswith(prefix):
            return prefix
    return b""
