-- +goose Up

-- On SQLite there is no login to keep from a column: nothing changes.

-- +goose Down
