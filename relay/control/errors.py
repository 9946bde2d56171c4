"""How a command ends: the exit codes of the contract (sysexits.h), and the two ways in which asking can fail."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    NO = 1
    USAGE = 2
    UNAVAILABLE = 69
    IO_ERROR = 74
    TEMPORARY = 75
    CONFIG = 78


class Refused(Exception):
    """What was asked can't be done; ``exit`` is the code that the command ends with."""

    def __init__(self, message: str, exit_code: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.exit = exit_code


class Unreachable(Exception):
    """No relay answers at the control socket."""
