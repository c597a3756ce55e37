-- +goose Up

-- One row for each erasure, also of an account that the ledger knew nothing of.
CREATE TABLE erasures (
    erasure BIGINT PRIMARY KEY
);

-- Entries of the ledger whose openings were destroyed because the person that they were about asked for it. Entries of one erasure were one
-- person's; nothing says whose. Erasures that had entries are numbered here by themselves, from 1 on without gaps.
CREATE TABLE erased_entries (
    number  BIGINT PRIMARY KEY REFERENCES outbox (number),
    erasure BIGINT NOT NULL
);
CREATE INDEX erased_entries_erasure ON erased_entries (erasure, number);

-- What the days' trees hold of accounts that were erased. Without their secrets, pseudonyms of different days cannot be told to be one account's.
CREATE TABLE erased_leaves (
    day       BIGINT NOT NULL,
    pseudonym BYTEA NOT NULL CHECK (length(pseudonym) = 32),
    weight    BIGINT NOT NULL CHECK (weight > 0),
    PRIMARY KEY (day, pseudonym)
);

CREATE INDEX bindings_vehicle ON bindings (vehicle, outbox_id);

-- Where keys were handed over whose last binding was erased: they may be bound again from there on.
CREATE TABLE erased_cuts (
    ecu BYTEA PRIMARY KEY REFERENCES ecu_keys (id),
    cut BIGINT NOT NULL,
    -- Entries of the ledger from this one on were written after the erasure.
    since BIGINT NOT NULL
);

-- What is appended is changed by nobody, and goes only where an erasure takes it, which works as the owner: no login has the right to delete.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND pg_trigger_depth() > 1 THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% refused: % is append-only', TG_OP, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION keep_accepted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.accepted = 1 OR OLD.pending = 1) AND pg_trigger_depth() <= 1 THEN
        RAISE EXCEPTION 'DELETE refused: the submission is accepted or not answered' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN OLD;
END $$;
-- +goose StatementEnd

CREATE TRIGGER erasures_append BEFORE UPDATE OR DELETE OR TRUNCATE ON erasures EXECUTE FUNCTION refuse_change();
CREATE TRIGGER erased_entries_append BEFORE UPDATE OR DELETE OR TRUNCATE ON erased_entries EXECUTE FUNCTION refuse_change();
CREATE TRIGGER erased_leaves_append BEFORE UPDATE OR DELETE OR TRUNCATE ON erased_leaves EXECUTE FUNCTION refuse_change();

-- Putting an account here destroys what is kept of its person, and nothing of it stays here. It is refused while anything stands in the way that
-- package erasure calls an obstacle, and without all leaves that the account's credits make: a list of lists of day, pseudonym in hexadecimal
-- and weight, in JSON. A day's weight is the kilometres that took effect on the 30 days before it. Days are the ECU's, those of submissions
-- and reports the program's.
CREATE VIEW erasing (account, leaves) AS SELECT id, CAST('[]' AS TEXT) FROM accounts WHERE id IS NULL;

