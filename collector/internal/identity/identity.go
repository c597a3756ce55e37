// Package identity is the registry of vehicles: which ECU key and which device key speak for which vehicle, and whose account it
// earns for.
//
// Registering a vehicle takes the identity file that the end-of-line tester read from its attestation ECU and binds that key to
// the vehicle. The binding's first head is logged; nothing that the ECU counted before it is ever credited. A vehicle, an ECU key
// and a device key are each registered at most once.
//
// The package refuses an identity of another program or without its key's signature. It cannot know whether the ECU exists: who
// may run it certifies that.
package identity

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"rawstone/collector/internal/store"
	"rawstone/pkg/attest"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// MaxAccountLen bounds an account's name in bytes.
const MaxAccountLen = 64

// Config says what the registry works on; every field is required.
type Config struct {
	DB *store.DB
	// Program is the identifier of the program that ECUs must sign for.
	Program wire.Hash
	Clock   terms.Clock
}

// A Registry registers vehicles. It may be used from several goroutines.
type Registry struct{ cfg Config }

// New returns a registry.
func New(cfg Config) (*Registry, error) {
	if cfg.DB == nil || cfg.Program.IsZero() || cfg.Clock.Now == nil || cfg.Clock.DayS == 0 {
		return nil, errors.New("cannot make vehicle registry: database, program or clock missing")
	}
	return &Registry{cfg}, nil
}

// A Vehicle is what is registered.
type Vehicle struct {
	// ID names the vehicle: wire.CheckVehicle.
	ID string
	// Identity is what the end-of-line tester read from its attestation ECU.
	Identity attest.Identity
	// Device signs its usage reports.
	Device wire.PublicKey
	// Account names an existing account; when empty, the vehicle gets one of its own.
	Account string
}

// Add registers a vehicle and returns its account. Refusals say what stands in the way.
func (r *Registry) Add(ctx context.Context, v Vehicle) (account string, err error) {
	if err := r.check(v); err != nil {
		return "", fmt.Errorf("cannot add vehicle %s: %w", v.ID, err)
	}
	err = r.cfg.DB.Update(ctx, func(tx *store.Tx) error {
		if err := free(ctx, tx, v); err != nil {
			return err
		}
		if account, err = open(ctx, tx, v.Account); err != nil {
			return err
		}
		err := tx.AddVehicle(ctx, store.Vehicle{ID: v.ID, Account: account, Device: v.Device, AddedDay: r.cfg.Clock.Today()})
		if err != nil {
			return err
		}
		return tx.AddBinding(ctx, ledger.BindingOpening{
			Vehicle: v.ID, Account: account, ECU: v.Identity.Key, Head: v.Identity.Snapshot.Head(),
		})
	})
	if err != nil {
		return "", fmt.Errorf("cannot add vehicle %s: %w", v.ID, err)
	}
	return account, nil
}

// check looks at what needs no records.
func (r *Registry) check(v Vehicle) error {
	if err := wire.CheckVehicle(v.ID); err != nil {
		return err
	}
	if v.Identity.Program != r.cfg.Program {
		return errors.New("its ECU belongs to another program: let the ECU make an identity for this one")
	}
	ecu, err := v.Identity.Key.Key()
	if err != nil {
		return fmt.Errorf("ECU key: %w", err)
	}
	if err := attest.Verify(ecu, r.cfg.Program, v.Identity.Snapshot); err != nil {
		return fmt.Errorf("ECU identity: %w", err)
	}
	if today := r.cfg.Clock.Today(); v.Identity.Snapshot.Day > today+1 {
		return fmt.Errorf("its ECU says day %d and today is day %d: set the ECU's clock and make its identity again",
			v.Identity.Snapshot.Day, today)
	}
	if _, err := v.Device.Key(); err != nil {
		return fmt.Errorf("device key: %w", err)
	}
	if v.Device == v.Identity.Key {
		return errors.New("its device key is its ECU's key: the agent must not hold the ECU's key")
	}
	if len(v.Account) > MaxAccountLen || strings.ContainsFunc(v.Account, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return fmt.Errorf("account name must be at most %d printable ASCII characters without spaces", MaxAccountLen)
	}
	return nil
}

// free checks that neither vehicle nor keys are registered.
func free(ctx context.Context, tx *store.Tx, v Vehicle) error {
	if _, err := tx.Vehicle(ctx, v.ID); err == nil {
		return errors.New("it is already registered")
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if k, err := tx.Key(ctx, v.Identity.Key.ID()); err == nil {
		return fmt.Errorf("its ECU key is already bound to vehicle %s", k.Vehicle)
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if other, err := tx.VehicleOfDevice(ctx, v.Device); err == nil {
		return fmt.Errorf("its device key is already registered for vehicle %s", other.ID)
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}

// open returns the named account, which must exist, or makes one.
func open(ctx context.Context, tx *store.Tx, name string) (string, error) {
	if name == "" {
		name = "A" + rand.Text()
		return name, tx.AddAccount(ctx, name)
	}
	has, err := tx.HasAccount(ctx, name)
	if err != nil {
		return "", err
	}
	if !has {
		return "", fmt.Errorf("there is no account %s: leave the account out to make one", name)
	}
	return name, nil
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
