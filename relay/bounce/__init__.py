"""Delivery status notifications (RFC 3461, 3464, 6533): who is told what, and the message that tells it. Pure."""

from __future__ import annotations

from relay.bounce.fields import RecipientReport
from relay.bounce.wanted import wants
from relay.bounce.writing import RETURNED_AT_MOST, Written, write

__all__ = ["RETURNED_AT_MOST", "RecipientReport", "Written", "wants", "write"]
