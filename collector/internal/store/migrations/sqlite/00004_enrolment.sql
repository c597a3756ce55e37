-- +goose NO TRANSACTION
-- +goose Up

-- SQLite cannot make a column nullable but by a new table, nor a new table in the place of one that others refer to while it checks
-- references. After a crash behind COMMIT, the same once more changes nothing.
PRAGMA foreign_keys = OFF;
BEGIN IMMEDIATE;

DROP TABLE IF EXISTS vehicles_next;
CREATE TABLE vehicles_next (
    id                  TEXT PRIMARY KEY,
    account             TEXT NOT NULL REFERENCES accounts (id),
    -- NULL until the vehicle enrols.
    device              BLOB UNIQUE CHECK (length(device) = 33),
    added_day           INTEGER NOT NULL,
    last_seen_s         INTEGER NOT NULL DEFAULT 0,
    -- SHA-256 of the token that is good for one enrolment; NULL when there is none.
    token_hash          BLOB CHECK (length(token_hash) = 32),
    token_expires_s     INTEGER NOT NULL DEFAULT 0,
    -- When the last client certificate ends; 0 before there was any.
    certificate_until_s INTEGER NOT NULL DEFAULT 0,
    revoked             INTEGER NOT NULL DEFAULT 0 CHECK (revoked IN (0, 1)),
    -- Number of the last change of who may connect, over all vehicles: they have different ones.
    changed             INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO vehicles_next (id, account, device, added_day, last_seen_s) SELECT id, account, device, added_day, last_seen_s FROM vehicles;
DROP TABLE vehicles;
ALTER TABLE vehicles_next RENAME TO vehicles;
CREATE UNIQUE INDEX vehicles_changed ON vehicles (changed) WHERE changed > 0;

COMMIT;
PRAGMA foreign_keys = ON;

-- +goose Down
PRAGMA foreign_keys = OFF;
BEGIN IMMEDIATE;
CREATE TABLE vehicles_before (
    id          TEXT PRIMARY KEY,
    account     TEXT NOT NULL REFERENCES accounts (id),
    device      BLOB NOT NULL UNIQUE CHECK (length(device) = 33),
    added_day   INTEGER NOT NULL,
    last_seen_s INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO vehicles_before SELECT id, account, device, added_day, last_seen_s FROM vehicles;
DROP TABLE vehicles;
ALTER TABLE vehicles_before RENAME TO vehicles;
COMMIT;
PRAGMA foreign_keys = ON;
