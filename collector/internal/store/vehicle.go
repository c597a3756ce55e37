package store

import (
	"context"
	"errors"
	"time"

	"rawstone/collector/internal/database"
	"rawstone/pkg/wire"
)

// A Vehicle is registered and belongs to one account.
type Vehicle struct {
	ID      string
	Account string
	// Device is the key that signs the vehicle's usage reports; zero until it has enrolled.
	Device wire.PublicKey
	// AddedDay is the program day of its registration.
	AddedDay uint32
	// LastSeen is when its last submission was accepted, in whole seconds; zero for never.
	LastSeen time.Time
	// Model is by which usage statistics are told apart: admission.CheckModel; empty for unknown.
	Model string
}

// AddVehicle adds a vehicle; its account must be there.
func (t *Tx) AddVehicle(ctx context.Context, v Vehicle) error {
	var device any
	if v.Device != (wire.PublicKey{}) {
		device = v.Device[:]
	}
	return t.tx.ExecOne(ctx, addVehicle(), v.ID, v.Account, device, int64(v.AddedDay), v.Model)
}

func addVehicle() statement {
	return statement{Name: "add vehicle", Roles: Admin,
		SQL: `INSERT INTO vehicles (id, account, device, added_day, model) VALUES ($1, $2, $3, $4, $5)`}
}

const selectVehicle = `SELECT id, account, device, added_day, last_seen_s, model FROM vehicles `

func scanVehicle(v *Vehicle, scan database.Scanner) error {
	var seen int64
	if err := scan(&v.ID, &v.Account, database.Optional(v.Device[:]), &v.AddedDay, &seen, &v.Model); err != nil {
		return err
	}
	if seen != 0 {
		v.LastSeen = time.Unix(seen, 0).UTC()
	}
	return nil
}

// Vehicle returns a vehicle, or ErrNotFound.
func (t *Tx) Vehicle(ctx context.Context, id string) (Vehicle, error) {
	if v, ok := t.ahead.vehicles[id]; ok {
		return found(v)
	}
	return database.One(ctx, t.tx, vehicle(), scanVehicle, id)
}

func vehicle() statement {
	return statement{Name: "read vehicle", Roles: Ingest | Admin, SQL: selectVehicle + `WHERE id = $1`,
		Many: selectVehicle + `WHERE id = ANY($1)`}
}

// HasVehicle reports whether there is a vehicle of that name.
func (t *Tx) HasVehicle(ctx context.Context, id string) (has bool, err error) {
	err = t.tx.Get(ctx, hasVehicle(), []any{id}, database.Flag(&has))
	return has, err
}

func hasVehicle() statement {
	return statement{Name: "look for vehicle", Roles: Audit, SQL: `SELECT count(*) FROM vehicles WHERE id = $1`}
}

// VehicleOfDevice returns the vehicle that a device key is registered for, or ErrNotFound.
func (t *Tx) VehicleOfDevice(ctx context.Context, device wire.PublicKey) (Vehicle, error) {
	return database.One(ctx, t.tx, vehicleOfDevice(), scanVehicle, device[:])
}

func vehicleOfDevice() statement {
	return statement{Name: "read device's vehicle", Roles: Ingest | Admin, SQL: selectVehicle + `WHERE device = $1`}
}

// Vehicles returns all vehicles in the order of their names.
func (t *Tx) Vehicles(ctx context.Context) ([]Vehicle, error) {
	return database.List(ctx, t.tx, vehicles(), scanVehicle)
}

func vehicles() statement {
	return statement{Name: "read vehicles", Roles: Admin, SQL: selectVehicle + `ORDER BY id`}
}

// SetSeen notes when a vehicle's submission was accepted, the first in a transaction.
func (t *Tx) SetSeen(ctx context.Context, vehicle string, at time.Time) error {
	if t.seen[vehicle] {
		return nil
	}
	t.seen[vehicle] = true
	if v := t.ahead.vehicles[vehicle]; v != nil {
		v.LastSeen = time.Unix(at.Unix(), 0).UTC()
	}
	return t.tx.ExecOne(ctx, setSeen(), at.Unix(), vehicle)
}

func setSeen() statement {
	return statement{Name: "note vehicle", Roles: Ingest, SQL: `UPDATE vehicles SET last_seen_s = $1 WHERE id = $2`,
		Many: `UPDATE vehicles SET last_seen_s = a FROM unnest($1::bigint[], $2::text[]) AS v (a, b) WHERE id = b`}
}

// Device returns the device key with which a vehicle may connect; ok is false for one that is not registered, has not enrolled or is
// revoked.
func (d *DB) Device(ctx context.Context, vehicle string) (key wire.PublicKey, ok bool, err error) {
	err = d.viewFirst(ctx, func(tx *Tx) error {
		e, err := tx.Enrolment(ctx, vehicle)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		key, ok = e.Device, e.Device != wire.PublicKey{} && !e.Revoked
		return err
	})
	return key, ok, err
}

// Changed returns the vehicles for which Device's answer changed after a serial number, at most 1,000 in the order of the changes, and
// the serial number of the last of these; none when nothing did. The first serial number is 1.
func (d *DB) Changed(ctx context.Context, since int64) (vehicles []string, serial int64, err error) {
	err = d.viewFirst(ctx, func(tx *Tx) (err error) {
		vehicles, serial, err = tx.Changes(ctx, since)
		return err
	})
	return vehicles, serial, err
}