-- +goose StatementBegin
CREATE FUNCTION erase_account() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM accounts WHERE id = NEW.account) THEN
        RAISE EXCEPTION 'erasing refused: there is no such account' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF EXISTS (SELECT 1 FROM bindings WHERE account = NEW.account AND closed = 0) THEN
        RAISE EXCEPTION 'erasing refused: an ECU is bound to the account' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF EXISTS (SELECT 1 FROM vehicles WHERE account = NEW.account AND revoked = 0) THEN
        RAISE EXCEPTION 'erasing refused: a vehicle may connect for the account' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF (
            EXISTS (SELECT 1 FROM boxes WHERE account = NEW.account AND opened_drop IS NULL) OR EXISTS (SELECT 1 FROM outbox o
            WHERE o.refused IS NULL AND coalesce(o.number, 9223372036854775807) > (SELECT coalesce(max(n.number), -1) FROM outbox n WHERE n.type = 8) AND (
            o.id IN (SELECT outbox_id FROM bindings WHERE account = NEW.account) OR o.id IN (SELECT outbox_id FROM credits WHERE account = NEW.account)
            OR o.id IN (SELECT outbox_id FROM account_changes WHERE account = NEW.account) OR o.id IN (SELECT outbox_id FROM grants WHERE account = NEW.account)
            OR o.id IN (SELECT outbox_id FROM boxes WHERE account = NEW.account) OR o.id IN (SELECT outbox_id FROM redemptions WHERE account = NEW.account)
            OR o.id IN (SELECT outbox_id FROM handovers WHERE ecu IN (SELECT ecu FROM bindings WHERE account = NEW.account))))) THEN
        RAISE EXCEPTION 'erasing refused: something of the account waits for the ledger' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF (
            (SELECT coalesce(sum((l.value->>2)::bigint), 0) FROM jsonb_array_elements(NEW.leaves::jsonb) AS l (value)) <> (SELECT 30 * coalesce(sum(c.km), 0) FROM credits c JOIN outbox o ON o.id = c.outbox_id WHERE c.account = NEW.account AND c.km > 0 AND o.number IS NOT NULL)
            OR (SELECT count(*) FROM jsonb_array_elements(NEW.leaves::jsonb) AS l (value)) <> (SELECT count(DISTINCT (l.value->>0)::bigint) FROM jsonb_array_elements(NEW.leaves::jsonb) AS l (value))
            OR EXISTS (SELECT 1 FROM jsonb_array_elements(NEW.leaves::jsonb) AS l (value) WHERE (l.value->>2)::bigint <>
                (SELECT coalesce(sum(c.km), 0) FROM credits c JOIN outbox o ON o.id = c.outbox_id WHERE c.account = NEW.account AND c.km > 0 AND o.number IS NOT NULL AND c.effective < (l.value->>0)::bigint AND c.effective + 30 >= (l.value->>0)::bigint))) THEN
        RAISE EXCEPTION 'erasing refused: the leaves are not all that the account has earned' USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO erasures (erasure) SELECT coalesce(max(erasure), 0) + 1 FROM erasures;
    INSERT INTO erased_leaves (day, pseudonym, weight) SELECT (l.value->>0)::bigint, decode(l.value->>1, 'hex'), (l.value->>2)::bigint FROM jsonb_array_elements(NEW.leaves::jsonb) AS l (value);
    INSERT INTO erased_entries (number, erasure)
        SELECT o.number, (SELECT coalesce(max(erasure), 0) + 1 FROM erased_entries) FROM outbox o WHERE o.number IS NOT NULL AND o.id IN (
            SELECT outbox_id FROM bindings WHERE account = NEW.account UNION ALL SELECT outbox_id FROM credits WHERE account = NEW.account
            UNION ALL SELECT outbox_id FROM account_changes WHERE account = NEW.account UNION ALL SELECT outbox_id FROM grants WHERE account = NEW.account
            UNION ALL SELECT outbox_id FROM boxes WHERE account = NEW.account UNION ALL SELECT outbox_id FROM redemptions WHERE account = NEW.account
            UNION ALL SELECT h.outbox_id FROM handovers h WHERE NEW.account =
                (SELECT b.account FROM bindings b WHERE b.ecu = h.ecu AND b.outbox_id < h.outbox_id ORDER BY b.outbox_id DESC LIMIT 1));
    -- Why an entry was set aside may name the account.
    UPDATE outbox SET refused = 'erased' WHERE refused IS NOT NULL AND position('"' || NEW.account || '"' IN refused) > 0;
    INSERT INTO erased_cuts (ecu, cut, since)
        SELECT b.ecu, b.cut, (SELECT coalesce(max(number) + 1, 0) FROM outbox) FROM bindings b WHERE b.account = NEW.account AND b.outbox_id = (SELECT max(n.outbox_id) FROM bindings n WHERE n.ecu = b.ecu)
        ON CONFLICT (ecu) DO UPDATE SET cut = excluded.cut, since = excluded.since;
    DELETE FROM handovers WHERE NEW.account =
        (SELECT b.account FROM bindings b WHERE b.ecu = handovers.ecu AND b.outbox_id < handovers.outbox_id ORDER BY b.outbox_id DESC LIMIT 1);
    -- A vehicle's reports and submissions are of whom it was bound to on their day, those from before its first binding of the first.
    DELETE FROM reports WHERE reports.vehicle IN (SELECT vehicle FROM bindings WHERE account = NEW.account) AND NEW.account = coalesce(
        (SELECT b.account FROM bindings b WHERE b.vehicle = reports.vehicle AND b.first_day <= reports.epoch ORDER BY b.outbox_id DESC LIMIT 1),
        (SELECT b.account FROM bindings b WHERE b.vehicle = reports.vehicle ORDER BY b.outbox_id LIMIT 1));
    DELETE FROM submissions WHERE id IN (SELECT submission FROM credits WHERE account = NEW.account);
    DELETE FROM submissions WHERE NOT EXISTS (SELECT 1 FROM credits c WHERE c.submission = submissions.id AND c.vehicle = submissions.vehicle
        AND c.account IN (SELECT n.account FROM bindings n WHERE n.vehicle = submissions.vehicle)) AND submissions.vehicle IN (SELECT vehicle FROM bindings WHERE account = NEW.account) AND NEW.account = coalesce(
        (SELECT b.account FROM bindings b WHERE b.vehicle = submissions.vehicle AND b.first_day <= submissions.day ORDER BY b.outbox_id DESC LIMIT 1),
        (SELECT b.account FROM bindings b WHERE b.vehicle = submissions.vehicle ORDER BY b.outbox_id LIMIT 1));
    DELETE FROM claims WHERE id IN (SELECT submission FROM credits WHERE account = NEW.account);
    DELETE FROM credits WHERE account = NEW.account;
    DELETE FROM spans WHERE NOT EXISTS (SELECT 1 FROM credits c WHERE c.ecu = spans.ecu AND c.to_seq = spans.to_seq) AND NEW.account =
        (SELECT b.account FROM bindings b WHERE b.ecu = spans.ecu AND b.first_day < spans.to_day ORDER BY b.outbox_id DESC LIMIT 1);
    DELETE FROM account_changes WHERE account = NEW.account;
    DELETE FROM grants WHERE account = NEW.account;
    DELETE FROM boxes WHERE account = NEW.account;
    DELETE FROM redemptions WHERE account = NEW.account;
    DELETE FROM balances WHERE account = NEW.account;
    DELETE FROM crystals WHERE account = NEW.account;
    -- Answers that name the account; the others are dropped with age.
    DELETE FROM idempotency WHERE position(convert_to('"' || NEW.account || '"', 'UTF8') IN body) > 0;
    -- A car that had other owners goes back to the last of them.
    UPDATE vehicles SET account = coalesce((SELECT b.account FROM bindings b WHERE b.vehicle = vehicles.id AND b.account <> NEW.account
        ORDER BY b.outbox_id DESC LIMIT 1), account) WHERE account = NEW.account;
    -- Nothing remembers for which days the car has reported: from those days it may not report again, as who had it next.
    UPDATE vehicles SET added_day = greatest(added_day, coalesce((SELECT b.first_day FROM bindings b WHERE b.vehicle = vehicles.id AND b.account <> NEW.account
        AND b.outbox_id > (SELECT max(n.outbox_id) FROM bindings n WHERE n.vehicle = vehicles.id AND n.account = NEW.account)
        ORDER BY b.outbox_id LIMIT 1), added_day)) WHERE id IN (SELECT vehicle FROM bindings WHERE account = NEW.account);
    DELETE FROM bindings WHERE account = NEW.account;
    DELETE FROM reports WHERE vehicle IN (SELECT id FROM vehicles WHERE account = NEW.account);
    DELETE FROM submissions WHERE vehicle IN (SELECT id FROM vehicles WHERE account = NEW.account);
    DELETE FROM claims WHERE vehicle IN (SELECT id FROM vehicles WHERE account = NEW.account);
    DELETE FROM spans WHERE vehicle IN (SELECT id FROM vehicles WHERE account = NEW.account);
    -- Who follows the numbers of changes is not to see one twice.
    UPDATE vehicles SET changed = (SELECT max(changed) FROM vehicles) + 1 WHERE id =
        (SELECT id FROM vehicles WHERE account <> NEW.account ORDER BY changed DESC LIMIT 1)
        AND changed < (SELECT max(changed) FROM vehicles);
    DELETE FROM vehicles WHERE account = NEW.account;
    DELETE FROM accounts WHERE id = NEW.account;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER erasing_insert INSTEAD OF INSERT ON erasing FOR EACH ROW EXECUTE FUNCTION erase_account();

-- +goose Down
DROP VIEW erasing;
DROP FUNCTION erase_account;
DROP INDEX bindings_vehicle;
DROP TABLE erased_cuts;
DROP TABLE erased_leaves;
DROP TABLE erased_entries;
DROP TABLE erasures;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% refused: % is append-only', TG_OP, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION keep_accepted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.accepted = 1 OR OLD.pending = 1 THEN
        RAISE EXCEPTION 'DELETE refused: the submission is accepted or not answered' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN OLD;
END $$;
-- +goose StatementEnd
