-- +goose Up

-- Texts are compared by their bytes, and numbers have 64 bits, as in SQLite. There the same version number stands for the same step; only
-- bindings and ecu_keys have here from the beginning the shape that step 3 gave them there.

-- An account owns vehicles and stones. Its secret blinds its pseudonyms.
CREATE TABLE accounts (
    id     TEXT COLLATE "C" PRIMARY KEY,
    secret BYTEA NOT NULL CHECK (length(secret) = 32)
);

CREATE TABLE vehicles (
    id          TEXT COLLATE "C" PRIMARY KEY,
    account     TEXT COLLATE "C" NOT NULL REFERENCES accounts (id),
    device      BYTEA NOT NULL UNIQUE CHECK (length(device) = 33),
    added_day   BIGINT NOT NULL,
    last_seen_s BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE ecu_keys (
    id          BYTEA PRIMARY KEY CHECK (length(id) = 16),
    public      BYTEA NOT NULL CHECK (length(public) = 33),
    revoked     BIGINT NOT NULL DEFAULT 0 CHECK (revoked IN (0, 1)),
    -- In PEM; empty for keys that were registered before there were any.
    certificate BYTEA NOT NULL DEFAULT ''
);

-- What the ledger shall hold, in the order of id. The settler alone gives numbers.
CREATE TABLE outbox (
    id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type     BIGINT NOT NULL,
    body     BYTEA NOT NULL,
    number   BIGINT UNIQUE,
    appended BIGINT NOT NULL DEFAULT 0 CHECK (appended IN (0, 1))
);

-- Sequence numbers are unsigned 64-bit numbers kept as their two's complement: they are compared for equality only.
CREATE TABLE bindings (
    outbox_id        BIGINT PRIMARY KEY REFERENCES outbox (id),
    ecu              BYTEA NOT NULL REFERENCES ecu_keys (id),
    vehicle          TEXT COLLATE "C" NOT NULL REFERENCES vehicles (id),
    account          TEXT COLLATE "C" NOT NULL REFERENCES accounts (id),
    first_seq        BIGINT NOT NULL,
    first_day        BIGINT NOT NULL,
    first_commitment BYTEA NOT NULL CHECK (length(first_commitment) = 32),
    salt             BYTEA NOT NULL CHECK (length(salt) = 32),
    head_seq         BIGINT NOT NULL,
    head_day         BIGINT NOT NULL,
    head_commitment  BYTEA NOT NULL CHECK (length(head_commitment) = 32),
    closed           BIGINT NOT NULL DEFAULT 0 CHECK (closed IN (0, 1)),
    -- Of a closed binding: nothing whose end is beyond it counts.
    cut              BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX bindings_ecu ON bindings (ecu, outbox_id);
CREATE UNIQUE INDEX bindings_open_ecu ON bindings (ecu) WHERE closed = 0;
CREATE UNIQUE INDEX bindings_open_vehicle ON bindings (vehicle) WHERE closed = 0;

-- The same bytes sent for another vehicle are another submission: nobody can have somebody else's claim refused by sending it first.
CREATE TABLE submissions (
    serial   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id       BYTEA NOT NULL CHECK (length(id) = 32),
    vehicle  TEXT COLLATE "C" NOT NULL REFERENCES vehicles (id),
    kind     TEXT COLLATE "C" NOT NULL,
    accepted BIGINT NOT NULL CHECK (accepted IN (0, 1)),
    reason   TEXT COLLATE "C" NOT NULL,
    km       BIGINT NOT NULL,
    day      BIGINT NOT NULL,
    receipt  BYTEA NOT NULL,
    original BYTEA CHECK (length(original) = 32),
    pending  BIGINT NOT NULL CHECK (pending IN (0, 1)),
    UNIQUE (id, vehicle, kind)
);
CREATE INDEX submissions_pending ON submissions (serial) WHERE pending = 1;

-- An accepted claim's span. Heads never move back, so that a key reaches each sequence number at most once.
CREATE TABLE spans (
    ecu             BYTEA NOT NULL REFERENCES ecu_keys (id),
    to_seq          BIGINT NOT NULL,
    to_day          BIGINT NOT NULL,
    to_commitment   BYTEA NOT NULL CHECK (length(to_commitment) = 32),
    from_seq        BIGINT NOT NULL,
    from_day        BIGINT NOT NULL,
    from_commitment BYTEA NOT NULL CHECK (length(from_commitment) = 32),
    vehicle         TEXT COLLATE "C" NOT NULL REFERENCES vehicles (id),
    submission      BYTEA NOT NULL CHECK (length(submission) = 32),
    PRIMARY KEY (ecu, to_seq)
);

CREATE TABLE credits (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account    TEXT COLLATE "C" NOT NULL REFERENCES accounts (id),
    vehicle    TEXT COLLATE "C" NOT NULL REFERENCES vehicles (id),
    ecu        BYTEA NOT NULL,
    to_seq     BIGINT NOT NULL,
    policy     BIGINT NOT NULL,
    kind       TEXT COLLATE "C" NOT NULL,
    km         BIGINT NOT NULL,
    effective  BIGINT NOT NULL,
    salt       BYTEA NOT NULL CHECK (length(salt) = 32),
    submission BYTEA NOT NULL CHECK (length(submission) = 32),
    outbox_id  BIGINT NOT NULL UNIQUE REFERENCES outbox (id),
    UNIQUE (ecu, to_seq, kind),
    FOREIGN KEY (ecu, to_seq) REFERENCES spans (ecu, to_seq)
);
CREATE INDEX credits_effective ON credits (effective, account);

CREATE TABLE reports (
    serial     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- readers resume behind the last they saw
    vehicle    TEXT COLLATE "C" NOT NULL REFERENCES vehicles (id),
    epoch      BIGINT NOT NULL,
    families   BIGINT NOT NULL,
    vector     BYTEA NOT NULL,
    charter    BYTEA NOT NULL CHECK (length(charter) = 32),
    submission BYTEA NOT NULL CHECK (length(submission) = 32),
    UNIQUE (vehicle, epoch)
);
CREATE INDEX reports_charter ON reports (charter, serial);

-- Every refusal, also of vehicles that have no row to hang a submission on.
CREATE TABLE refusals (
    kind   TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    n      BIGINT NOT NULL,
    PRIMARY KEY (kind, reason)
);

-- What is appended is not changed, by whomever.
-- +goose StatementBegin
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% refused: % is append-only', TG_OP, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
-- +goose StatementEnd

-- The columns that the trigger's arguments name may change and no others.
-- +goose StatementBegin
CREATE FUNCTION restrict_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    old_row jsonb := to_jsonb(OLD);
    new_row jsonb := to_jsonb(NEW);
BEGIN
    IF old_row - TG_ARGV <> new_row - TG_ARGV THEN
        RAISE EXCEPTION 'UPDATE refused: only % of % may change', TG_ARGV, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd

-- A role can put into the ledger only what is its own to decide: ingest credits (5), admin bindings (4) and hand-overs (9).
-- +goose StatementBegin
CREATE FUNCTION check_entry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_has_role(current_user, 'rawstone_settle', 'member')
        OR NEW.type = 5 AND pg_has_role(current_user, 'rawstone_ingest', 'member')
        OR NEW.type IN (4, 9) AND pg_has_role(current_user, 'rawstone_admin', 'member') THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'INSERT refused: % adds no entry of type %', current_user, NEW.type USING ERRCODE = 'insufficient_privilege';
END $$;
-- +goose StatementEnd

-- A number is for good, and so is it that the log has an entry, that a binding is closed, that a key is revoked.
-- +goose StatementBegin
CREATE FUNCTION keep_number() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.number IS DISTINCT FROM NEW.number AND OLD.number IS NOT NULL OR OLD.appended > NEW.appended THEN
        RAISE EXCEPTION 'UPDATE refused: entry % has its number', OLD.number USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION keep_closed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.closed > NEW.closed THEN
        RAISE EXCEPTION 'UPDATE refused: the binding is closed' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION keep_revoked() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.revoked > NEW.revoked THEN
        RAISE EXCEPTION 'UPDATE refused: the key is revoked' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd

CREATE TRIGGER credits_append BEFORE UPDATE OR DELETE OR TRUNCATE ON credits EXECUTE FUNCTION refuse_change();
CREATE TRIGGER spans_append BEFORE UPDATE OR DELETE OR TRUNCATE ON spans EXECUTE FUNCTION refuse_change();
CREATE TRIGGER reports_append BEFORE UPDATE OR DELETE OR TRUNCATE ON reports EXECUTE FUNCTION refuse_change();
CREATE TRIGGER outbox_append BEFORE DELETE OR TRUNCATE ON outbox EXECUTE FUNCTION refuse_change();
CREATE TRIGGER outbox_change BEFORE UPDATE ON outbox FOR EACH ROW EXECUTE FUNCTION restrict_change('number', 'appended');
CREATE TRIGGER outbox_number BEFORE UPDATE ON outbox FOR EACH ROW EXECUTE FUNCTION keep_number();
CREATE TRIGGER outbox_entry BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION check_entry();
CREATE TRIGGER bindings_append BEFORE DELETE OR TRUNCATE ON bindings EXECUTE FUNCTION refuse_change();
CREATE TRIGGER bindings_change BEFORE UPDATE ON bindings FOR EACH ROW
    EXECUTE FUNCTION restrict_change('head_seq', 'head_day', 'head_commitment', 'closed', 'cut');
CREATE TRIGGER bindings_closed BEFORE UPDATE ON bindings FOR EACH ROW EXECUTE FUNCTION keep_closed();
CREATE TRIGGER ecu_keys_append BEFORE DELETE OR TRUNCATE ON ecu_keys EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ecu_keys_revoked BEFORE UPDATE ON ecu_keys FOR EACH ROW EXECUTE FUNCTION keep_revoked();
CREATE TRIGGER submissions_append BEFORE DELETE OR TRUNCATE ON submissions EXECUTE FUNCTION refuse_change();
CREATE TRIGGER submissions_change BEFORE UPDATE ON submissions FOR EACH ROW EXECUTE FUNCTION restrict_change('pending');

-- +goose Down
DROP TABLE refusals, reports, credits, spans, submissions, bindings, outbox, ecu_keys, vehicles, accounts;
DROP FUNCTION refuse_change, restrict_change, check_entry, keep_number, keep_closed, keep_revoked;
