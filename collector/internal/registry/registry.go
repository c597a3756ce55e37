// Package registry runs the errands of the commands that administer vehicles and attestation ECUs: it reads the files that they name,
// opens the records and asks package identity, which decides.
//
// It may be used while the collector runs. It writes no file but that of the tokens of a list of vehicles.
package registry

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"rawstone/collector/internal/admission"
	"rawstone/collector/internal/estate"
	"rawstone/collector/internal/identity"
	"rawstone/collector/internal/store"
	"rawstone/pkg/attest"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Config says what is administered; every field is required.
type Config struct {
	// Records says where the collector's records are; they are opened for the role Admin.
	Records store.Config
	// Program is the program's identifier and Timing its clock's.
	Program wire.Hash
	Timing  terms.Timing
	// ECUCA holds the authorities that certify ECUs: ca.Pool.
	ECUCA *x509.CertPool
	// TokenLife is how long a token for enrolment is good.
	TokenLife time.Duration
	Now       func() time.Time
}

// A Desk does errands. It is used by one goroutine and closed at the end.
type Desk struct {
	db    *store.DB
	r     *identity.Registry
	now   func() time.Time
	rules estate.Rules
}

// Open opens the records.
func Open(ctx context.Context, cfg Config) (*Desk, error) {
	db, err := store.Open(ctx, cfg.Records)
	if err != nil {
		return nil, err
	}
	r, err := identity.New(identity.Config{
		DB: db, Program: cfg.Program, Clock: terms.Clock{Timing: cfg.Timing, Now: cfg.Now}, ECUCA: cfg.ECUCA,
		TokenLife: cfg.TokenLife,
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	rules := estate.Rules{ID: cfg.Program, Program: &terms.Program{Timing: cfg.Timing}} // of which a change of an account needs the log's day
	return &Desk{db, r, cfg.Now, rules}, nil
}

// Close closes the records.
func (d *Desk) Close() error { return d.db.Close() }

// An ECU names the files of an attestation ECU that is to be bound.
type ECU struct {
	// Key is the file with its identity, Certificate the one with its certificate in PEM.
	Key, Certificate string
}

// A Vehicle is what is to be registered.
type Vehicle struct {
	// ID names the vehicle.
	ID string
	// ECUKey and ECUCert are the files of its attestation ECU, as in ECU.
	ECUKey, ECUCert string
	// Account names an existing account; empty for a new one.
	Account string
	// Model is the vehicle's model; empty for unknown.
	Model string
}

// AddVehicle registers a vehicle and returns its account and the token with which it may enrol.
func (d *Desk) AddVehicle(ctx context.Context, v Vehicle) (account, token string, err error) {
	ecu, err := readECU(ECU{v.ECUKey, v.ECUCert})
	if err != nil {
		return "", "", err
	}
	return d.r.Add(ctx, identity.Vehicle{ID: v.ID, Identity: ecu.Identity, Certificate: ecu.Certificate, Account: v.Account, Model: v.Model})
}

// SetModel says of what model a registered vehicle is.
func (d *Desk) SetModel(ctx context.Context, vehicle, model string) error {
	err := admission.CheckModel(model)
	if err == nil {
		err = d.db.Update(ctx, func(tx *store.Tx) error {
			if err := tx.RefuseModel(ctx, model); err != nil {
				return err
			}
			return tx.SetModel(ctx, vehicle, model)
		})
	}
	if errors.Is(err, store.ErrNotFound) {
		err = errors.New("it is not registered: add it first")
	}
	if err != nil {
		return fmt.Errorf("cannot set model of vehicle %s: %w", vehicle, err)
	}
	return nil
}

// Token returns a new token with which a vehicle may enrol until the returned time.
func (d *Desk) Token(ctx context.Context, vehicle string) (token string, expires time.Time, err error) {
	return d.r.Token(ctx, vehicle)
}

// RevokeVehicle keeps a vehicle from connecting and enrolling for good.
func (d *Desk) RevokeVehicle(ctx context.Context, vehicle string) error {
	return d.r.RevokeVehicle(ctx, vehicle)
}

// Bind binds an ECU to a registered vehicle that has none.
func (d *Desk) Bind(ctx context.Context, vehicle string, e ECU) error {
	ecu, err := readECU(e)
	if err != nil {
		return err
	}
	return d.r.Bind(ctx, vehicle, ecu)
}

// Release ends a vehicle's binding at the snapshot in the file final, the ECU's last identity, or at its head when there is no such file.
func (d *Desk) Release(ctx context.Context, vehicle, final string) (h identity.Handover, err error) {
	last, err := readFinal(final)
	if err != nil {
		return h, err
	}
	return d.r.Release(ctx, vehicle, last)
}

// Replace ends a vehicle's binding as Release does and binds another ECU.
func (d *Desk) Replace(ctx context.Context, vehicle, final string, e ECU) (h identity.Handover, err error) {
	last, err := readFinal(final)
	if err != nil {
		return h, err
	}
	ecu, err := readECU(e)
	if err != nil {
		return h, err
	}
	return d.r.Replace(ctx, vehicle, last, ecu)
}

// Revoke revokes the key with an identifier in hexadecimal or, when that is empty, the key of the identity in a file.
func (d *Desk) Revoke(ctx context.Context, id, key string) (h identity.Handover, err error) {
	var of wire.KeyID
	if id != "" {
		b, err := hex.DecodeString(id)
		if err != nil || len(b) != len(of) {
			return h, fmt.Errorf("cannot revoke ECU key %q: a key's identifier is %d hexadecimal digits, as `collector ecu list` prints it", id, 2*len(of))
		}
		of = wire.KeyID(b)
	} else {
		whose, err := ReadIdentity(key)
		if err != nil {
			return h, err
		}
		of = whose.Key.ID()
	}
	return d.r.Revoke(ctx, of)
}

// readFinal reads the last identity of an ECU that is handed over; an empty path stands for none.
func readFinal(path string) (*attest.Identity, error) {
	if path == "" {
		return nil, nil
	}
	return ReadIdentity(path)
}

// ReadIdentity reads the file that an ECU made of its identity.
func ReadIdentity(path string) (*attest.Identity, error) {
	text, err := terms.ReadDocument(path)
	if err != nil {
		return nil, fmt.Errorf("cannot use ECU identity: %w; give the file that the ECU's initialisation wrote", err)
	}
	id, err := attest.ParseIdentity(text)
	if err != nil {
		return nil, fmt.Errorf("cannot use ECU identity %s: %w", path, err)
	}
	return id, nil
}

func readECU(e ECU) (identity.ECU, error) {
	id, err := ReadIdentity(e.Key)
	if err != nil {
		return identity.ECU{}, err
	}
	certificate, err := terms.ReadDocument(e.Certificate)
	if err != nil {
		return identity.ECU{}, fmt.Errorf("cannot use ECU certificate: %w; give the one that the ECU's manufacturer issued", err)
	}
	return identity.ECU{Identity: *id, Certificate: certificate}, nil
}
