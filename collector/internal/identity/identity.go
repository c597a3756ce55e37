// Package identity is the registry of vehicles: which ECU key speaks for which vehicle, whose account it earns for, and who may enrol.
//
// Registering a vehicle takes the identity file that the end-of-line tester read from its attestation ECU and binds that key to the
// vehicle. The binding's first head is logged; nothing that the ECU counted before it is ever credited. A vehicle is registered once; it
// gets a token with which it may enrol (package enrolment), and another one when an operator asks for it, until it is revoked. An ECU key is bound to one vehicle at a time, and a vehicle to one key: a hand-over, which is logged too, ends a
// binding, and the key may be bound again from its cut on. A revoked key is bound never again. A car that is sold keeps its ECU: a transfer
// ends the binding and opens another of the same key and vehicle, to the buyer's account.
//
// The package refuses an identity of another program or without its key's signature, and a key without a certificate from the
// manufacturer. It does not stop a vehicle from claiming, under a binding that ended, what lies before the cut.
package identity

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"rawstone/collector/internal/admission"
	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/store"
	"rawstone/pkg/attest"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Config says what the registry works on; every field is required.
type Config struct {
	DB *store.DB
	// Program is the identifier of the program that ECUs must sign for.
	Program wire.Hash
	Clock   terms.Clock
	// ECUCA holds the authorities that may certify ECUs' keys: ca.Pool.
	ECUCA *x509.CertPool
	// TokenLife is how long a token for enrolment is good.
	TokenLife time.Duration
}

// A Registry registers vehicles. It may be used from several goroutines.
type Registry struct{ cfg Config }

// New returns a registry.
func New(cfg Config) (*Registry, error) {
	if cfg.DB == nil || cfg.Program.IsZero() || cfg.Clock.Now == nil || cfg.Clock.DayS == 0 {
		return nil, errors.New("cannot make vehicle registry: database, program or clock missing")
	}
	if cfg.ECUCA == nil {
		return nil, errors.New("cannot make vehicle registry: no authority for ECU certificates given")
	}
	if cfg.TokenLife <= 0 {
		return nil, errors.New("cannot make vehicle registry: no life of tokens given")
	}
	return &Registry{cfg}, nil
}

// An ECU is an attestation ECU that is to be bound.
type ECU struct {
	// Identity is what the tester read from it.
	Identity attest.Identity
	// Certificate is the manufacturer's, in PEM: ca.CheckECU.
	Certificate []byte
}

// A Vehicle is what is registered.
type Vehicle struct {
	// ID names the vehicle: wire.CheckVehicle.
	ID string
	// Identity and Certificate are its attestation ECU's, as in ECU.
	Identity    attest.Identity
	Certificate []byte
	// Account names an existing account; when empty, the vehicle gets one of its own.
	Account string
	// Model is by which usage statistics are told apart: admission.CheckModel.
	Model string
}

