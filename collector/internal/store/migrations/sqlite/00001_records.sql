-- +goose Up

-- An account owns vehicles and stones. Its secret blinds its pseudonyms.
CREATE TABLE accounts (
    id     TEXT PRIMARY KEY,
    secret BLOB NOT NULL CHECK (length(secret) = 32)
) STRICT;

CREATE TABLE vehicles (
    id          TEXT PRIMARY KEY,
    account     TEXT NOT NULL REFERENCES accounts (id),
    device      BLOB NOT NULL UNIQUE CHECK (length(device) = 33),
    added_day   INTEGER NOT NULL,
    last_seen_s INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Sequence numbers are unsigned 64-bit numbers kept as their two's complement: they are compared for equality only.
CREATE TABLE ecu_keys (
    id              BLOB PRIMARY KEY CHECK (length(id) = 16),
    public          BLOB NOT NULL CHECK (length(public) = 33),
    vehicle         TEXT NOT NULL REFERENCES vehicles (id),
    head_seq        INTEGER NOT NULL,
    head_day        INTEGER NOT NULL,
    head_commitment BLOB NOT NULL CHECK (length(head_commitment) = 32),
    revoked         INTEGER NOT NULL DEFAULT 0 CHECK (revoked IN (0, 1))
) STRICT;
CREATE INDEX ecu_keys_vehicle ON ecu_keys (vehicle);

-- What the ledger shall hold, in the order of id. The settler alone gives numbers.
CREATE TABLE outbox (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    type     INTEGER NOT NULL,
    body     BLOB NOT NULL,
    number   INTEGER UNIQUE,
    appended INTEGER NOT NULL DEFAULT 0 CHECK (appended IN (0, 1))
) STRICT;

CREATE TABLE bindings (
    outbox_id       INTEGER PRIMARY KEY REFERENCES outbox (id),
    ecu             BLOB NOT NULL REFERENCES ecu_keys (id),
    vehicle         TEXT NOT NULL REFERENCES vehicles (id),
    account         TEXT NOT NULL REFERENCES accounts (id),
    head_seq        INTEGER NOT NULL,
    head_day        INTEGER NOT NULL,
    head_commitment BLOB NOT NULL CHECK (length(head_commitment) = 32),
    salt            BLOB NOT NULL CHECK (length(salt) = 32)
) STRICT;

-- The same bytes sent for another vehicle are another submission: nobody can have somebody else's claim refused by sending it first.
CREATE TABLE submissions (
    serial   INTEGER PRIMARY KEY AUTOINCREMENT,
    id       BLOB NOT NULL CHECK (length(id) = 32),
    vehicle  TEXT NOT NULL REFERENCES vehicles (id),
    kind     TEXT NOT NULL,
    accepted INTEGER NOT NULL CHECK (accepted IN (0, 1)),
    reason   TEXT NOT NULL,
    km       INTEGER NOT NULL,
    day      INTEGER NOT NULL,
    receipt  BLOB NOT NULL,
    original BLOB CHECK (length(original) = 32),
    pending  INTEGER NOT NULL CHECK (pending IN (0, 1)),
    UNIQUE (id, vehicle, kind)
) STRICT;
CREATE INDEX submissions_pending ON submissions (serial) WHERE pending = 1;

-- An accepted claim's span. Heads never move back, so that a key reaches each sequence number at most once.
CREATE TABLE spans (
    ecu             BLOB NOT NULL REFERENCES ecu_keys (id),
    to_seq          INTEGER NOT NULL,
    to_day          INTEGER NOT NULL,
    to_commitment   BLOB NOT NULL CHECK (length(to_commitment) = 32),
    from_seq        INTEGER NOT NULL,
    from_day        INTEGER NOT NULL,
    from_commitment BLOB NOT NULL CHECK (length(from_commitment) = 32),
    vehicle         TEXT NOT NULL REFERENCES vehicles (id),
    submission      BLOB NOT NULL CHECK (length(submission) = 32),
    PRIMARY KEY (ecu, to_seq)
) STRICT;

CREATE TABLE credits (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    account    TEXT NOT NULL REFERENCES accounts (id),
    vehicle    TEXT NOT NULL REFERENCES vehicles (id),
    ecu        BLOB NOT NULL,
    to_seq     INTEGER NOT NULL,
    policy     INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    km         INTEGER NOT NULL,
    effective  INTEGER NOT NULL,
    salt       BLOB NOT NULL CHECK (length(salt) = 32),
    submission BLOB NOT NULL CHECK (length(submission) = 32),
    outbox_id  INTEGER NOT NULL UNIQUE REFERENCES outbox (id),
    UNIQUE (ecu, to_seq, kind),
    FOREIGN KEY (ecu, to_seq) REFERENCES spans (ecu, to_seq)
) STRICT;
CREATE INDEX credits_effective ON credits (effective, account);

CREATE TABLE reports (
    serial     INTEGER PRIMARY KEY AUTOINCREMENT, -- readers resume behind the last they saw
    vehicle    TEXT NOT NULL REFERENCES vehicles (id),
    epoch      INTEGER NOT NULL,
    families   INTEGER NOT NULL,
    vector     BLOB NOT NULL,
    charter    BLOB NOT NULL CHECK (length(charter) = 32),
    submission BLOB NOT NULL CHECK (length(submission) = 32),
    UNIQUE (vehicle, epoch)
) STRICT;
CREATE INDEX reports_charter ON reports (charter, serial);

-- Every refusal, also of vehicles that have no row to hang a submission on.
CREATE TABLE refusals (
    kind   TEXT NOT NULL,
    reason TEXT NOT NULL,
    n      INTEGER NOT NULL,
    PRIMARY KEY (kind, reason)
) STRICT;

-- +goose Down
DROP TABLE refusals;
DROP TABLE reports;
DROP TABLE credits;
DROP TABLE spans;
DROP TABLE submissions;
DROP TABLE bindings;
DROP TABLE outbox;
DROP TABLE ecu_keys;
DROP TABLE vehicles;
DROP TABLE accounts;
