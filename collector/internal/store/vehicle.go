package store

import (
	"context"
	"crypto/rand"
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
}

// AddAccount adds an account with a fresh random secret.
func (t *Tx) AddAccount(ctx context.Context, id string) error {
	var secret [32]byte
	rand.Read(secret[:])
	return t.tx.ExecOne(ctx, addAccount(), id, secret[:])
}

func addAccount() statement {
	return statement{Name: "add account", Roles: Admin, SQL: `INSERT INTO accounts (id, secret) VALUES ($1, $2)`}
}

// HasAccount reports whether there is an account of that name.
func (t *Tx) HasAccount(ctx context.Context, id string) (has bool, err error) {
	err = t.tx.Get(ctx, hasAccount(), []any{id}, database.Flag(&has))
	return has, err
}

func hasAccount() statement {
	return statement{Name: "read account", Roles: Admin, SQL: `SELECT count(*) FROM accounts WHERE id = $1`}
}

// AddVehicle adds a vehicle; its account must be there.
func (t *Tx) AddVehicle(ctx context.Context, v Vehicle) error {
	var device any
	if v.Device != (wire.PublicKey{}) {
		device = v.Device[:]
	}
	return t.tx.ExecOne(ctx, addVehicle(), v.ID, v.Account, device, int64(v.AddedDay))
}

func addVehicle() statement {
	return statement{Name: "add vehicle", Roles: Admin,
		SQL: `INSERT INTO vehicles (id, account, device, added_day) VALUES ($1, $2, $3, $4)`}
}

const selectVehicle = `SELECT id, account, device, added_day, last_seen_s FROM vehicles `

func scanVehicle(v *Vehicle, scan database.Scanner) error {
	var seen int64
	if err := scan(&v.ID, &v.Account, optional(v.Device[:]), &v.AddedDay, &seen); err != nil {
		return err
	}
	if seen != 0 {
		v.LastSeen = time.Unix(seen, 0).UTC()
	}
	return nil
}

// Vehicle returns a vehicle, or ErrNotFound.
func (t *Tx) Vehicle(ctx context.Context, id string) (Vehicle, error) {
	return database.One(ctx, t.tx, vehicle(), scanVehicle, id)
}

func vehicle() statement {
	return statement{Name: "read vehicle", Roles: Ingest | Admin, SQL: selectVehicle + `WHERE id = $1`}
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

// SetSeen notes when a vehicle's submission was accepted.
func (t *Tx) SetSeen(ctx context.Context, vehicle string, at time.Time) error {
	return t.tx.ExecOne(ctx, setSeen(), at.Unix(), vehicle)
}

func setSeen() statement {
	return statement{Name: "note vehicle", Roles: Ingest, SQL: `UPDATE vehicles SET last_seen_s = $1 WHERE id = $2`}
}
