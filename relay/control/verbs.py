"""The verbs of the control protocol: a name and its arguments in, parts and a result out.

The same dispatch serves the socket and the commands that act on a spool whose relay is not running.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from relay.control.errors import Exit, Refused
from relay.control.services import Services
from relay.spool import SpoolBroken, SpoolDamaged, SpoolError

_SELECTING: Final = ("count", "hold", "release", "retry", "remove", "bounce")

_SUPPRESSING: Final = ("suppressions", "suppress", "unsuppress", "feedback")

VERBS: Final = ("status", "plan", "list", "trace", "brakes", "unbrake", *_SUPPRESSING, *_SELECTING)
"""Every verb there is."""

LISTS: Final = ("list", "suppressions")
"""Verbs that yield more than once: each time a list."""


async def perform(services: Services, verb: str, arguments: Mapping[str, Any]) -> AsyncIterator[Any]:
    """Do ``verb``; yields its answer. Only those of LISTS yield more than once.

    Raises :class:`Refused` and :class:`~relay.spool.SpoolError`.
    """
    if verb == "list":
        async for part in services.listing(arguments):
            yield part
    elif verb == "suppressions":
        async for part in services.suppressions(arguments):
            yield part
    elif verb == "status":
        yield await services.status()
    elif verb == "plan":
        yield await services.plan(arguments)
    elif verb == "trace":
        text = arguments.get("text")
        if not isinstance(text, str) or not text:
            raise Refused("trace wants a queue id or a Message-ID")
        yield await services.trace(text)
    elif verb == "brakes":
        yield await services.brakes()
    elif verb == "unbrake":
        yield await services.unbrake(arguments)
    elif verb in _SELECTING or verb in _SUPPRESSING:
        yield await getattr(services, verb)(arguments)
    else:
        raise Refused(f"no verb {verb!r}; there are {', '.join(VERBS)}")


def exit_of(error: SpoolError) -> Exit:
    """The exit code for a spool's error: 74 where it can't be trusted, else 75 (full, busy, locked)."""
    return Exit.IO_ERROR if isinstance(error, (SpoolBroken, SpoolDamaged)) else Exit.TEMPORARY
