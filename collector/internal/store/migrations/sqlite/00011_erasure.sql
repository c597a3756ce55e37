-- +goose Up

-- One row for each erasure, also of an account that the ledger knew nothing of.
CREATE TABLE erasures (
    erasure INTEGER PRIMARY KEY
) STRICT;

-- Entries of the ledger whose openings were destroyed because the person that they were about asked for it. Entries of one erasure were one
-- person's; nothing says whose. Erasures that had entries are numbered here by themselves, from 1 on without gaps.
CREATE TABLE erased_entries (
    number  INTEGER PRIMARY KEY REFERENCES outbox (number),
    erasure INTEGER NOT NULL
) STRICT;
CREATE INDEX erased_entries_erasure ON erased_entries (erasure, number);

-- What the days' trees hold of accounts that were erased. Without their secrets, pseudonyms of different days cannot be told to be one account's.
CREATE TABLE erased_leaves (
    day       INTEGER NOT NULL,
    pseudonym BLOB NOT NULL CHECK (length(pseudonym) = 32),
    weight    INTEGER NOT NULL CHECK (weight > 0),
    PRIMARY KEY (day, pseudonym)
) STRICT;

CREATE INDEX bindings_vehicle ON bindings (vehicle, outbox_id);

-- Where keys were handed over whose last binding was erased: they may be bound again from there on.
CREATE TABLE erased_cuts (
    ecu BLOB PRIMARY KEY REFERENCES ecu_keys (id),
    cut INTEGER NOT NULL,
    -- Entries of the ledger from this one on were written after the erasure.
    since INTEGER NOT NULL
) STRICT;

-- Putting an account here destroys what is kept of its person, and nothing of it stays here. It is refused while anything stands in the way that
-- package erasure calls an obstacle, and without all leaves that the account's credits make: a list of lists of day, pseudonym in hexadecimal
-- and weight, in JSON. A day's weight is the kilometres that took effect on the 30 days before it. Days are the ECU's, those of submissions
-- and reports the program's.
CREATE VIEW erasing (account, leaves) AS SELECT id, CAST('[]' AS TEXT) FROM accounts WHERE id IS NULL;

-- +goose StatementBegin
CREATE TRIGGER erasing_insert INSTEAD OF INSERT ON erasing BEGIN
    SELECT RAISE(ABORT, 'erasing refused: there is no such account') WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE id = NEW.account);
    SELECT RAISE(ABORT, 'erasing refused: an ECU is bound to the account') WHERE EXISTS (SELECT 1 FROM bindings WHERE account = NEW.account AND closed = 0);
    SELECT RAISE(ABORT, 'erasing refused: a vehicle may connect for the account') WHERE EXISTS (SELECT 1 FROM vehicles WHERE account = NEW.account AND revoked = 0);
    SELECT RAISE(ABORT, 'erasing refused: something of the account waits for the ledger') WHERE (
            EXISTS (SELECT 1 FROM boxes WHERE account = NEW.account AND opened_drop IS NULL) OR EXISTS (SELECT 1 FROM outbox o
            WHERE o.refused IS NULL AND coalesce(o.number, 9223372036854775807) > (SELECT coalesce(max(n.number), -1) FROM outbox n WHERE n.type = 8) AND (
            o.id IN (SELECT outbox_id FROM bindings WHERE account = NEW.account) OR o.id IN (SELECT outbox_id FROM credits WHERE account = NEW.account)
            OR o.id IN (SELECT outbox_id FROM account_changes WHERE account = NEW.account) OR o.id IN (SELECT outbox_id FROM grants WHERE account = NEW.account)
            OR o.id IN (SELECT outbox_id FROM boxes WHERE account = NEW.account) OR o.id IN (SELECT outbox_id FROM redemptions WHERE account = NEW.account)
            OR o.id IN (SELECT outbox_id FROM handovers WHERE ecu IN (SELECT ecu FROM bindings WHERE account = NEW.account)))));
    SELECT RAISE(ABORT, 'erasing refused: the leaves are not all that the account has earned') WHERE (
            (SELECT coalesce(sum(json_extract(l.value, '$[2]')), 0) FROM json_each(NEW.leaves) l) <> (SELECT 30 * coalesce(sum(c.km), 0) FROM credits c JOIN outbox o ON o.id = c.outbox_id WHERE c.account = NEW.account AND c.km > 0 AND o.number IS NOT NULL)
            OR (SELECT count(*) FROM json_each(NEW.leaves) l) <> (SELECT count(DISTINCT json_extract(l.value, '$[0]')) FROM json_each(NEW.leaves) l)
            OR EXISTS (SELECT 1 FROM json_each(NEW.leaves) l WHERE json_extract(l.value, '$[2]') <>
                (SELECT coalesce(sum(c.km), 0) FROM credits c JOIN outbox o ON o.id = c.outbox_id WHERE c.account = NEW.account AND c.km > 0 AND o.number IS NOT NULL AND c.effective < json_extract(l.value, '$[0]') AND c.effective + 30 >= json_extract(l.value, '$[0]'))));
    INSERT INTO erasures (erasure) SELECT coalesce(max(erasure), 0) + 1 FROM erasures;
    INSERT INTO erased_leaves (day, pseudonym, weight) SELECT json_extract(l.value, '$[0]'), unhex(json_extract(l.value, '$[1]')), json_extract(l.value, '$[2]') FROM json_each(NEW.leaves) l;
    INSERT INTO erased_entries (number, erasure)
        SELECT o.number, (SELECT coalesce(max(erasure), 0) + 1 FROM erased_entries) FROM outbox o WHERE o.number IS NOT NULL AND o.id IN (
            SELECT outbox_id FROM bindings WHERE account = NEW.account UNION ALL SELECT outbox_id FROM credits WHERE account = NEW.account
            UNION ALL SELECT outbox_id FROM account_changes WHERE account = NEW.account UNION ALL SELECT outbox_id FROM grants WHERE account = NEW.account
            UNION ALL SELECT outbox_id FROM boxes WHERE account = NEW.account UNION ALL SELECT outbox_id FROM redemptions WHERE account = NEW.account
            UNION ALL SELECT h.outbox_id FROM handovers h WHERE NEW.account =
                (SELECT b.account FROM bindings b WHERE b.ecu = h.ecu AND b.outbox_id < h.outbox_id ORDER BY b.outbox_id DESC LIMIT 1));
    -- Why an entry was set aside may name the account.
    UPDATE outbox SET refused = 'erased' WHERE refused IS NOT NULL AND instr(refused, '"' || NEW.account || '"') > 0;
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
    DELETE FROM idempotency WHERE instr(body, CAST('"' || NEW.account || '"' AS BLOB)) > 0;
    -- A car that had other owners goes back to the last of them.
    UPDATE vehicles SET account = coalesce((SELECT b.account FROM bindings b WHERE b.vehicle = vehicles.id AND b.account <> NEW.account
        ORDER BY b.outbox_id DESC LIMIT 1), account) WHERE account = NEW.account;
    -- Nothing remembers for which days the car has reported: from those days it may not report again, as who had it next.
    UPDATE vehicles SET added_day = max(added_day, coalesce((SELECT b.first_day FROM bindings b WHERE b.vehicle = vehicles.id AND b.account <> NEW.account
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
END;
-- +goose StatementEnd

-- +goose Down
DROP VIEW erasing;
DROP INDEX bindings_vehicle;
DROP TABLE erased_cuts;
DROP TABLE erased_leaves;
DROP TABLE erased_entries;
DROP TABLE erasures;
