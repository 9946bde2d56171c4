"""The header block of a submitted message: bytes in, bytes out (RFC 5322 §2.2, RFC 6409 §8).

What a submission server does to it and no more: a Received line on top (RFC 5321 §4.4), Message-ID, Date and From
where they are missing, Bcc lines away, the fields that speak to the relay taken out and understood, an empty line where
a line that is no field ends the header. The body and all other fields stay byte for byte. Nothing else is parsed deeper
than lines and field names; the time is linear in the header's length.

``scanning`` finds fields, ``stamping`` mends and stamps, ``trace`` writes and knows our own Received line, ``controls``
reads what the application asks for, ``dates`` spells and reads dates.
"""

from __future__ import annotations

from relay.headers.controls import NO_CONTROLS, Controls
from relay.headers.dates import date_time
from relay.headers.scanning import header_end, values_of
from relay.headers.stamping import MAX_HEADER, Stamped, stamp
from relay.headers.trace import Trace

__all__ = ["MAX_HEADER", "NO_CONTROLS", "Controls", "Stamped", "Trace", "date_time", "header_end", "stamp", "values_of"]
