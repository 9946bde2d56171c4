"""Signing with DKIM, put together from the settings; without keys there is none, and nothing of it is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.clock import Clock
from relay.events import Emit
from relay.settings import Settings

if TYPE_CHECKING:
    from relay.signing.signer import Signer


class SigningDesk:
    """Holds the one signer, which door and delivery share. Raises ValueError where a key can't be used."""

    def __init__(self, settings: Settings, clock: Clock, emit: Emit) -> None:
        self._clock = clock
        self._emit = emit
        self.signer: Signer | None = None
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Read the keys, also those whose files changed alone; raises ValueError, and then all stays as it was."""
        if self.signer is not None:
            self.signer.configure(settings.dkim, settings.upstreams)
        elif settings.dkim:
            from relay.signing.signer import Signer

            self.signer = Signer(settings.dkim, settings.upstreams, self._clock, self._emit)
