-- +goose Up

-- The ECU's signature of the snapshot that is the head, once a claim has ended there: the next claim begins there and need not have it
-- verified again. Zeros are no signature.
ALTER TABLE bindings ADD COLUMN head_signature BLOB NOT NULL
    DEFAULT x'00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000'
    CHECK (length(head_signature) = 64);

-- +goose Down
ALTER TABLE bindings DROP COLUMN head_signature;
