"""Addresses as people and header fields write them, as :mod:`relay.smtp.addresslist` reads them, for the command."""

from __future__ import annotations

from relay.sendmail.exits import Exit, Failure
from relay.smtp import addresslist


def parse_list(text: str) -> list[str]:
    """The addresses of an address list. Raises :class:`Failure` (65) for what is no address."""
    try:
        return addresslist.parse_list(text)
    except addresslist.NoAddress as error:
        raise Failure(Exit.DATA, str(error)) from None


def parse_one(text: str) -> str:
    """The one address of ``text``; "" for the null one, ``<>`` or nothing. Raises :class:`Failure` (65)."""
    try:
        return addresslist.parse_one(text)
    except addresslist.NoAddress as error:
        raise Failure(Exit.DATA, str(error)) from None
