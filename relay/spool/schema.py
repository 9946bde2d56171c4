"""The spool's tables: what a new file gets, and how an older one becomes the current one.

CHECK constraints spell the state machine of docs/spool.md, so that no bug of ours and no hand at the sqlite3 shell
can leave it. sqlite-utils' migrations do the changes; it is imported only when there is one to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from relay.spool.library import sqlite3

if TYPE_CHECKING:
    from sqlite_utils import Database

APPLICATION_ID: Final = 0x52454C59
"""``RELY`` in the file's header (sqlite.org/fileformat2.html §1.2.8): this file is a spool of ours."""

SCHEMA_VERSION: Final = 2
"""``PRAGMA user_version`` of the schema below; a later one belongs to a later release and is refused."""

CONTENT_SHIFT: Final = 12
"""A content row's id is the message's number shifted by this many bits, plus the part: 4,096 parts of 256 KB."""

_MESSAGE: Final = """
CREATE TABLE message (
    id         INTEGER PRIMARY KEY,      -- the queue number; printf('%X', id) is the queue id
    arrived    INTEGER NOT NULL,         -- Unix milliseconds, as every time here
    sender     TEXT    NOT NULL,         -- '' is the null reverse-path
    size       INTEGER NOT NULL,         -- octets kept
    body       TEXT    NOT NULL CHECK (body IN ('7BIT', '8BITMIME')),
    smtputf8   INTEGER NOT NULL CHECK (smtputf8 IN (0, 1)),
    ret        TEXT,
    envid      TEXT,
    message_id TEXT    NOT NULL,
    client     TEXT    NOT NULL,
    nrcpt      INTEGER NOT NULL CHECK (nrcpt > 0),
    parts      INTEGER NOT NULL CHECK (parts BETWEEN 1 AND 4096),
    bounce_of  TEXT                      -- the queue id whose failure this message reports
)"""

_RECIPIENT: Final = """
CREATE TABLE recipient (
    message  INTEGER NOT NULL,
    n        INTEGER NOT NULL,
    address  TEXT    NOT NULL,
    notify   TEXT,
    orcpt    TEXT,
    state    TEXT    NOT NULL CHECK (state IN ('waiting', 'leased', 'held', 'relayed', 'failed')),
    due      INTEGER,                    -- NULL once it is done
    attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    upstream TEXT,                       -- from here on: what the last attempt said
    relay    TEXT,
    status   TEXT,
    dsn      TEXT,
    detail   TEXT,
    delays   TEXT,
    at       INTEGER,
    PRIMARY KEY (message, n),
    CHECK ((state IN ('waiting', 'leased', 'held')) = (due IS NOT NULL))
) WITHOUT ROWID"""

# One index over what is open serves claims, rescues, counts and lists. Done recipients are not in it.
_OPEN: Final = "CREATE INDEX recipient_open ON recipient (state, due) WHERE due IS NOT NULL"

_CONTENT: Final = "CREATE TABLE content (id INTEGER PRIMARY KEY, octets BLOB NOT NULL)"

_STAGING: Final = "CREATE TABLE staging (message INTEGER PRIMARY KEY)"

_ATTEMPT: Final = """
CREATE TABLE attempt (                   -- attempts that were not the last: those stand in recipient
    id       INTEGER PRIMARY KEY,
    message  INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    address  TEXT    NOT NULL,
    upstream TEXT    NOT NULL,
    relay    TEXT    NOT NULL,
    status   TEXT    NOT NULL,
    dsn      TEXT    NOT NULL,
    detail   TEXT    NOT NULL,
    delays   TEXT    NOT NULL
)"""

_ATTEMPT_MESSAGE: Final = "CREATE INDEX attempt_message ON attempt (message)"

_TOTALS: Final = """
CREATE TABLE totals (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    messages INTEGER NOT NULL,           -- open messages
    octets   INTEGER NOT NULL,           -- of their content
    last     INTEGER NOT NULL            -- highest queue number ever accepted
)"""

_TOTALS_ROW: Final = "INSERT INTO totals VALUES (1, 0, 0, 0)"

_SENT: Final = "CREATE TABLE sent (upstream TEXT PRIMARY KEY, messages INTEGER NOT NULL) WITHOUT ROWID"

_QUEUE_VIEW: Final = """
CREATE VIEW queue AS                     -- for people: SELECT * FROM queue
SELECT printf('%X', message.id) AS id,
       strftime('%Y-%m-%d %H:%M:%SZ', message.arrived / 1000, 'unixepoch') AS arrived,
       message.size AS size,
       CASE message.sender WHEN '' THEN '<>' ELSE message.sender END AS sender,
       recipient.address AS recipient,
       CASE WHEN recipient.state = 'waiting' AND recipient.due > CAST(strftime('%s', 'now') AS INTEGER) * 1000
            THEN 'deferred' ELSE recipient.state END AS state,
       recipient.attempts AS attempts,
       strftime('%Y-%m-%d %H:%M:%SZ', recipient.due / 1000, 'unixepoch') AS due,
       recipient.upstream AS upstream,
       recipient.detail AS last_reply
FROM recipient JOIN message ON message.id = recipient.message
WHERE recipient.due IS NOT NULL"""

_HISTORY_VIEW: Final = """
CREATE VIEW history AS                   -- every attempt that is known
SELECT printf('%X', message) AS id, strftime('%Y-%m-%d %H:%M:%SZ', at / 1000, 'unixepoch') AS at,
       address AS recipient, upstream, relay, status, dsn, detail, delays
FROM attempt
UNION ALL
SELECT printf('%X', message), strftime('%Y-%m-%d %H:%M:%SZ', at / 1000, 'unixepoch'),
       address, upstream, relay, status, dsn, detail, delays
FROM recipient WHERE due IS NULL"""

_FIRST: Final = (
    _MESSAGE,
    _RECIPIENT,
    _OPEN,
    _CONTENT,
    _STAGING,
    _ATTEMPT,
    _ATTEMPT_MESSAGE,
    _TOTALS,
    _TOTALS_ROW,
    _SENT,
    _QUEUE_VIEW,
    _HISTORY_VIEW,
)

_PRIORITY: Final = """
ALTER TABLE message ADD COLUMN priority TEXT NOT NULL DEFAULT 'normal'
    CHECK (priority IN ('urgent', 'normal', 'bulk'))"""

# What an application asked for in the header (docs/operations.md).
_CONTROLS: Final = (
    "ALTER TABLE message ADD COLUMN not_after INTEGER",
    "ALTER TABLE message ADD COLUMN upstream_wanted TEXT",
    _PRIORITY,
    "ALTER TABLE message ADD COLUMN tag TEXT",
    "ALTER TABLE message ADD COLUMN idempotency_key TEXT",
)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to SCHEMA_VERSION, each step in its own transaction; raises sqlite3.Error."""
    from sqlite_utils import Database, Migrations

    migrations = Migrations("spool")

    @migrations(name="0001_spool")
    def _first(database: Database) -> None:
        for statement in _FIRST:
            database.execute(statement)
        database.execute("PRAGMA user_version = 1")

    @migrations(name="0002_controls")
    def _second(database: Database) -> None:
        for statement in _CONTROLS:
            database.execute(statement)
        database.execute("PRAGMA user_version = 2")

    migrations.apply(Database(connection, recursive_triggers=False))
