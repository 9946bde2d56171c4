"""``relay-sendmail``, in the place of /usr/sbin/sendmail; called as ``mailq`` it lists the queue.

A message on standard input goes to the first listener by SMTP; while no relay runs, straight into its spool where this
user may write there, else the caller is told to try later (75). Exit 0 means that the message is kept for all its
recipients; anything else, that it is for none (for more recipients than a listener takes at once: see ``submission``).

``arguments`` reads the command line, ``message`` and ``addresses`` what stands in the input, ``door`` where to submit;
``submission``, ``spooling`` and ``proxy`` are the ways in. What a plain submission does not need it does not import.
"""

from __future__ import annotations

from relay.sendmail.program import main

__all__ = ["main"]
