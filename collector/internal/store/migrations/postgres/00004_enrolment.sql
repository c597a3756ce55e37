-- +goose Up

-- NULL until the vehicle enrols.
ALTER TABLE vehicles ALTER COLUMN device DROP NOT NULL;
-- SHA-256 of the token that is good for one enrolment; NULL when there is none.
ALTER TABLE vehicles ADD COLUMN token_hash BYTEA CHECK (length(token_hash) = 32);
ALTER TABLE vehicles ADD COLUMN token_expires_s BIGINT NOT NULL DEFAULT 0;
-- When the last client certificate ends; 0 before there was any.
ALTER TABLE vehicles ADD COLUMN certificate_until_s BIGINT NOT NULL DEFAULT 0;
ALTER TABLE vehicles ADD COLUMN revoked BIGINT NOT NULL DEFAULT 0 CHECK (revoked IN (0, 1));
-- Number of the last change of who may connect, over all vehicles: they have different ones.
ALTER TABLE vehicles ADD COLUMN changed BIGINT NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX vehicles_changed ON vehicles (changed) WHERE changed > 0;

-- Who is not admin may use a token up and not make one: a device key comes in exchange for one, and revoking is for good.
-- +goose StatementBegin
CREATE FUNCTION check_enrolment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.revoked > NEW.revoked THEN
        RAISE EXCEPTION 'UPDATE refused: the vehicle is revoked' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF NOT pg_has_role(current_user, 'rawstone_admin', 'member') AND (
        NEW.token_hash IS NOT NULL AND NEW.token_hash IS DISTINCT FROM OLD.token_hash
        OR NEW.token_expires_s > OLD.token_expires_s OR NEW.revoked <> OLD.revoked
        OR NEW.device IS DISTINCT FROM OLD.device AND (OLD.token_hash IS NULL OR NEW.token_hash IS NOT NULL)) THEN
        RAISE EXCEPTION 'UPDATE refused: % enrols only in exchange for a token', current_user USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER vehicles_enrolment BEFORE UPDATE ON vehicles FOR EACH ROW EXECUTE FUNCTION check_enrolment();

-- +goose Down
DROP TRIGGER vehicles_enrolment ON vehicles;
DROP FUNCTION check_enrolment;
DROP INDEX vehicles_changed;
ALTER TABLE vehicles DROP COLUMN changed, DROP COLUMN revoked, DROP COLUMN certificate_until_s, DROP COLUMN token_expires_s, DROP COLUMN token_hash;
ALTER TABLE vehicles ALTER COLUMN device SET NOT NULL;
