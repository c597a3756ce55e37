-- +goose Up

-- What the settler is asking cosignatures for. It stays until they are there, so that after a crash the validators see the same bytes.
CREATE TABLE draft (
    id      BIGINT PRIMARY KEY CHECK (id = 1),
    number  BIGINT NOT NULL,
    type    BIGINT NOT NULL,
    payload BYTEA NOT NULL
);

-- Stones in milli-stones of all drops before settled.next_drop.
CREATE TABLE balances (
    account TEXT COLLATE "C" PRIMARY KEY REFERENCES accounts (id),
    milli   BIGINT NOT NULL CHECK (milli >= 0)
);

CREATE TABLE settled (
    id        BIGINT PRIMARY KEY CHECK (id = 1),
    next_drop BIGINT NOT NULL
);
INSERT INTO settled (id, next_drop) VALUES (1, 0);

CREATE INDEX outbox_unnumbered ON outbox (id) WHERE number IS NULL;
CREATE INDEX outbox_unappended ON outbox (number) WHERE appended = 0;
CREATE INDEX outbox_type ON outbox (type, number);

-- +goose Down
DROP INDEX outbox_type, outbox_unappended, outbox_unnumbered;
DROP TABLE settled, balances, draft;
