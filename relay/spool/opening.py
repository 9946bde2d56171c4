"""Opening a spool: the folder, the file, the connection, the schema, and what an ended process left behind.

Nothing is overwritten: a file that is not ours, is damaged or of a later release raises SpoolDamaged and stays.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relay.spool import SpoolBroken, SpoolDamaged, SpoolError
from relay.spool.accepting import sweep_staging
from relay.spool.errors import SQLITE_ERROR, result_code, translate
from relay.spool.guarding import FLAGS, flaw, flaw_of_sides, make_private
from relay.spool.library import sqlite3
from relay.spool.schema import APPLICATION_ID, SCHEMA_VERSION, migrate

BUSY_TIMEOUT: Final = 2.0
"""Seconds to wait for a lock that another program holds (a person at the sqlite3 shell): then 451."""

_CHECKED_SIZE: Final = 32 * 1024 * 1024
"""Octets up to which a file is checked whole at start: PRAGMA quick_check reads all of it."""

_log = logging.getLogger(__name__)

_PAGE_SIZE: Final = 4096
_HEADER: Final = 100
_MAGIC: Final = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True)
class Opened:
    """A spool that is ready: its writing connection and the sums as of now."""

    path: Path
    connection: sqlite3.Connection
    messages: int
    octets: int
    last: int
    sent: dict[str, int]


def make_folder(name: str) -> Path:
    """Make the spool's folder, for its owner alone, where there is none; the spool's absolute path.

    Warns where others may write to it. Raises SpoolError.
    """
    spool = Path(name).absolute()
    try:
        if not spool.parent.is_dir():
            spool.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            spool.parent.chmod(0o700)
        elif spool.parent.stat().st_mode & 0o022:
            # Who may write there can put another file in the spool's place, or a link in the ballast's.
            _log.warning("others may write to %s: the folder of the spool should be its owner's alone", spool.parent)
    except OSError as error:
        raise SpoolError(f"{error.filename}: {error.strerror}") from error
    return spool


def open_database(spool: Path, fault: Callable[[str], None] | None = None) -> Opened:
    """Open ``spool`` for writing, made or migrated where needed. Called in the thread that will use the connection.

    Raises SpoolDamaged, SpoolFull, SpoolBroken or SpoolError; the connection is closed then.
    """
    _prepare_file(spool)
    connection = None
    try:
        connection = sqlite3.connect(spool, timeout=BUSY_TIMEOUT, isolation_level=None, cached_statements=512)
        _configure(connection, spool)
        if connection.execute("PRAGMA user_version").fetchone()[0] < SCHEMA_VERSION:
            migrate(connection)
        sweep_staging(connection, fault)
        return _load(spool, connection)
    except (sqlite3.Error, SpoolError, UnicodeDecodeError) as error:
        if connection is not None:
            connection.close()
        failure = translate(error)
        if isinstance(failure, SpoolBroken) or result_code(error) == SQLITE_ERROR:
            # What can't be read at start is damage, our own statements being errors where a name in its schema changed:
            # keep the file, let people look (sqlite3's .recover).
            what = error if isinstance(error, sqlite3.Error) else failure
            raise SpoolDamaged(f"{spool}: {what}") from error
        raise failure from error


def open_reader(spool: Path) -> sqlite3.Connection:
    """A connection that can't write, checkpoint or migrate: for reading beside the writer (SQLite's WAL-reset bug)."""
    connection = sqlite3.connect(f"{spool.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT)
    connection.isolation_level = None
    connection.execute("PRAGMA query_only = 1")
    connection.execute("PRAGMA cache_size = -1024")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _prepare_file(spool: Path) -> None:
    """Make the file, or see that it is one of ours, and mode 0600.

    The descriptor is closed before SQLite opens the file: closing it later would drop SQLite's POSIX locks.
    """
    try:
        descriptor = os.open(spool, FLAGS | os.O_CREAT, 0o600)
    except OSError as error:
        raise SpoolDamaged(f"{spool}: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        # Under a second name the write-ahead log would be lost too.
        found = flaw(spool, status)
        if found is not None:
            raise SpoolDamaged(found)
        header = os.pread(descriptor, _HEADER, 0)
        if header and not (status.st_size <= _PAGE_SIZE and _is_nameless(header)):
            check_header(spool, header)
        make_private(descriptor, status)  # SQLite gives the same mode to -wal and -shm
    finally:
        os.close(descriptor)
    try:
        beside = flaw_of_sides(spool)
    except OSError as error:
        raise SpoolDamaged(f"{error.filename}: {error.strerror}") from error
    if beside is not None:
        raise SpoolDamaged(beside)
    if not status.st_size:
        folder = os.open(spool.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _is_nameless(header: bytes) -> bool:
    """Whether it is of a database of nobody: SQLite writes the first page before the name is on it, and a kill or a
    power cut at that moment leaves it so. :func:`_configure` sees whether it is as empty as it looks.
    """
    return header.startswith(_MAGIC) and header[68:72] == bytes(4)


def check_header(spool: Path, header: bytes) -> None:
    """The database header (sqlite.org/fileformat2.html §1.3): application_id stands at octet 68."""
    if len(header) < _HEADER or not header.startswith(_MAGIC):
        raise SpoolDamaged(f"{spool} is not a database")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise SpoolDamaged(f"{spool} is a database, but not a relay's spool")


def _configure(connection: sqlite3.Connection, spool: Path) -> None:
    execute = connection.execute
    # Asked of SQLite, not of the file: it rolls back what was half done, the file's name included.
    fresh = not execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if not fresh and execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise SpoolDamaged(f"{spool} is a database, but not a relay's spool")
    if fresh:
        execute(f"PRAGMA page_size = {_PAGE_SIZE}")
        # So that a full disk can get back what a backlog took; to be said before the first table.
        execute("PRAGMA auto_vacuum = INCREMENTAL")
        # Before the first table and before WAL: so the file is ours from its first octet on.
        execute(f"PRAGMA application_id = {APPLICATION_ID}")
    version = execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise SpoolDamaged(f"{spool} is of a later release (schema {version}, known up to {SCHEMA_VERSION})")
    if not fresh and spool.stat().st_size <= _CHECKED_SIZE:
        found = execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise SpoolDamaged(f"{spool} is damaged: {found}")
    if execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise SpoolError(f"{spool}: no write-ahead log here; a network file system?")
    execute("PRAGMA synchronous = FULL")
    # macOS: fsync alone leaves the drive's cache (sqlite.org/pragma.html#pragma_fullfsync); elsewhere without effect.
    execute("PRAGMA fullfsync = 1")
    execute("PRAGMA checkpoint_fullfsync = 1")
    # Debian builds SQLite to overwrite what is deleted, which would write each content a third time; FAST overwrites
    # where a page is written anyway. The file is its owner's alone.
    execute("PRAGMA secure_delete = FAST")
    execute("PRAGMA wal_autocheckpoint = 0")
    execute("PRAGMA temp_store = MEMORY")
    execute("PRAGMA cache_size = -8192")
    execute("PRAGMA foreign_keys = OFF")


def _load(spool: Path, connection: sqlite3.Connection) -> Opened:
    messages, octets, last = connection.execute("SELECT messages, octets, last FROM totals").fetchone()
    highest = connection.execute("SELECT max(id) FROM message").fetchone()[0] or 0
    sent = dict(connection.execute("SELECT upstream, messages FROM sent").fetchall())
    return Opened(spool, connection, messages, octets, max(last, highest), sent)
