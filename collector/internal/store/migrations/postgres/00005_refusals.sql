-- +goose Up

-- What earned nothing is bounded for each vehicle and day, and refusals do not stay for good.
CREATE INDEX submissions_unearned ON submissions (vehicle, day) WHERE accepted = 0 OR original IS NOT NULL;
CREATE INDEX submissions_refused ON submissions (day) WHERE accepted = 0;

-- Answered refusals may go, and nothing else.
-- +goose StatementBegin
CREATE FUNCTION keep_accepted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.accepted = 1 OR OLD.pending = 1 THEN
        RAISE EXCEPTION 'DELETE refused: the submission is accepted or not answered' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN OLD;
END $$;
-- +goose StatementEnd
DROP TRIGGER submissions_append ON submissions;
CREATE TRIGGER submissions_append BEFORE TRUNCATE ON submissions EXECUTE FUNCTION refuse_change();
CREATE TRIGGER submissions_keep BEFORE DELETE ON submissions FOR EACH ROW EXECUTE FUNCTION keep_accepted();

-- +goose Down
DROP TRIGGER submissions_keep ON submissions;
DROP TRIGGER submissions_append ON submissions;
CREATE TRIGGER submissions_append BEFORE DELETE OR TRUNCATE ON submissions EXECUTE FUNCTION refuse_change();
DROP FUNCTION keep_accepted;
DROP INDEX submissions_refused;
DROP INDEX submissions_unearned;
