-- +goose Up

-- What an account is: the last row says it. An account without one has no key yet. activated is the program day, 0 for not yet, and day
-- the one of the change.
CREATE TABLE account_changes (
    outbox_id BIGINT PRIMARY KEY REFERENCES outbox (id),
    salt      BYTEA NOT NULL CHECK (length(salt) = 32),
    account   TEXT COLLATE "C" NOT NULL REFERENCES accounts (id),
    key       BYTEA NOT NULL CHECK (length(key) = 33),
    activated BIGINT NOT NULL CHECK (activated >= 0),
    day       BIGINT NOT NULL
);
CREATE INDEX account_changes_account ON account_changes (account, outbox_id);

-- Crystals that an account was given.
CREATE TABLE grants (
    outbox_id BIGINT PRIMARY KEY REFERENCES outbox (id),
    salt      BYTEA NOT NULL CHECK (length(salt) = 32),
    account   TEXT COLLATE "C" NOT NULL REFERENCES accounts (id),
    task      TEXT COLLATE "C" NOT NULL,
    reference BYTEA NOT NULL CHECK (length(reference) = 32),
    crystals  BIGINT NOT NULL CHECK (crystals > 0),
    day       BIGINT NOT NULL,
    UNIQUE (account, task, reference)
);
CREATE INDEX grants_account ON grants (account, outbox_id);
CREATE INDEX grants_reference ON grants (account, reference, outbox_id);

-- Mine boxes that owners asked for. worst and back are the most that one may hold, in milli-stones and in crystals; what it held is NULL until
-- the second block after the request opens it. goods is empty for none.
CREATE TABLE boxes (
    outbox_id   BIGINT PRIMARY KEY REFERENCES outbox (id),
    salt        BYTEA NOT NULL CHECK (length(salt) = 32),
    account     TEXT COLLATE "C" NOT NULL REFERENCES accounts (id),
    day         BIGINT NOT NULL,
    offers      BIGINT NOT NULL,
    box         TEXT COLLATE "C" NOT NULL,
    owner       BIGINT NOT NULL CHECK (owner IN (0, 1)),
    request     BYTEA NOT NULL,
    request_id  BYTEA NOT NULL UNIQUE CHECK (length(request_id) = 32),
    cost        BIGINT NOT NULL CHECK (cost > 0),
    worst       BIGINT NOT NULL CHECK (worst >= 0),
    back        BIGINT NOT NULL CHECK (back >= 0),
    milli       BIGINT CHECK (milli BETWEEN 0 AND worst),
    crystals    BIGINT CHECK (crystals BETWEEN 0 AND back),
    goods       TEXT COLLATE "C",
    opened_drop BIGINT,
    CHECK ((opened_drop IS NULL) = (milli IS NULL) AND (opened_drop IS NULL) = (crystals IS NULL) AND (opened_drop IS NULL) = (goods IS NULL))
);
CREATE INDEX boxes_account ON boxes (account, outbox_id);
CREATE INDEX boxes_closed ON boxes (outbox_id) WHERE opened_drop IS NULL;

-- Stones that owners used, milli milli-stones and fen of money each.
CREATE TABLE redemptions (
    outbox_id  BIGINT PRIMARY KEY REFERENCES outbox (id),
    salt       BYTEA NOT NULL CHECK (length(salt) = 32),
    account    TEXT COLLATE "C" NOT NULL REFERENCES accounts (id),
    day        BIGINT NOT NULL,
    offers     BIGINT NOT NULL,
    item       TEXT COLLATE "C" NOT NULL,
    milli      BIGINT NOT NULL CHECK (milli > 0),
    fen        BIGINT NOT NULL CHECK (fen >= 0),
    request    BYTEA NOT NULL,
    request_id BYTEA NOT NULL UNIQUE CHECK (length(request_id) = 32)
);
CREATE INDEX redemptions_account ON redemptions (account, outbox_id);

-- Crystals that accounts have, those of boxes that are not open left out.
CREATE TABLE crystals (
    account TEXT COLLATE "C" PRIMARY KEY REFERENCES accounts (id),
    amount  BIGINT NOT NULL CHECK (amount BETWEEN 0 AND 4294967295)
);

-- Milli-stones of the cultivation pool: given by boxes, and what boxes that are not open may give at most.
CREATE TABLE pool (
    id       BIGINT PRIMARY KEY CHECK (id = 1),
    issued   BIGINT NOT NULL CHECK (issued >= 0),
    reserved BIGINT NOT NULL CHECK (reserved >= 0),
    CHECK (issued + reserved <= 90000000000)
);
INSERT INTO pool (id, issued, reserved) VALUES (1, 0, 0);

-- What was answered to a client's request under a key of its own choice.
CREATE TABLE idempotency (
    client       TEXT COLLATE "C" NOT NULL,
    key          TEXT COLLATE "C" NOT NULL,
    request_hash BYTEA NOT NULL CHECK (length(request_hash) = 32),
    status       BIGINT NOT NULL,
    body         BYTEA NOT NULL,
    created_day  BIGINT NOT NULL,
    PRIMARY KEY (client, key)
);
CREATE INDEX idempotency_day ON idempotency (created_day);
CREATE INDEX idempotency_refusals ON idempotency (client, created_day) WHERE status >= 400;

