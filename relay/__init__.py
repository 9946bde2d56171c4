"""A durable, fast local mail relay: SMTP in, pooled and pipelined SMTP out."""

from __future__ import annotations

__version__ = "0.1.0"
