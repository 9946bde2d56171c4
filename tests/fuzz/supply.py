"""Takes a fuzzer's octets apart into the values that a check needs, so that every input means something."""

from __future__ import annotations


class Supply:
    """Text is taken from the front and choices from the end: a mutation of one leaves the other alone."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def __bool__(self) -> bool:
        return bool(self._octets)

    def number(self, below: int) -> int:
        """A number from 0 on; 0 where nothing is left."""
        size = 1 if below <= 256 else 2
        taken = self._octets[-size:]
        self._octets = self._octets[:-size]
        return int.from_bytes(taken) % below

    def choice(self) -> bool:
        return bool(self.number(2))

    def octets(self, most: int = 255) -> bytes:
        """Up to ``most`` octets."""
        size = self.number(most + 1)
        taken, self._octets = self._octets[:size], self._octets[size:]
        return taken

    def line(self) -> bytes:
        """Up to the next line feed, without it."""
        taken, _, self._octets = self._octets.partition(b"\n")
        return taken

    def text(self, most: int = 255) -> str:
        return self.octets(most).decode("utf-8", "replace")

    def rest(self) -> bytes:
        taken, self._octets = self._octets, b""
        return taken

    def cuts(self) -> list[int]:
        """Up to seven places, as shares of a 1/65,536."""
        return [self.number(65_536) for _ in range(self.number(8))]


def pieces(octets: bytes, cuts: list[int]) -> list[bytes]:
    """``octets`` cut at those places; all of it together."""
    places = sorted(cut * (len(octets) + 1) >> 16 for cut in cuts)
    return [octets[start:end] for start, end in zip([0, *places], [*places, len(octets)], strict=True)]
