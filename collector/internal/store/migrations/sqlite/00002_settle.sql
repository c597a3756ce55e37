-- +goose Up

-- What the settler is asking cosignatures for. It stays until they are there, so that after a crash the validators see the same bytes.
CREATE TABLE draft (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    number  INTEGER NOT NULL,
    type    INTEGER NOT NULL,
    payload BLOB NOT NULL
) STRICT;

-- Stones in milli-stones of all drops before settled.next_drop.
CREATE TABLE balances (
    account TEXT PRIMARY KEY REFERENCES accounts (id),
    milli   INTEGER NOT NULL CHECK (milli >= 0)
) STRICT;

CREATE TABLE settled (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    next_drop INTEGER NOT NULL
) STRICT;
INSERT INTO settled (id, next_drop) VALUES (1, 0);

CREATE INDEX outbox_unnumbered ON outbox (id) WHERE number IS NULL;
CREATE INDEX outbox_unappended ON outbox (number) WHERE appended = 0;
CREATE INDEX outbox_type ON outbox (type, number);

-- +goose Down
DROP INDEX outbox_type;
DROP INDEX outbox_unappended;
DROP INDEX outbox_unnumbered;
DROP TABLE settled;
DROP TABLE balances;
DROP TABLE draft;
