package daemon

import (
	"context"
	"errors"
	"time"

	"rawstone/collector/internal/evidence/auditor"
	"rawstone/collector/internal/genesis"
	"rawstone/collector/internal/program"
	"rawstone/collector/internal/registry"
	"rawstone/collector/internal/stones"
	"rawstone/collector/internal/store"
	"rawstone/pkg/audit"
	"rawstone/pkg/wire"
)

// Init begins a development program from its source and returns its identifier.
func Init(source, dir string, now func() time.Time) (wire.Hash, error) {
	return genesis.Init(genesis.Config{Source: source, Dir: dir, Now: now})
}

// Administer opens the registry of vehicles and ECUs for one errand. It may be called while the collector runs.
func Administer(ctx context.Context, cfg *Config, now func() time.Time, do func(*registry.Desk) error) (err error) {
	p, err := program.Open(&cfg.Program, cfg.Environment)
	if err != nil {
		return err
	}
	records, err := cfg.Store(store.Admin)
	if err != nil {
		return err
	}
	d, err := registry.Open(ctx, registry.Config{
		Records: records, Program: p.ProgramID, Timing: p.Timing, ECUCA: p.ECUCA, Now: now,
		TokenLife: time.Duration(cfg.Vehicles.TokenDays) * 24 * time.Hour,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return do(d)
}

// A Vehicle is what is to be registered.
type Vehicle = registry.Vehicle

// AddVehicle registers a vehicle and returns its account and the token with which it may enrol.
func AddVehicle(ctx context.Context, cfg *Config, v Vehicle, now func() time.Time) (account, token string, err error) {
	err = Administer(ctx, cfg, now, func(d *registry.Desk) (err error) {
		account, token, err = d.AddVehicle(ctx, v)
		return err
	})
	return account, token, err
}

// RevokeVehicle keeps a vehicle from connecting and enrolling for good, as `collector vehicle revoke` does.
func RevokeVehicle(ctx context.Context, cfg *Config, vehicle string, now func() time.Time) error {
	return Administer(ctx, cfg, now, func(d *registry.Desk) error { return d.RevokeVehicle(ctx, vehicle) })
}

// Migrate brings records in PostgreSQL up to date, as `collector migrate` does: records.Config.Migrate.
func Migrate(ctx context.Context, cfg *Config, ownerURL string) error {
	return cfg.Records.Migrate(ctx, ownerURL)
}

// WriteOpenings writes what the auditor needs to see behind the ledger's blinded entries: stones.Write.
func WriteOpenings(ctx context.Context, cfg *Config, path string) error {
	records, err := cfg.Store(store.Audit)
	if err != nil {
		return err
	}
	return stones.Write(ctx, records, path)
}

// Audit replays a ledger from nothing: auditor.Audit.
func Audit(ctx context.Context, dir, root, openings string) (audit.Report, error) {
	r, err := auditor.Audit(ctx, auditor.Config{Ledger: dir, Root: root, Openings: openings})
	return r.Report, err
}