// Add registers a vehicle and returns its account and the token with which it may enrol. Refusals say what stands in the way.
func (r *Registry) Add(ctx context.Context, v Vehicle) (account, token string, err error) {
	if err := r.check(v); err != nil {
		return "", "", fmt.Errorf("cannot add vehicle %s: %w", v.ID, err)
	}
	err = r.cfg.DB.Update(ctx, func(tx *store.Tx) error {
		if _, err := tx.Vehicle(ctx, v.ID); err == nil {
			return errors.New("it is already registered: to give it another ECU, `collector ecu replace`")
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		account, token, err = r.add(ctx, tx, v)
		return err
	})
	if err != nil {
		return "", "", fmt.Errorf("cannot add vehicle %s: %w", v.ID, err)
	}
	return account, token, nil
}

// add registers a checked vehicle that is not registered.
func (r *Registry) add(ctx context.Context, tx *store.Tx, v Vehicle) (account, token string, err error) {
	if account, err = open(ctx, tx, v.Account); err != nil {
		return "", "", err
	}
	added := store.Vehicle{ID: v.ID, Account: account, AddedDay: r.cfg.Clock.Today(), Model: v.Model}
	if err := tx.AddVehicle(ctx, added); err != nil {
		return "", "", err
	}
	if err := tx.RefuseModel(ctx, v.Model); err != nil { // it may be this vehicle's own id
		return "", "", err
	}
	if token, err = r.newToken(ctx, tx, v.ID); err != nil {
		return "", "", err
	}
	return account, token, bind(ctx, tx, added, ECU{v.Identity, v.Certificate})
}

// check looks at what needs no records.
func (r *Registry) check(v Vehicle) error {
	if err := wire.CheckVehicle(v.ID); err != nil {
		return err
	}
	if err := r.checkECU(ECU{v.Identity, v.Certificate}); err != nil {
		return err
	}
	return cmp.Or(admission.CheckModel(v.Model), CheckAccount(v.Account))
}

// checkECU checks an ECU's identity and certificate.
func (r *Registry) checkECU(e ECU) error {
	if err := r.checkIdentity(e.Identity); err != nil {
		return err
	}
	return ca.CheckECU(r.cfg.ECUCA, e.Certificate, e.Identity.Key, r.cfg.Clock.Now())
}

func (r *Registry) checkIdentity(id attest.Identity) error {
	if id.Program != r.cfg.Program {
		return errors.New("its ECU belongs to another program: let the ECU make an identity for this one")
	}
	key, err := id.Key.Key()
	if err != nil {
		return fmt.Errorf("ECU key: %w", err)
	}
	if err := attest.Verify(key, r.cfg.Program, id.Snapshot); err != nil {
		return fmt.Errorf("ECU identity: %w", err)
	}
	if today := r.cfg.Clock.Today(); id.Snapshot.Day > today+1 {
		return fmt.Errorf("its ECU says day %d and today is day %d: set the ECU's clock and make its identity again", id.Snapshot.Day, today)
	}
	return nil
}

// bind opens a binding of a checked ECU's key to a vehicle that has none.
func bind(ctx context.Context, tx *store.Tx, v store.Vehicle, e ECU) error {
	key := e.Identity.Key
	if other, err := tx.VehicleOfDevice(ctx, key); err == nil {
		return fmt.Errorf("its ECU key is the device key of vehicle %s: the agent must not hold an ECU's key", other.ID)
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if b, err := tx.OpenBinding(ctx, v.ID); err == nil {
		return fmt.Errorf("it is bound to ECU key %s: release that first, or replace it", b.ECU.ID())
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	all, err := tx.KeyBindings(ctx, key.ID())
	if err != nil {
		return err
	}
	if err := belowErased(ctx, tx, e.Identity); err != nil {
		return err
	}
	if len(all) > 0 {
		switch last := all[len(all)-1]; {
		case last.Revoked:
			return errors.New("its ECU key is revoked")
		case !last.Closed:
			return fmt.Errorf("its ECU key is already bound to vehicle %s: release it there first", last.Vehicle)
		case e.Identity.Snapshot.Seq < last.Cut:
			return fmt.Errorf("its ECU's identity is snapshot %d, and its key was handed over at snapshot %d: make its identity again",
				e.Identity.Snapshot.Seq, last.Cut)
		}
	}
	if err := tx.AddECU(ctx, key, e.Certificate); err != nil {
		return err
	}
	s := e.Identity.Snapshot
	return tx.AddBinding(ctx, ledger.BindingOpening{Vehicle: v.ID, Account: v.Account, ECU: key, Head: s.Head(), Signature: s.Signature})
}

// Get returns a vehicle, or an error that wraps store.ErrNotFound.
func (r *Registry) Get(ctx context.Context, id string) (v store.Vehicle, err error) {
	err = r.cfg.DB.View(ctx, func(tx *store.Tx) error {
		v, err = tx.Vehicle(ctx, id)
		return err
	})
	return v, err
}

// List returns all vehicles in the order of their names.
func (r *Registry) List(ctx context.Context) (vs []store.Vehicle, err error) {
	err = r.cfg.DB.View(ctx, func(tx *store.Tx) error {
		vs, err = tx.Vehicles(ctx)
		return err
	})
	return vs, err
}
