-- +goose Up

CREATE TABLE handovers (
    outbox_id BIGINT PRIMARY KEY REFERENCES outbox (id),
    ecu       BYTEA NOT NULL REFERENCES ecu_keys (id),
    cut       BIGINT NOT NULL,
    revoked   BIGINT NOT NULL CHECK (revoked IN (0, 1)),
    salt      BYTEA NOT NULL CHECK (length(salt) = 32)
);

-- The bytes of accepted claims, for an auditor. The order of serial is the order in which they were accepted.
CREATE TABLE claims (
    serial  BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id      BYTEA NOT NULL UNIQUE CHECK (length(id) = 32),
    vehicle TEXT COLLATE "C" NOT NULL REFERENCES vehicles (id),
    body    BYTEA NOT NULL
);

CREATE TRIGGER handovers_append BEFORE UPDATE OR DELETE OR TRUNCATE ON handovers EXECUTE FUNCTION refuse_change();
CREATE TRIGGER claims_append BEFORE UPDATE OR DELETE OR TRUNCATE ON claims EXECUTE FUNCTION refuse_change();

-- +goose Down
DROP TABLE claims, handovers;
