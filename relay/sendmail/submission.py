"""Submission by SMTP to a listener of ours: one blocking session, at most as many recipients a transaction as it takes.

All or nothing: the content goes out only where every recipient was taken. (Above the listener's maximum of recipients
there are several transactions, each of which is all or nothing; the text of a failure says how many were through.)
"""

from __future__ import annotations

import contextlib
import socket
from typing import Final, Self

from relay.mail import Envelope, Recipient
from relay.outcome import Reply
from relay.sendmail.door import Door
from relay.sendmail.exits import Exit, Failure, exit_of
from relay.smtp.replies import ProtocolError, ReplyReader
from relay.smtp.stuffing import stuff

CONNECT_TIMEOUT: Final = 30.0
REPLY_TIMEOUT: Final = 300.0
"""Seconds for a reply (RFC 5321 §4.5.3.2)."""
FINAL_REPLY_TIMEOUT: Final = 600.0
"""Seconds for the reply to the final dot (§4.5.3.2.6)."""


class NobodyThere(Exception):
    """No relay listens: nobody took our connection."""


class Busy(Exception):
    """A relay is there, but full or about to end, and did not take the message: it may be asked again."""


def connect(door: Door) -> socket.socket:
    """A connection to the listener. Raises :class:`NobodyThere`, :class:`Busy`, or :class:`Failure` (75, 77)."""
    if isinstance(door.target, str):
        family = socket.AF_UNIX
    else:
        family = socket.AF_INET6 if ":" in door.target[0] else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_TIMEOUT)
        connection.connect(door.target)
    except (ConnectionRefusedError, FileNotFoundError) as error:
        connection.close()
        raise NobodyThere(f"no relay listens at {door}") from error
    except ConnectionResetError as error:
        connection.close()
        raise Busy(f"{door}: connection lost instead of the greeting") from error
    except OSError as error:
        connection.close()
        exit_code = Exit.NO_PERMISSION if isinstance(error, PermissionError) else Exit.TEMPORARY
        raise Failure(exit_code, f"{door}: {error.strerror or error}") from error
    return connection


def submit(door: Door, envelope: Envelope, content: bytes) -> None:
    """Have a message kept by the relay. Raises :class:`NobodyThere`, :class:`Busy` or :class:`Failure`."""
    with _Session(door) as session:
        session.greet()
        every = envelope.recipients
        for start in range(0, len(every), door.max_recipients):
            try:
                session.transact(envelope, every[start : start + door.max_recipients], content)
            except (Failure, Busy) as trouble:
                if start:
                    text = f"{trouble} (taken for the first {start} of {len(every)} recipients)"
                    raise Failure(getattr(trouble, "exit", Exit.TEMPORARY), text) from None
                raise
        session.quit()


class _Session:
    """The conversation; every method raises :class:`Failure` or :class:`Busy` where it does not get what it needs."""

    def __init__(self, door: Door) -> None:
        self._where = str(door)
        self._connection = connect(door)
        self._reader = ReplyReader()
        self._replies: list[Reply] = []
        self._extensions: frozenset[str] = frozenset()
        self._in_doubt = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def greet(self) -> None:
        """Greeting and EHLO."""
        self._expect(self._reply("the connection"), 2, "the connection")
        # One line of words: names of extensions, their parameters.
        hello = self._command("EHLO localhost", 2)
        self._extensions = frozenset(hello.text.upper().split())

    def transact(self, envelope: Envelope, recipients: tuple[Recipient, ...], content: bytes) -> None:
        """One message for these recipients; MAIL and all RCPT go in one group where that may be (RFC 2920)."""
        commands = [f"MAIL FROM:<{envelope.sender}>{self._mail_parameters(envelope, content)}"]
        commands += [f"RCPT TO:<{each.address}>{self._rcpt_parameters(each)}" for each in recipients]
        if "PIPELINING" in self._extensions:
            self._send("".join(f"{command}\r\n" for command in commands).encode())
            for command in commands:
                self._expect(self._reply(command), 2, command)
        else:
            for command in commands:
                self._command(command, 2)
        self._command("DATA", 3)
        self._in_doubt = True
        self._send(stuff(content))
        self._connection.settimeout(FINAL_REPLY_TIMEOUT)
        self._expect(self._reply("the message"), 2, "the message")
        self._in_doubt = False

    def quit(self) -> None:
        """The message is taken, whatever the goodbye is like."""
        with contextlib.suppress(Failure, Busy):
            self._command("QUIT", 2)

    def _mail_parameters(self, envelope: Envelope, content: bytes) -> str:
        parameters = ""
        if "SIZE" in self._extensions:
            parameters += f" SIZE={len(content)}"
        if "8BITMIME" in self._extensions:
            parameters += f" BODY={envelope.body}"
        if envelope.smtputf8:
            if "SMTPUTF8" not in self._extensions:
                raise Failure(Exit.DATA, f"{self._where} takes no address beyond ASCII")
            parameters += " SMTPUTF8"
        if "DSN" in self._extensions:
            parameters += f" RET={envelope.ret}" if envelope.ret else ""
            parameters += f" ENVID={envelope.envid}" if envelope.envid else ""
        return parameters

    def _rcpt_parameters(self, recipient: Recipient) -> str:
        return f" NOTIFY={recipient.notify}" if recipient.notify and "DSN" in self._extensions else ""

    def _command(self, command: str, expected: int) -> Reply:
        self._send(f"{command}\r\n".encode())
        return self._expect(self._reply(command), expected, command)

    def _send(self, octets: bytes) -> None:
        # Who closes early has said why, perhaps: the next reply tells.
        self._connection.settimeout(REPLY_TIMEOUT)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.sendall(octets)

    def _reply(self, to: str) -> Reply:
        while not self._replies:
            try:
                octets = self._connection.recv(65_536)
            except ConnectionResetError:
                octets = b""
            except OSError as error:
                raise Failure(Exit.TEMPORARY, f"{self._where}: {error.strerror or error}") from error
            if not octets:
                text = f"{self._where}: connection lost instead of a reply to {to}"
                # Where the content may have arrived, asking again could make two of it.
                raise Failure(Exit.TEMPORARY, text) if self._in_doubt else Busy(text)
            self._replies += self._reader.feed(octets)
            if self._reader.broken is not None and not self._replies:
                raise Failure(Exit.TEMPORARY, f"{self._where}: {self._reader.broken}") from ProtocolError()
        return self._replies.pop(0)

    def _expect(self, reply: Reply, first: int, to: str) -> Reply:
        if reply.code == 421:
            # RFC 5321 §3.8: it ends the session, and has not taken the message.
            raise Busy(f"{self._where}: {reply}")
        if reply.code // 100 != first:
            command = to.partition(" SIZE=")[0].partition(" BODY=")[0]
            raise Failure(exit_of(reply), f"{self._where} refused {command}: {reply}")
        return reply
