"""The mail log: every event as lines in Postfix's grammar, so that the tools which read Postfix's logs read ours."""

from __future__ import annotations

from relay.maillog.writer import MailLog

__all__ = ["MailLog"]
