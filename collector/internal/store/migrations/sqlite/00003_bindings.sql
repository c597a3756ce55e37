-- +goose Up

-- A key may be handed over from one vehicle to another: how far it is credited belongs to the binding. head_* was its first head.
ALTER TABLE bindings RENAME COLUMN head_seq TO first_seq;
ALTER TABLE bindings RENAME COLUMN head_day TO first_day;
ALTER TABLE bindings RENAME COLUMN head_commitment TO first_commitment;
ALTER TABLE bindings ADD COLUMN head_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE bindings ADD COLUMN head_day INTEGER NOT NULL DEFAULT 0;
ALTER TABLE bindings ADD COLUMN head_commitment BLOB NOT NULL
    DEFAULT x'0000000000000000000000000000000000000000000000000000000000000000' CHECK (length(head_commitment) = 32);
ALTER TABLE bindings ADD COLUMN closed INTEGER NOT NULL DEFAULT 0 CHECK (closed IN (0, 1));
-- Of a closed binding: nothing whose end is beyond it counts.
ALTER TABLE bindings ADD COLUMN cut INTEGER NOT NULL DEFAULT 0;

UPDATE bindings SET head_seq = k.head_seq, head_day = k.head_day, head_commitment = k.head_commitment,
    closed = k.revoked, cut = CASE k.revoked WHEN 1 THEN k.head_seq ELSE 0 END
    FROM ecu_keys k WHERE k.id = bindings.ecu;

CREATE INDEX bindings_ecu ON bindings (ecu, outbox_id);
CREATE UNIQUE INDEX bindings_open_ecu ON bindings (ecu) WHERE closed = 0;
CREATE UNIQUE INDEX bindings_open_vehicle ON bindings (vehicle) WHERE closed = 0;

DROP INDEX ecu_keys_vehicle;
ALTER TABLE ecu_keys DROP COLUMN vehicle;
ALTER TABLE ecu_keys DROP COLUMN head_seq;
ALTER TABLE ecu_keys DROP COLUMN head_day;
ALTER TABLE ecu_keys DROP COLUMN head_commitment;
-- In PEM; empty for keys that were registered before there were any.
ALTER TABLE ecu_keys ADD COLUMN certificate BLOB NOT NULL DEFAULT x'';

CREATE TABLE handovers (
    outbox_id INTEGER PRIMARY KEY REFERENCES outbox (id),
    ecu       BLOB NOT NULL REFERENCES ecu_keys (id),
    cut       INTEGER NOT NULL,
    revoked   INTEGER NOT NULL CHECK (revoked IN (0, 1)),
    salt      BLOB NOT NULL CHECK (length(salt) = 32)
) STRICT;

-- The bytes of accepted claims, for an auditor. The order of serial is the order in which they were accepted.
CREATE TABLE claims (
    serial  INTEGER PRIMARY KEY AUTOINCREMENT,
    id      BLOB NOT NULL UNIQUE CHECK (length(id) = 32),
    vehicle TEXT NOT NULL REFERENCES vehicles (id),
    body    BLOB NOT NULL
) STRICT;

-- +goose Down
DROP TABLE claims;
DROP TABLE handovers;
ALTER TABLE ecu_keys DROP COLUMN certificate;
ALTER TABLE ecu_keys ADD COLUMN vehicle TEXT NOT NULL DEFAULT '';
ALTER TABLE ecu_keys ADD COLUMN head_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ecu_keys ADD COLUMN head_day INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ecu_keys ADD COLUMN head_commitment BLOB NOT NULL
    DEFAULT x'0000000000000000000000000000000000000000000000000000000000000000' CHECK (length(head_commitment) = 32);
UPDATE ecu_keys SET vehicle = b.vehicle, head_seq = b.head_seq, head_day = b.head_day, head_commitment = b.head_commitment
    FROM (SELECT * FROM bindings ORDER BY outbox_id) b WHERE b.ecu = ecu_keys.id;
CREATE INDEX ecu_keys_vehicle ON ecu_keys (vehicle);
DROP INDEX bindings_open_vehicle;
DROP INDEX bindings_open_ecu;
DROP INDEX bindings_ecu;
ALTER TABLE bindings DROP COLUMN cut;
ALTER TABLE bindings DROP COLUMN closed;
ALTER TABLE bindings DROP COLUMN head_commitment;
ALTER TABLE bindings DROP COLUMN head_day;
ALTER TABLE bindings DROP COLUMN head_seq;
ALTER TABLE bindings RENAME COLUMN first_commitment TO head_commitment;
ALTER TABLE bindings RENAME COLUMN first_day TO head_day;
ALTER TABLE bindings RENAME COLUMN first_seq TO head_seq;
