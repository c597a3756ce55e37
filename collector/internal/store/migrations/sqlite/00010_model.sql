-- +goose Up

-- The vehicle's model, by which usage statistics are told apart; empty for unknown.
ALTER TABLE vehicles ADD COLUMN model TEXT NOT NULL DEFAULT '' CHECK (length(model) <= 32);

-- The same as of when a report came: what statistics have counted stays under it.
ALTER TABLE reports ADD COLUMN model TEXT NOT NULL DEFAULT '' CHECK (length(model) <= 32);

-- +goose Down
ALTER TABLE reports DROP COLUMN model;
ALTER TABLE vehicles DROP COLUMN model;
