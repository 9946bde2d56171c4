"""``PRAGMA integrity_check`` over a connection that only reads: a running relay goes on beside it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relay.spool import SpoolBroken, SpoolDamaged
from relay.spool.errors import translate
from relay.spool.library import sqlite3
from relay.spool.opening import BUSY_TIMEOUT, check_header

_MOST: Final = 20
"""Faults that are told of."""


@dataclass(frozen=True, slots=True)
class Examined:
    """A sound spool: octets of its file, open messages, schema."""

    size: int
    messages: int
    schema: int


def examine(spool: Path) -> Examined | None:
    """Read all of the spool; None where there is none yet.

    Raises SpoolDamaged with SQLite's own words, or another SpoolError where it can't be read now.
    """
    if not spool.exists():
        return None
    try:
        with spool.open("rb") as file:
            check_header(spool, file.read(100))
        with closing(sqlite3.connect(f"{spool.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT)) as reader:
            faults = [row[0] for row in reader.execute(f"PRAGMA integrity_check({_MOST})")]
            if faults != ["ok"]:
                raise SpoolDamaged(f"{spool} is damaged: {'; '.join(faults)}")
            (messages,) = reader.execute("SELECT messages FROM totals").fetchone()
            (schema,) = reader.execute("PRAGMA user_version").fetchone()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        failure = translate(error)
        raise SpoolDamaged(f"{spool}: {error}") if isinstance(failure, SpoolBroken) else failure from error
    return Examined(spool.stat().st_size, messages, schema)
