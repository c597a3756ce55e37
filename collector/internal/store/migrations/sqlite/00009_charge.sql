-- +goose Up

-- A report's charge in the privacy budget of its vehicle: the index in 8 bytes, big-endian, and the ledger's hash; zeros for reports from before it
-- was asked for. device is the identifier of the device key that signed it: a vehicle that enrols with another key begins anew.
ALTER TABLE reports ADD COLUMN charge BLOB NOT NULL
    DEFAULT x'00000000000000000000000000000000000000000000000000000000000000000000000000000000' CHECK (length(charge) = 40);
ALTER TABLE reports ADD COLUMN device BLOB NOT NULL DEFAULT x'00000000000000000000000000000000' CHECK (length(device) = 16);
CREATE INDEX reports_charge ON reports (vehicle, device, charge);

-- +goose Down
DROP INDEX reports_charge;
ALTER TABLE reports DROP COLUMN device;
ALTER TABLE reports DROP COLUMN charge;
