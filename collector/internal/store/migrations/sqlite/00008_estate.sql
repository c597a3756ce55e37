-- +goose Up

-- What an account is: the last row says it. An account without one has no key yet. activated is the program day, 0 for not yet, and day
-- the one of the change.
CREATE TABLE account_changes (
    outbox_id INTEGER PRIMARY KEY REFERENCES outbox (id),
    salt      BLOB NOT NULL CHECK (length(salt) = 32),
    account   TEXT NOT NULL REFERENCES accounts (id),
    key       BLOB NOT NULL CHECK (length(key) = 33),
    activated INTEGER NOT NULL CHECK (activated >= 0),
    day       INTEGER NOT NULL
) STRICT;
CREATE INDEX account_changes_account ON account_changes (account, outbox_id);

-- Crystals that an account was given.
CREATE TABLE grants (
    outbox_id INTEGER PRIMARY KEY REFERENCES outbox (id),
    salt      BLOB NOT NULL CHECK (length(salt) = 32),
    account   TEXT NOT NULL REFERENCES accounts (id),
    task      TEXT NOT NULL,
    reference BLOB NOT NULL CHECK (length(reference) = 32),
    crystals  INTEGER NOT NULL CHECK (crystals > 0),
    day       INTEGER NOT NULL,
    UNIQUE (account, task, reference)
) STRICT;
CREATE INDEX grants_account ON grants (account, outbox_id);
CREATE INDEX grants_reference ON grants (account, reference, outbox_id);

-- Mine boxes that owners asked for. worst and back are the most that one may hold, in milli-stones and in crystals; what it held is NULL until
-- the second block after the request opens it. goods is empty for none.
CREATE TABLE boxes (
    outbox_id   INTEGER PRIMARY KEY REFERENCES outbox (id),
    salt        BLOB NOT NULL CHECK (length(salt) = 32),
    account     TEXT NOT NULL REFERENCES accounts (id),
    day         INTEGER NOT NULL,
    offers      INTEGER NOT NULL,
    box         TEXT NOT NULL,
    owner       INTEGER NOT NULL CHECK (owner IN (0, 1)),
    request     BLOB NOT NULL,
    request_id  BLOB NOT NULL UNIQUE CHECK (length(request_id) = 32),
    cost        INTEGER NOT NULL CHECK (cost > 0),
    worst       INTEGER NOT NULL CHECK (worst >= 0),
    back        INTEGER NOT NULL CHECK (back >= 0),
    milli       INTEGER CHECK (milli BETWEEN 0 AND worst),
    crystals    INTEGER CHECK (crystals BETWEEN 0 AND back),
    goods       TEXT,
    opened_drop INTEGER,
    CHECK ((opened_drop IS NULL) = (milli IS NULL) AND (opened_drop IS NULL) = (crystals IS NULL) AND (opened_drop IS NULL) = (goods IS NULL))
) STRICT;
CREATE INDEX boxes_account ON boxes (account, outbox_id);
CREATE INDEX boxes_closed ON boxes (outbox_id) WHERE opened_drop IS NULL;

-- Stones that owners used, milli milli-stones and fen of money each.
CREATE TABLE redemptions (
    outbox_id  INTEGER PRIMARY KEY REFERENCES outbox (id),
    salt       BLOB NOT NULL CHECK (length(salt) = 32),
    account    TEXT NOT NULL REFERENCES accounts (id),
    day        INTEGER NOT NULL,
    offers     INTEGER NOT NULL,
    item       TEXT NOT NULL,
    milli      INTEGER NOT NULL CHECK (milli > 0),
    fen        INTEGER NOT NULL CHECK (fen >= 0),
    request    BLOB NOT NULL,
    request_id BLOB NOT NULL UNIQUE CHECK (length(request_id) = 32)
) STRICT;
CREATE INDEX redemptions_account ON redemptions (account, outbox_id);

-- Crystals that accounts have, those of boxes that are not open left out.
CREATE TABLE crystals (
    account TEXT PRIMARY KEY REFERENCES accounts (id),
    amount  INTEGER NOT NULL CHECK (amount BETWEEN 0 AND 4294967295)
) STRICT;

-- Milli-stones of the cultivation pool: given by boxes, and what boxes that are not open may give at most.
CREATE TABLE pool (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    issued   INTEGER NOT NULL CHECK (issued >= 0),
    reserved INTEGER NOT NULL CHECK (reserved >= 0),
    CHECK (issued + reserved <= 90000000000)
) STRICT;
INSERT INTO pool (id, issued, reserved) VALUES (1, 0, 0);

-- What was answered to a client's request under a key of its own choice.
CREATE TABLE idempotency (
    client       TEXT NOT NULL,
    key          TEXT NOT NULL,
    request_hash BLOB NOT NULL CHECK (length(request_hash) = 32),
    status       INTEGER NOT NULL,
    body         BLOB NOT NULL,
    created_day  INTEGER NOT NULL,
    PRIMARY KEY (client, key)
) STRICT;
CREATE INDEX idempotency_day ON idempotency (created_day);
CREATE INDEX idempotency_refusals ON idempotency (client, created_day) WHERE status >= 400;

CREATE INDEX bindings_open_account ON bindings (account) WHERE closed = 0;
CREATE INDEX bindings_account ON bindings (account, ecu);
CREATE INDEX credits_account ON credits (account, outbox_id);

-- The blind of a credit's entry, by which grants name it. An entry's body is the map of ledger.Credit in deterministic CBOR, of which it is the
-- first value: after a3 00 58 20.
ALTER TABLE credits ADD COLUMN blind BLOB NOT NULL DEFAULT x'0000000000000000000000000000000000000000000000000000000000000000' CHECK (length(blind) = 32);
UPDATE credits SET blind = substr(o.body, 5, 32) FROM outbox o WHERE o.id = credits.outbox_id AND substr(o.body, 1, 4) = x'a3005820' AND length(o.body) > 36;
CREATE INDEX credits_kind ON credits (account, kind, outbox_id);

-- The ECU's signature of the snapshot that is the first head, which the entry's opening shows; zeros for bindings from before it was asked for.
ALTER TABLE bindings ADD COLUMN first_signature BLOB NOT NULL
    DEFAULT x'00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000'
    CHECK (length(first_signature) = 64);

-- Why the settler set an entry aside: it gets no number, ever.
ALTER TABLE outbox ADD COLUMN refused TEXT CHECK (refused IS NULL OR number IS NULL);
CREATE INDEX outbox_waiting ON outbox (id) WHERE number IS NULL AND refused IS NULL;
CREATE INDEX outbox_refused ON outbox (id) WHERE refused IS NOT NULL;

-- +goose Down
DROP INDEX outbox_refused;
DROP INDEX outbox_waiting;
ALTER TABLE outbox DROP COLUMN refused;
ALTER TABLE bindings DROP COLUMN first_signature;
DROP INDEX credits_kind;
ALTER TABLE credits DROP COLUMN blind;
DROP INDEX credits_account;
DROP INDEX bindings_account;
DROP INDEX bindings_open_account;
DROP TABLE idempotency;
DROP TABLE pool;
DROP TABLE crystals;
DROP TABLE redemptions;
DROP TABLE boxes;
DROP TABLE grants;
DROP TABLE account_changes;