CREATE INDEX bindings_open_account ON bindings (account) WHERE closed = 0;
CREATE INDEX bindings_account ON bindings (account, ecu);
CREATE INDEX credits_account ON credits (account, outbox_id);

-- The blind of a credit's entry, by which grants name it. An entry's body is the map of ledger.Credit in deterministic CBOR, of which it is the
-- first value: after a3 00 58 20.
ALTER TABLE credits ADD COLUMN blind BYTEA NOT NULL DEFAULT '\x0000000000000000000000000000000000000000000000000000000000000000' CHECK (length(blind) = 32);
ALTER TABLE credits DISABLE TRIGGER USER;
UPDATE credits SET blind = substr(o.body, 5, 32) FROM outbox o WHERE o.id = credits.outbox_id AND substr(o.body, 1, 4) = '\xa3005820' AND length(o.body) > 36;
ALTER TABLE credits ENABLE TRIGGER USER, ALTER COLUMN blind DROP DEFAULT;
CREATE INDEX credits_kind ON credits (account, kind, outbox_id);

-- The ECU's signature of the snapshot that is the first head, which the entry's opening shows; zeros for bindings from before it was asked for.
ALTER TABLE bindings ADD COLUMN first_signature BYTEA NOT NULL
    DEFAULT '\x00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000'
    CHECK (length(first_signature) = 64);
DROP TRIGGER bindings_change ON bindings;
CREATE TRIGGER bindings_change BEFORE UPDATE OF outbox_id, ecu, vehicle, account, first_seq, first_day, first_commitment, first_signature, salt ON bindings
    EXECUTE FUNCTION refuse_change();

-- Why the settler set an entry aside: it gets no number, ever.
ALTER TABLE outbox ADD COLUMN refused TEXT COLLATE "C" CHECK (refused IS NULL OR number IS NULL);
CREATE INDEX outbox_waiting ON outbox (id) WHERE number IS NULL AND refused IS NULL;
CREATE INDEX outbox_refused ON outbox (id) WHERE refused IS NOT NULL;

CREATE TRIGGER account_changes_append BEFORE UPDATE OR DELETE OR TRUNCATE ON account_changes EXECUTE FUNCTION refuse_change();
CREATE TRIGGER grants_append BEFORE UPDATE OR DELETE OR TRUNCATE ON grants EXECUTE FUNCTION refuse_change();
CREATE TRIGGER redemptions_append BEFORE UPDATE OR DELETE OR TRUNCATE ON redemptions EXECUTE FUNCTION refuse_change();
CREATE TRIGGER boxes_append BEFORE DELETE OR TRUNCATE ON boxes EXECUTE FUNCTION refuse_change();
CREATE TRIGGER boxes_change BEFORE UPDATE OF outbox_id, salt, account, day, offers, box, owner, request, request_id, cost, worst, back ON boxes
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER pool_append BEFORE DELETE OR TRUNCATE ON pool EXECUTE FUNCTION refuse_change();

-- What a box held is for good.
-- +goose StatementBegin
CREATE FUNCTION keep_opened() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'UPDATE refused: the box is open' USING ERRCODE = 'insufficient_privilege';
END $$;
-- +goose StatementEnd
CREATE TRIGGER boxes_opened BEFORE UPDATE ON boxes FOR EACH ROW WHEN (OLD.opened_drop IS NOT NULL) EXECUTE FUNCTION keep_opened();

-- The role account adds what owners ask for: changes of accounts (10), grants (11), boxes (12) and redemptions (14). The role admin adds
-- changes of accounts too: another key for an owner who has lost the old one.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION check_entry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_has_role(current_user, 'rawstone_settle', 'member')
        OR NEW.type = 5 AND pg_has_role(current_user, 'rawstone_ingest', 'member')
        OR NEW.type IN (4, 9, 10) AND pg_has_role(current_user, 'rawstone_admin', 'member')
        OR NEW.type IN (10, 11, 12, 14) AND pg_has_role(current_user, 'rawstone_account', 'member') THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'INSERT refused: % adds no entry of type %', current_user, NEW.type USING ERRCODE = 'insufficient_privilege';
END $$;
-- +goose StatementEnd

-- +goose Down
DROP INDEX outbox_refused;
DROP INDEX outbox_waiting;
ALTER TABLE outbox DROP COLUMN refused;
DROP TRIGGER bindings_change ON bindings;
CREATE TRIGGER bindings_change BEFORE UPDATE OF outbox_id, ecu, vehicle, account, first_seq, first_day, first_commitment, salt ON bindings
    EXECUTE FUNCTION refuse_change();
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
DROP FUNCTION keep_opened;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION check_entry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_has_role(current_user, 'rawstone_settle', 'member')
        OR NEW.type = 5 AND pg_has_role(current_user, 'rawstone_ingest', 'member')
        OR NEW.type IN (4, 9) AND pg_has_role(current_user, 'rawstone_admin', 'member') THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'INSERT refused: % adds no entry of type %', current_user, NEW.type USING ERRCODE = 'insufficient_privilege';
END $$;
-- +goose StatementEnd
