-- +goose Up

-- What ingest may do to an enrolment is this and no more: its login has no right to write the columns. The functions work as the owner,
-- by the server's clock, and return a row when they have changed one. That the token or device key is the vehicle's, that it is
-- not revoked, and that the change is numbered is their business and not their caller's. A certificate lives for 14 days.

-- +goose StatementBegin
CREATE FUNCTION enrol_vehicle(device_key BYTEA, until_s BIGINT, vehicle_id TEXT, token BYTEA) RETURNS SETOF BIGINT
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE public.vehicles SET device = device_key, certificate_until_s = until_s, token_hash = NULL, token_expires_s = 0,
        changed = (SELECT coalesce(max(changed), 0) + 1 FROM public.vehicles WHERE changed > 0)
        WHERE id = vehicle_id AND token_hash = token AND revoked = 0 AND token_expires_s > extract(epoch FROM clock_timestamp())
            AND until_s BETWEEN extract(epoch FROM clock_timestamp()) AND extract(epoch FROM clock_timestamp()) + 30 * 86400
            -- A key of the vehicle's electronics, by its identifier, vouches for distances and for nothing else.
            AND NOT EXISTS (SELECT 1 FROM public.ecu_keys k WHERE k.id = substring(sha256(device_key) FROM 1 FOR 16))
        RETURNING 1::bigint
$$;
-- +goose StatementEnd

-- A vehicle may renew for 24 months, and a day for clocks that differ.
-- +goose StatementBegin
CREATE FUNCTION renew_certificate(until_s BIGINT, vehicle_id TEXT, device_key BYTEA) RETURNS SETOF BIGINT
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE public.vehicles SET certificate_until_s = until_s
        WHERE id = vehicle_id AND device = device_key AND revoked = 0
            AND until_s BETWEEN extract(epoch FROM clock_timestamp()) AND extract(epoch FROM clock_timestamp()) + 30 * 86400
            AND to_timestamp(certificate_until_s) AT TIME ZONE 'UTC' + interval '24 months 1 day' >= clock_timestamp() AT TIME ZONE 'UTC'
        RETURNING 1::bigint
$$;
-- +goose StatementEnd

REVOKE ALL ON FUNCTION enrol_vehicle, renew_certificate FROM PUBLIC;

-- What may not change is refused before a row is looked at, and what may change in one direction is compared by the server itself: a function
-- for each row cost the intake more than the change.
DROP TRIGGER bindings_change ON bindings;
CREATE TRIGGER bindings_change BEFORE UPDATE OF outbox_id, ecu, vehicle, account, first_seq, first_day, first_commitment, salt ON bindings
    EXECUTE FUNCTION refuse_change();
DROP TRIGGER bindings_closed ON bindings;
CREATE TRIGGER bindings_closed BEFORE UPDATE ON bindings FOR EACH ROW WHEN (OLD.closed > NEW.closed) EXECUTE FUNCTION keep_closed();
DROP TRIGGER outbox_change ON outbox;
CREATE TRIGGER outbox_change BEFORE UPDATE OF id, type, body ON outbox EXECUTE FUNCTION refuse_change();
DROP TRIGGER outbox_number ON outbox;
CREATE TRIGGER outbox_number BEFORE UPDATE ON outbox FOR EACH ROW
    WHEN (OLD.number IS DISTINCT FROM NEW.number AND OLD.number IS NOT NULL OR OLD.appended > NEW.appended) EXECUTE FUNCTION keep_number();
DROP TRIGGER outbox_entry ON outbox;
CREATE TRIGGER outbox_entry BEFORE INSERT ON outbox FOR EACH ROW
    WHEN (NOT (NEW.type = 5 AND pg_has_role(current_user, 'rawstone_ingest', 'member') OR pg_has_role(current_user, 'rawstone_settle', 'member')
        OR NEW.type IN (4, 9) AND pg_has_role(current_user, 'rawstone_admin', 'member'))) EXECUTE FUNCTION check_entry();
DROP TRIGGER submissions_change ON submissions;
CREATE TRIGGER submissions_change BEFORE UPDATE OF serial, id, vehicle, kind, accepted, reason, km, day, receipt, original ON submissions
    EXECUTE FUNCTION refuse_change();
DROP TRIGGER vehicles_enrolment ON vehicles;
CREATE TRIGGER vehicles_enrolment BEFORE UPDATE OF device, token_hash, token_expires_s, revoked ON vehicles FOR EACH ROW
    EXECUTE FUNCTION check_enrolment();

-- +goose Down
DROP TRIGGER vehicles_enrolment ON vehicles;
CREATE TRIGGER vehicles_enrolment BEFORE UPDATE ON vehicles FOR EACH ROW EXECUTE FUNCTION check_enrolment();
DROP TRIGGER submissions_change ON submissions;
CREATE TRIGGER submissions_change BEFORE UPDATE ON submissions FOR EACH ROW EXECUTE FUNCTION restrict_change('pending');
DROP TRIGGER outbox_entry ON outbox;
CREATE TRIGGER outbox_entry BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION check_entry();
DROP TRIGGER outbox_number ON outbox;
CREATE TRIGGER outbox_number BEFORE UPDATE ON outbox FOR EACH ROW EXECUTE FUNCTION keep_number();
DROP TRIGGER outbox_change ON outbox;
CREATE TRIGGER outbox_change BEFORE UPDATE ON outbox FOR EACH ROW EXECUTE FUNCTION restrict_change('number', 'appended');
DROP TRIGGER bindings_closed ON bindings;
CREATE TRIGGER bindings_closed BEFORE UPDATE ON bindings FOR EACH ROW EXECUTE FUNCTION keep_closed();
DROP TRIGGER bindings_change ON bindings;
CREATE TRIGGER bindings_change BEFORE UPDATE ON bindings FOR EACH ROW
    EXECUTE FUNCTION restrict_change('head_seq', 'head_day', 'head_commitment', 'closed', 'cut');
DROP FUNCTION enrol_vehicle, renew_certificate;
