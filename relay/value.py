"""Values: dataclasses with slots that the type checker holds to be frozen, and Python does not.

``@dataclass(frozen=True, slots=True)`` by this module's ``dataclass`` reads, compares, hashes and is checked as the
standard library's, but builds its objects four times as fast: a truly frozen one sets each field by a call of
``object.__setattr__``, and a message passes through some hundred fields. For the values that every message takes;
docs/performance.md has the figures, docs/decisions.md the price.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool = False, slots: bool = False, eq: bool = True) -> Any:
        """The standard library's, but ``frozen`` is a promise."""
        return dataclasses.dataclass(slots=slots, eq=eq, unsafe_hash=frozen)


__all__ = ["dataclass"]
