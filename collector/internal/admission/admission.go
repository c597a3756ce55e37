// Package admission keeps, among the collector's records, which vehicles may connect and how: the token that is good for one enrolment, the
// device key that came in exchange, the end of the last certificate, and whether the vehicle is revoked; and for whose account a vehicle is
// registered, of what model it is, and what accounts there are.
//
// On PostgreSQL who takes enrolments has no right to write these columns: two functions of the owner's do it, which check everything again.
// The table belongs to package store's schema, whose transactions embed a Book. Whether a request is granted is package enrolment's question.
package admission

import (
	"context"
	"time"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
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

type statement = firewall.Statement

// Statements returns all statements of the package.
func Statements() []firewall.Statement {
	return []firewall.Statement{enrolment(), allEnrolments(), setToken(), enrol(), renew(), revokeVehicle(), changedVehicles(),
		owners(), owner(), ownedVehicles(), setOwner(), setModel()}
}

const selectEnrolment = `SELECT id, device, token_hash, token_expires_s, certificate_until_s, revoked FROM vehicles `

// A Book is who may connect, within one transaction.
type Book struct{ tx *database.Tx }

// In returns who may connect as a transaction sees it.
func In(tx *database.Tx) Book { return Book{tx} }

func scanEnrolment(e *Enrolment, scan database.Scanner) error {
	var expires, until int64
	err := scan(&e.Vehicle, database.Optional(e.Device[:]), database.Optional(e.Token[:]), &expires, &until, database.Flag(&e.Revoked))
	e.Expires, e.Until = seconds(expires), seconds(until)
	return err
}

func seconds(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0).UTC()
}

// Enrolment returns how a vehicle may connect, or ErrNotFound.
func (b Book) Enrolment(ctx context.Context, vehicle string) (Enrolment, error) {
	return database.One(ctx, b.tx, enrolment(), scanEnrolment, vehicle)
}

func enrolment() statement {
	return statement{Name: "read enrolment", Roles: firewall.Ingest | firewall.Admin, SQL: selectEnrolment + `WHERE id = $1`}
}

// Enrolments returns how all vehicles may connect, in the order of their names.
func (b Book) Enrolments(ctx context.Context) ([]Enrolment, error) {
	return database.List(ctx, b.tx, allEnrolments(), scanEnrolment)
}

func allEnrolments() statement {
	return statement{Name: "read enrolments", Roles: firewall.Admin, SQL: selectEnrolment + `ORDER BY id`}
}

// SetToken lets a vehicle that is not revoked enrol with another token than before.
func (b Book) SetToken(ctx context.Context, vehicle string, token wire.Hash, expires time.Time) error {
	return b.tx.ExecOne(ctx, setToken(), token[:], expires.Unix(), vehicle)
}

func setToken() statement {
	return statement{Name: "set token", Roles: firewall.Admin, SQL: `UPDATE vehicles SET token_hash = $1, token_expires_s = $2 WHERE id = $3 AND revoked = 0`}
}

// Enrol gives a vehicle its device key in exchange for its token, which is good no more. It is ErrNotFound when the token is another or the
// vehicle is revoked. PostgreSQL also refuses, by its own clock, a token that has expired and a certificate that does not end within 30
// days, and an ECU's key as device key.
func (b Book) Enrol(ctx context.Context, vehicle string, token wire.Hash, device wire.PublicKey, until time.Time) error {
	return b.tx.ExecOne(ctx, enrol(), device[:], until.Unix(), vehicle, token[:])
}

const nextChange = `changed = (SELECT coalesce(max(changed), 0) + 1 FROM vehicles WHERE changed > 0)`

func enrol() statement {
	return statement{Name: "enrol vehicle", Roles: firewall.Ingest,
		SQL: `UPDATE vehicles SET device = $1, certificate_until_s = $2, token_hash = NULL, token_expires_s = 0, ` + nextChange + `
			WHERE id = $3 AND token_hash = $4 AND revoked = 0`,
		Postgres: `SELECT n FROM enrol_vehicle($1, $2, $3, $4) AS n`}
}

// Renew notes until when a vehicle's certificate for its device key is good. It is ErrNotFound when the key is another or the vehicle is
// revoked. PostgreSQL also refuses, by its own clock, a certificate that does not end within 30 days, and one that comes more than 24 months after
// the last.
func (b Book) Renew(ctx context.Context, vehicle string, device wire.PublicKey, until time.Time) error {
	return b.tx.ExecOne(ctx, renew(), until.Unix(), vehicle, device[:])
}

func renew() statement {
	return statement{Name: "renew certificate", Roles: firewall.Ingest,
		SQL:      `UPDATE vehicles SET certificate_until_s = $1 WHERE id = $2 AND device = $3 AND revoked = 0`,
		Postgres: `SELECT n FROM renew_certificate($1, $2, $3) AS n`}
}

// RevokeVehicle keeps a vehicle from connecting and enrolling, for good.
func (b Book) RevokeVehicle(ctx context.Context, vehicle string) error {
	return b.tx.ExecOne(ctx, revokeVehicle(), vehicle)
}

func revokeVehicle() statement {
	return statement{Name: "revoke vehicle", Roles: firewall.Admin,
		SQL: `UPDATE vehicles SET revoked = 1, token_hash = NULL, token_expires_s = 0, ` + nextChange + ` WHERE id = $1 AND revoked = 0`}
}

// Changes returns the vehicles for which the device key with which they may connect changed after a serial number, at most 1,000 in the order of
// the changes, and the serial number of the last of these; none when nothing did. The first serial number is 1.
func (b Book) Changes(ctx context.Context, since int64) (vehicles []string, serial int64, err error) {
	err = b.tx.Each(ctx, changedVehicles(), []any{since}, func(scan database.Scanner) error {
		var v string
		err := scan(&v, &serial)
		vehicles = append(vehicles, v)
		return err
	})
	return vehicles, serial, err
}

func changedVehicles() statement {
	return statement{Name: "read changed vehicles", Roles: firewall.Ingest,
		SQL: `SELECT id, changed FROM vehicles WHERE changed > $1 AND changed > 0 ORDER BY changed LIMIT 1000`}
}
