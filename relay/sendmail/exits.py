"""How the command ends: the exit codes of sysexits(3) that callers of sendmail act on."""

from __future__ import annotations

from enum import IntEnum

from relay.outcome import Reply


class Exit(IntEnum):
    """Exit codes."""

    OK = 0
    USAGE = 64
    DATA = 65
    NO_USER = 67
    NO_HOST = 68
    UNAVAILABLE = 69
    IO_ERROR = 74
    TEMPORARY = 75
    NO_PERMISSION = 77
    CONFIG = 78


class Failure(Exception):
    """The command can't do what it was asked to; ends it with ``exit`` and the text on standard error, on one line.

    Arguments that it names may be of a web application's making: no terminal or log obeys them.
    """

    def __init__(self, exit_code: Exit, text: str) -> None:
        super().__init__(text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text))
        self.exit = exit_code


def exit_of(reply: Reply) -> Exit:
    """The exit code for a refusal, by its enhanced code where it has one (RFC 3463 §3), else by the reply's."""
    if reply.code // 100 != 5:
        # 4yz; what is no refusal either came where it makes no sense.
        return Exit.TEMPORARY
    _, _, status = (reply.enhanced or "").partition(".")
    match status.split("."):
        case ["1", "1" | "6" | "10"]:
            return Exit.NO_USER
        case ["1", "2"]:
            return Exit.NO_HOST
        case ["7", _]:
            return Exit.NO_PERMISSION
        case ["1" | "6", _]:
            return Exit.DATA
    # 521 closes a listener's door (RFC 7504), 530 and 535 want AUTH (RFC 4954 §6).
    return Exit.NO_PERMISSION if reply.code in {521, 530, 535} else Exit.UNAVAILABLE
