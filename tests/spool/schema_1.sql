PRAGMA application_id = 1380273241;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'spool','0001_spool','2026-11-22 02:59:50.923142+00:00');
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
);
INSERT INTO "attempt" VALUES(1,28800000000001,1800000001000,'to@example.net','ses','ses[192.0.2.1]:25','deferred','2.0.0','451 4.3.0 later','0.1/0/0/0.2');
CREATE TABLE content (id INTEGER PRIMARY KEY, octets BLOB NOT NULL);
INSERT INTO "content" VALUES(117964800000000000,X'5375626A6563743A206772656574696E67730D0A0D0A2E00FF20636166C3A90D0A');
INSERT INTO "content" VALUES(117964800000004096,X'5375626A6563743A206772656574696E67730D0A0D0A2E00FF20636166C3A90D0A');
INSERT INTO "content" VALUES(117964800000012288,X'5375626A6563743A206772656574696E67730D0A0D0A2E00FF20636166C3A90D0A');
INSERT INTO "content" VALUES(117964800000016384,X'7374726179');
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
);
INSERT INTO "message" VALUES(28800000000000,1800000000123,'',33,'8BITMIME',1,'HDRS','x+3Dy','<rich@example.com>','localhost[::1]',2,1,NULL);
INSERT INTO "message" VALUES(28800000000001,1800000000000,'app@example.com',33,'7BIT',0,NULL,NULL,'<28800000000001@example.com>','localhost[127.0.0.1]',1,1,NULL);
INSERT INTO "message" VALUES(28800000000002,1800000000000,'app@example.com',33,'7BIT',0,NULL,NULL,'<28800000000002@example.com>','localhost[127.0.0.1]',1,1,NULL);
INSERT INTO "message" VALUES(28800000000003,1800000000000,'app@example.com',33,'7BIT',0,NULL,NULL,'<28800000000003@example.com>','localhost[127.0.0.1]',1,1,NULL);
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
) WITHOUT ROWID;
INSERT INTO "recipient" VALUES(28800000000000,0,'a@example.net','SUCCESS,FAILURE','rfc822;a+2Bx@example.net','waiting',1800000000123,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "recipient" VALUES(28800000000000,1,'bücher@example.net','NEVER',NULL,'waiting',1800000000123,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "recipient" VALUES(28800000000001,0,'to@example.net',NULL,NULL,'waiting',1800000060000,1,'ses','ses[192.0.2.1]:25','deferred','2.0.0','451 4.3.0 later','0.1/0/0/0.2',1800000001000);
INSERT INTO "recipient" VALUES(28800000000002,0,'to@example.net',NULL,NULL,'relayed',NULL,1,'ses','ses[192.0.2.1]:25','sent','2.0.0','250 2.0.0 Ok','0.1/0/0/0.2',1800000001000);
INSERT INTO "recipient" VALUES(28800000000003,0,'to@example.net',NULL,NULL,'leased',1800000000000,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE sent (upstream TEXT PRIMARY KEY, messages INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "sent" VALUES('ses',1);
CREATE TABLE staging (message INTEGER PRIMARY KEY);
INSERT INTO "staging" VALUES(28800000000004);
CREATE TABLE totals (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    messages INTEGER NOT NULL,           -- open messages
    octets   INTEGER NOT NULL,           -- of their content
    last     INTEGER NOT NULL            -- highest queue number ever accepted
);
INSERT INTO "totals" VALUES(1,3,99,28800000000003);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX recipient_open ON recipient (state, due) WHERE due IS NOT NULL;
CREATE INDEX attempt_message ON attempt (message);
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
WHERE recipient.due IS NOT NULL;
CREATE VIEW history AS                   -- every attempt that is known
SELECT printf('%X', message) AS id, strftime('%Y-%m-%d %H:%M:%SZ', at / 1000, 'unixepoch') AS at,
       address AS recipient, upstream, relay, status, dsn, detail, delays
FROM attempt
UNION ALL
SELECT printf('%X', message), strftime('%Y-%m-%d %H:%M:%SZ', at / 1000, 'unixepoch'),
       address, upstream, relay, status, dsn, detail, delays
FROM recipient WHERE due IS NULL;
COMMIT;
