"""Content on its way out: dots doubled, the end marked (RFC 5321 §4.5.2).

Content in the spool has CR LF line ends only, so a dot starts a line where it comes first or follows CR LF.
"""

from __future__ import annotations

from relay.smtp.lineends import has


def stuff(content: bytes) -> bytes:
    """Whole content as it goes over the wire, with its final ``CRLF . CRLF``; copies only where it must."""
    if has(content, b"\r\n."):
        content = content.replace(b"\r\n.", b"\r\n..")
    if content.startswith(b"."):
        content = b"." + content
    return content + (b".\r\n" if content.endswith(b"\r\n") or not content else b"\r\n.\r\n")


class Stuffer:
    """The same for content that comes piece by piece, split anywhere."""

    def __init__(self) -> None:
        self._tail = b"\r\n"  # as if a line end came before the first octet

    def piece(self, octets: bytes) -> bytes:
        """The next octets with dots doubled."""
        if not octets:
            return octets
        joined = self._tail + octets
        stuffed = joined.replace(b"\r\n.", b"\r\n..") if has(joined, b"\r\n.") else joined
        stuffed = stuffed[len(self._tail) :]
        # "\r\n." counts only where the dot is new: a dot never enters the tail behind its line end.
        self._tail = joined[-2:]
        return stuffed

    def end(self) -> bytes:
        """What ends the content."""
        return b".\r\n" if self._tail == b"\r\n" else b"\r\n.\r\n"
