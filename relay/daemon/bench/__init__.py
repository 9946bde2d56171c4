"""``relay bench``: what this installation does on its machine and disk, by a relay and a spool of its own."""

from __future__ import annotations

from relay.daemon.bench.measuring import Cell, Figures, NotMeasured, measure

__all__ = ["Cell", "Figures", "NotMeasured", "measure"]
