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

SCHEMA_VERSION: Final = 10
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

# What delivery must not forget between the attempts: content begun (in doubt), a delay that the sender was told of.
_OUTCOMES: Final = (
    "ALTER TABLE recipient ADD COLUMN begun TEXT",
    "ALTER TABLE recipient ADD COLUMN warned INTEGER",
)

_SIGNATURE: Final = """
CREATE TABLE signature (                 -- our DKIM signatures of a message; they go with its content
    message   INTEGER PRIMARY KEY,
    fields    BLOB NOT NULL,             -- DKIM-Signature fields, as they go before the content
    profile   TEXT NOT NULL,             -- what kind of upstream they were made for
    body_hash TEXT NOT NULL              -- its canonicalisation, a colon, the hash
)"""

# 12 bits: CONTENT_SHIFT. The first part stands for all.
_SIGNATURE_GONE: Final = """
CREATE TRIGGER signature_gone AFTER DELETE ON content WHEN old.id & 4095 = 0
BEGIN DELETE FROM signature WHERE message = old.id >> 12; END"""

_SIGNATURES: Final = (_SIGNATURE, _SIGNATURE_GONE)

_QUOTA: Final = """
CREATE TABLE quota (                     -- an upstream's limits, as of the last write
    upstream TEXT    PRIMARY KEY,
    boot     TEXT    NOT NULL,           -- the boot whose clock "at" and the buckets are of
    at       REAL    NOT NULL,           -- seconds since that boot
    wall     INTEGER NOT NULL,
    granted  INTEGER NOT NULL CHECK (granted >= 0) -- permits that may have been used since
) WITHOUT ROWID"""

_QUOTA_USE: Final = """
CREATE TABLE quota_use (
    upstream TEXT    NOT NULL,
    window   INTEGER NOT NULL,           -- milliseconds
    bucket   INTEGER NOT NULL,           -- of a thousandth of the window, counted from the boot
    used     INTEGER NOT NULL CHECK (used > 0),
    PRIMARY KEY (upstream, window, bucket)
) WITHOUT ROWID"""

# 1 bit: the kind. Rows come in the order of their numbers; digests have no order and cost a page each, where asked for.
_IMPRINT: Final = """
CREATE TABLE imprint (                   -- by what messages are known when they come again
    id       INTEGER PRIMARY KEY,        -- message * 2, plus 1 for an Idempotency-Key
    digest   BLOB    NOT NULL UNIQUE,
    until    INTEGER NOT NULL,           -- from then on another message
    repeated INTEGER NOT NULL DEFAULT 0, -- how often it came again
    last     INTEGER                     -- and when last
)"""

_LEARNED: Final = """
CREATE TABLE learned (                   -- what an upstream was found to bear, where it is less than configured
    upstream       TEXT    PRIMARY KEY,
    rate           REAL,                 -- units a second that were too fast; NULL: none was
    span           REAL    NOT NULL,     -- seconds in use until it is tried again
    since          INTEGER NOT NULL,
    reason         TEXT    NOT NULL,
    connections    INTEGER,              -- more were too many; NULL: none were
    patience       REAL    NOT NULL,     -- seconds until one more is tried
    crowded        INTEGER NOT NULL,
    crowded_reason TEXT    NOT NULL,
    CHECK (rate IS NOT NULL OR connections IS NOT NULL)
) WITHOUT ROWID"""

_BRAKE: Final = """
CREATE TABLE brake (                     -- bulk mail of these is held until an operator releases it
    kind   TEXT    NOT NULL CHECK (kind IN ('upstream', 'sender', 'tag')),
    name   TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    reason TEXT    NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID"""

_LOGIN: Final = """
CREATE TABLE login (                     -- the last logins that an upstream refused: too many lock an account
    upstream TEXT    NOT NULL,
    n        INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (upstream, n)
) WITHOUT ROWID"""


# Whose turn a recipient has: rank of the priority and digest of source and way (delivery/turns.py). What is handed over
# in memory is never in the index, so that accepting pays nothing for it.
_ROUTES: Final = (
    "ALTER TABLE message ADD COLUMN marks TEXT",  # what the door saw of the routes' conditions, a line each
    "ALTER TABLE recipient ADD COLUMN turn INTEGER NOT NULL DEFAULT 4294967296",
    "CREATE INDEX recipient_waiting ON recipient (turn, due) WHERE state = 'waiting'",
    "ALTER TABLE quota ADD COLUMN held INTEGER NOT NULL DEFAULT 0",  # days that the warm-up did not grow
)

_SUPPRESSION: Final = """
CREATE TABLE suppression (               -- addresses that get no mail
    id      INTEGER PRIMARY KEY,         -- in the order they came
    digest  INTEGER NOT NULL UNIQUE,     -- of the address in lower case: what memory holds
    address TEXT    NOT NULL,
    cause   TEXT    NOT NULL CHECK (cause IN ('bounce', 'complaint', 'operator')),
    at      INTEGER NOT NULL,
    until   INTEGER,                     -- NULL: until it is removed
    detail  TEXT    NOT NULL
)"""

# One more state: what an unchanged file may hold it may hold still, so only the words of the constraint are to be
# replaced (sqlite.org/lang_altertable.html §7: no rewriting of millions of rows).
_STATES: Final = "'relayed', 'failed')"
_MORE_STATES: Final = "'relayed', 'failed', 'suppressed')"
_RESTATED: Final = "UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = 'recipient'"


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

    @migrations(name="0003_quota")
    def _third(database: Database) -> None:
        for statement in (_QUOTA, _QUOTA_USE):
            database.execute(statement)
        database.execute("PRAGMA user_version = 3")

    @migrations(name="0004_signatures")
    def _fourth(database: Database) -> None:
        for statement in _SIGNATURES:
            database.execute(statement)
        database.execute("PRAGMA user_version = 4")

    @migrations(name="0005_outcomes")
    def _fifth(database: Database) -> None:
        for statement in _OUTCOMES:
            database.execute(statement)
        database.execute("PRAGMA user_version = 5")

    @migrations(name="0006_routes")
    def _sixth(database: Database) -> None:
        for statement in _ROUTES:
            database.execute(statement)
        (version,) = database.execute("PRAGMA user_version").fetchone()
        database.execute(f"PRAGMA user_version = {max(version, 6)}")

    @migrations(name="0007_dedupe")
    def _seventh(database: Database) -> None:
        database.execute(_IMPRINT)
        database.execute("PRAGMA user_version = 7")

    @migrations(name="0008_learned")
    def _eighth(database: Database) -> None:
        database.execute(_LEARNED)
        database.execute(_BRAKE)
        database.execute("PRAGMA user_version = 8")

    @migrations(name="0009_logins")
    def _ninth(database: Database) -> None:
        database.execute(_LOGIN)
        database.execute("PRAGMA user_version = 9")

    @migrations(name="0010_suppression")
    def _tenth(database: Database) -> None:
        database.execute(_SUPPRESSION)
        (cookie,) = database.execute("PRAGMA schema_version").fetchone()
        database.execute("PRAGMA writable_schema = ON")
        try:
            database.execute(_RESTATED, (_STATES, _MORE_STATES))
            database.execute(f"PRAGMA schema_version = {cookie + 1}")
        finally:
            database.execute("PRAGMA writable_schema = RESET")
        database.execute("PRAGMA user_version = 10")

    migrations.apply(Database(connection, recursive_triggers=False))
