package store

import (
	"context"
	"crypto/rand"
	"time"

	"rawstone/collector/internal/database"
	"rawstone/pkg/wire"
)

// An Account owns vehicles and stones.
type Account struct {
	// ID is opaque: it says nothing about the owner.
	ID string
	// Secret blinds the account's pseudonyms.
	Secret [32]byte
}

// A Vehicle is registered and belongs to one account.
type Vehicle struct {
	ID      string
	Account string
	// Device is the key that signs the vehicle's usage reports.
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
	return t.tx.ExecOne(ctx, "add account", `INSERT INTO accounts (id, secret) VALUES ($1, $2)`, id, secret[:])
}

// HasAccount reports whether there is an account of that name.
func (t *Tx) HasAccount(ctx context.Context, id string) (has bool, err error) {
	err = t.tx.Get(ctx, "read account", `SELECT count(*) FROM accounts WHERE id = $1`, []any{id}, &has)
	return has, err
}

// AddVehicle adds a vehicle; its account must be there.
func (t *Tx) AddVehicle(ctx context.Context, v Vehicle) error {
	return t.tx.ExecOne(ctx, "add vehicle", `INSERT INTO vehicles (id, account, device, added_day) VALUES ($1, $2, $3, $4)`,
		v.ID, v.Account, v.Device[:], int64(v.AddedDay))
}

const selectVehicle = `SELECT id, account, device, added_day, last_seen_s FROM vehicles `

func scanVehicle(v *Vehicle, scan database.Scanner) error {
	var seen int64
	if err := scan(&v.ID, &v.Account, database.Fixed(v.Device[:]), &v.AddedDay, &seen); err != nil {
		return err
	}
	if seen != 0 {
		v.LastSeen = time.Unix(seen, 0).UTC()
	}
	return nil
}

// Vehicle returns a vehicle, or ErrNotFound.
func (t *Tx) Vehicle(ctx context.Context, id string) (Vehicle, error) {
	return database.One(ctx, t.tx, "read vehicle", scanVehicle, selectVehicle+`WHERE id = $1`, id)
}

// VehicleOfDevice returns the vehicle that a device key is registered for, or ErrNotFound.
func (t *Tx) VehicleOfDevice(ctx context.Context, device wire.PublicKey) (Vehicle, error) {
	return database.One(ctx, t.tx, "read vehicle", scanVehicle, selectVehicle+`WHERE device = $1`, device[:])
}

// Vehicles returns all vehicles in the order of their names.
func (t *Tx) Vehicles(ctx context.Context) ([]Vehicle, error) {
	return database.List(ctx, t.tx, "read vehicles", scanVehicle, selectVehicle+`ORDER BY id`)
}

// SetSeen notes when a vehicle's submission was accepted.
func (t *Tx) SetSeen(ctx context.Context, vehicle string, at time.Time) error {
	return t.tx.ExecOne(ctx, "note vehicle", `UPDATE vehicles SET last_seen_s = $1 WHERE id = $2`, at.Unix(), vehicle)
}
