"""How an event is spelled in the mail log: syslog-shaped lines in Postfix's grammar (contract, "Log lines").

Pure: an event in, its lines out. One event is one string of one or more lines, each ending in LF. Everything that came
from outside (addresses, replies, HELO names, Message-IDs) is made harmless first: a character that can't be printed
becomes "?", as in Postfix, so a line is one line; and where foreign text could feign a field that pflogsumm or an
exporter counts, one character of it becomes "?" too, so counts made from the log equal the spool's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from relay.events import (
    Accepted,
    Attempted,
    Bounced,
    Connected,
    Disconnected,
    Event,
    Expired,
    Notice,
    Rejected,
    Removed,
    Repeated,
    Reported,
    Requeued,
    Suppressed,
    seconds,
    spell_delays,
)

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
TEXT_SHOWN: Final = 1000
"""Characters of one foreign text that are shown: above what RFC 5322 §2.1.1 allows a line."""


def printable(text: str) -> str:
    """``text`` on one line, without control characters, at most 1000 characters of it."""
    if len(text) > TEXT_SHOWN:
        text = text[:TEXT_SHOWN]
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in text)


def bracketed(text: str) -> str:
    """``text`` for between "<" and ">": without such characters of its own, which end an address for every reader, and
    without what a quoted local part may hold of an arrival (:func:`sentence`).
    """
    text = printable(text)
    if "<" in text or ">" in text:
        text = text.replace("<", "?").replace(">", "?")
    if ": client=" in text:
        text = text.replace(": client=", ":?client=")
    return text


def sentence(text: str) -> str:
    """``text`` for where words are free: a reply, a notice. It can't pass for a field that log readers count by.

    pflogsumm takes ``from=<…>, size=N`` anywhere in a line for the queue manager's, and ``]: ID: client=`` for an
    arrival.
    """
    text = printable(text)
    if ">, size=" in text:
        text = text.replace(">, size=", ">,?size=")
    if ": client=" in text:
        text = text.replace(": client=", ":?client=")
    return text


def timestamp(at: float) -> str:
    """``at`` (Unix seconds) as traditional syslog has it: local time, the day padded with a space."""
    t = time.localtime(at)
    return f"{_MONTHS[t.tm_mon - 1]} {t.tm_mday:2d} {t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}"


class Grammar:
    """Spells events for one machine, tag and process.

    ``hostname`` is cut to its first label as syslog does; ``tag`` is the first half of the syslog tag. Keeps the
    spelling of the current second, and nothing else: for one thread.
    """

    def __init__(self, hostname: str, tag: str, pid: int) -> None:
        host = "".join(hostname.partition(".")[0].split()) or "localhost"
        self._between = f" {printable(host)} {printable(tag)}/"
        self._pid = f"[{pid}]: "
        self._second = -1
        self._start = ""
        self._spellings: dict[type, Callable[[Any], str]] = {
            Accepted: self._accepted,
            Attempted: self._attempted,
            Bounced: self._bounced,
            Connected: self._connected,
            Disconnected: self._disconnected,
            Notice: self._notice,
            Rejected: self._rejected,
            Removed: self._removed,
            Reported: self._reported,
            Suppressed: self._suppressed,
            Repeated: self._repeated,
            Expired: self._expired,
            Requeued: self._requeued,
        }

    def lines(self, event: Event) -> str:
        """The lines of ``event``."""
        return self._spellings[type(event)](event)

    def _head(self, at: float, program: str) -> str:
        second = int(at)
        if second != self._second:
            self._start = timestamp(second) + self._between
            self._second = second
        return self._start + program + self._pid

    def _connected(self, event: Connected) -> str:
        return f"{self._head(event.at, 'smtpd')}connect from {sentence(event.client)}\n"

    def _disconnected(self, event: Disconnected) -> str:
        told = [f"{verb.lower()}={_share(accepted, given)}" for verb, accepted, given in event.commands if given]
        accepted = sum(count for _, count, _ in event.commands)
        given = sum(count for _, _, count in event.commands)
        told.append(f"commands={_share(accepted, given)}")
        head = self._head(event.at, "smtpd")
        return f"{head}disconnect from {sentence(event.client)} {sentence(' '.join(told))}\n"

    def _rejected(self, event: Rejected) -> str:
        told = f"{event.command} from {event.client}: {event.reply};"
        if event.sender is not None:
            told += f" from=<{bracketed(event.sender)}>"
        if event.recipient is not None:
            told += f" to=<{bracketed(event.recipient)}>"
        if event.protocol:
            told += f" proto={event.protocol}"
        if event.helo:
            told += f" helo=<{bracketed(event.helo)}>"
        return f"{self._head(event.at, 'smtpd')}NOQUEUE: reject: {sentence(told)}\n"

    def _accepted(self, event: Accepted) -> str:
        lines = ""
        if event.client is not None:
            lines = f"{self._head(event.at, 'smtpd')}{event.queue_id}: client={sentence(event.client)}\n"
        message_id = "?".join(bracketed(event.message_id.strip().removeprefix("<").removesuffix(">")).split())
        cleanup = self._head(event.at, "cleanup") + event.queue_id
        lines += f"{cleanup}: message-id=<{message_id}>\n"
        if event.repairs:
            lines += f"{cleanup}: info: repaired: {sentence(', '.join(event.repairs))}\n"
        return lines + self._active(event)

    def _repeated(self, event: Repeated) -> str:
        head = self._head(event.at, "cleanup")
        told = f"duplicate of {event.duplicate_of} by {event.known_by}, not stored; from {event.client}"
        return f"{head}{event.queue_id}: {sentence(told)}\n"

    def _expired(self, event: Expired) -> str:
        sender = bracketed(event.sender)
        head = self._head(event.at, "qmgr")
        return f"{head}{event.queue_id}: from=<{sender}>, status=expired, returned to sender\n"

    def _requeued(self, event: Requeued) -> str:
        return self._active(event)

    def _active(self, event: Accepted | Requeued) -> str:
        sender = bracketed(event.sender)
        head = self._head(event.at, "qmgr")
        return f"{head}{event.queue_id}: from=<{sender}>, size={event.size}, nrcpt={event.nrcpt} (queue active)\n"

    def _attempted(self, event: Attempted) -> str:
        a, b, c, d = event.delays
        use = f" conn_use={event.conn_use}," if event.conn_use > 1 else ""
        head = self._head(event.at, "smtp")
        return (
            f"{head}{event.queue_id}: to=<{bracketed(event.recipient)}>, relay={event.relay},{use}"
            f" delay={seconds(a + b + c + d)}, delays={spell_delays(event.delays)},"
            f" dsn={event.dsn}, status={event.status} ({sentence(event.detail)})\n"
        )

    def _bounced(self, event: Bounced) -> str:
        head = self._head(event.at, "bounce")
        return f"{head}{event.queue_id}: sender {event.kind} notification: {event.bounce_id}\n"

    def _removed(self, event: Removed) -> str:
        return f"{self._head(event.at, 'qmgr')}{event.queue_id}: removed\n"

    def _reported(self, event: Reported) -> str:
        told = f"{event.said}: <{bracketed(event.recipient)}>, reported by {event.provider} ({event.detail})"
        return f"{self._head(event.at, 'feedback')}{event.queue_id or 'NOQUEUE'}: {sentence(told)}\n"

    def _suppressed(self, event: Suppressed) -> str:
        until = f"until {event.ends}" if event.ends else "until it is removed"
        told = f"suppressed: <{bracketed(event.recipient)}>, {until} ({event.cause}: {event.detail})"
        return f"{self._head(event.at, 'feedback')}{event.queue_id or 'NOQUEUE'}: {sentence(told)}\n"

    def _notice(self, event: Notice) -> str:
        word = "warning: " if event.warning else ""
        return f"{self._head(event.at, event.program)}{word}{sentence(event.text)}\n"


def _share(accepted: int, given: int) -> str:
    return f"{given}" if accepted == given else f"{accepted}/{given}"
