package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"rawstone/collector/internal/database"
	"rawstone/pkg/wire"
)

// An Enrolment says how a registered vehicle may connect.
type Enrolment struct {
	Vehicle string
	// Device is the device key that it enrolled with; zero before it has.
	Device wire.PublicKey
	// Token is the hash of the token with which it may enrol, good until Expires, in whole seconds; zero when there is none.
	Token   wire.Hash
	Expires time.Time
	// Until is when its last certificate ends, in whole seconds; zero before there was any.
	Until time.Time
	// Revoked is for good.
	Revoked bool
}

// enrolments returns the statements of this file.
func enrolments() []statement {
	return []statement{enrolment(), allEnrolments(), setToken(), enrol(), renew(), revokeVehicle(), changedVehicles()}
}

const selectEnrolment = `SELECT id, device, token_hash, token_expires_s, certificate_until_s, revoked FROM vehicles `

func scanEnrolment(e *Enrolment, scan database.Scanner) error {
	var expires, until int64
	err := scan(&e.Vehicle, optional(e.Device[:]), optional(e.Token[:]), &expires, &until, database.Flag(&e.Revoked))
	e.Expires, e.Until = seconds(expires), seconds(until)
	return err
}

// optional scans a blob into an array of its length, which stays as it is where the column is NULL.
func optional(array []byte) sql.Scanner { return blob(array) }

type blob []byte

func (b blob) Scan(v any) error {
	if v == nil {
		return nil
	}
	return database.Fixed(b).Scan(v)
}

func seconds(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0).UTC()
}

// Enrolment returns how a vehicle may connect, or ErrNotFound.
func (t *Tx) Enrolment(ctx context.Context, vehicle string) (Enrolment, error) {
	return database.One(ctx, t.tx, enrolment(), scanEnrolment, vehicle)
}

func enrolment() statement {
	return statement{Name: "read enrolment", Roles: Ingest | Admin, SQL: selectEnrolment + `WHERE id = $1`}
}

// Enrolments returns how all vehicles may connect, in the order of their names.
func (t *Tx) Enrolments(ctx context.Context) ([]Enrolment, error) {
	return database.List(ctx, t.tx, allEnrolments(), scanEnrolment)
}

func allEnrolments() statement {
	return statement{Name: "read enrolments", Roles: Admin, SQL: selectEnrolment + `ORDER BY id`}
}

// SetToken lets a vehicle that is not revoked enrol with another token than before.
func (t *Tx) SetToken(ctx context.Context, vehicle string, token wire.Hash, expires time.Time) error {
	return t.tx.ExecOne(ctx, setToken(), token[:], expires.Unix(), vehicle)
}

func setToken() statement {
	return statement{Name: "set token", Roles: Admin, SQL: `UPDATE vehicles SET token_hash = $1, token_expires_s = $2 WHERE id = $3 AND revoked = 0`}
}

// Enrol gives a vehicle its device key in exchange for its token, which is good no more.
func (t *Tx) Enrol(ctx context.Context, vehicle string, token wire.Hash, device wire.PublicKey, until time.Time) error {
	return t.tx.ExecOne(ctx, enrol(), device[:], until.Unix(), vehicle, token[:])
}

const nextChange = `changed = (SELECT coalesce(max(changed), 0) + 1 FROM vehicles)`

func enrol() statement {
	return statement{Name: "enrol vehicle", Roles: Ingest,
		SQL: `UPDATE vehicles SET device = $1, certificate_until_s = $2, token_hash = NULL, token_expires_s = 0, ` + nextChange + `
			WHERE id = $3 AND token_hash = $4 AND revoked = 0`}
}

// Renew notes until when a vehicle's certificate for its device key is good.
func (t *Tx) Renew(ctx context.Context, vehicle string, device wire.PublicKey, until time.Time) error {
	return t.tx.ExecOne(ctx, renew(), until.Unix(), vehicle, device[:])
}

func renew() statement {
	return statement{Name: "renew certificate", Roles: Ingest,
		SQL: `UPDATE vehicles SET certificate_until_s = $1 WHERE id = $2 AND device = $3 AND revoked = 0`}
}

// RevokeVehicle keeps a vehicle from connecting and enrolling, for good.
func (t *Tx) RevokeVehicle(ctx context.Context, vehicle string) error {
	return t.tx.ExecOne(ctx, revokeVehicle(), vehicle)
}

func revokeVehicle() statement {
	return statement{Name: "revoke vehicle", Roles: Admin,
		SQL: `UPDATE vehicles SET revoked = 1, token_hash = NULL, token_expires_s = 0, ` + nextChange + ` WHERE id = $1 AND revoked = 0`}
}

// Device returns the device key with which a vehicle may connect; ok is false for one that is not registered, has not enrolled or is
// revoked.
func (d *DB) Device(ctx context.Context, vehicle string) (key wire.PublicKey, ok bool, err error) {
	err = d.View(ctx, func(tx *Tx) error {
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
	err = d.View(ctx, func(tx *Tx) error {
		return tx.tx.Each(ctx, changedVehicles(), []any{since}, func(scan database.Scanner) error {
			var v string
			err := scan(&v, &serial)
			vehicles = append(vehicles, v)
			return err
		})
	})
	return vehicles, serial, err
}

func changedVehicles() statement {
	return statement{Name: "read changed vehicles", Roles: Ingest,
		SQL: `SELECT id, changed FROM vehicles WHERE changed > $1 AND changed > 0 ORDER BY changed LIMIT 1000`}
}
