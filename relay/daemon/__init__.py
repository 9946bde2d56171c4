"""The composition root: builds the objects of a running relay and hands them to each other."""

from __future__ import annotations

from relay.daemon.serving import serve
from relay.daemon.simulating import simulate

__all__ = ["serve", "simulate"]
