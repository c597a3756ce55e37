package daemon

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"rawstone/collector/internal/evidence"
	"rawstone/collector/internal/genesis"
	"rawstone/collector/internal/registry"
	"rawstone/collector/internal/stones"
	"rawstone/pkg/audit"
	"rawstone/pkg/wire"
)

// Records returns the path of the collector's records.
func (c *Config) Records() string { return filepath.Join(c.StateDir, recordsFile) }

// Init begins a development program from its source and returns its identifier.
func Init(source, dir string, now func() time.Time) (wire.Hash, error) {
	return genesis.Init(genesis.Config{Source: source, Dir: dir, Now: now})
}

// Administer opens the registry of vehicles and ECUs for one errand. It may be called while the collector runs.
func Administer(ctx context.Context, cfg *Config, now func() time.Time, do func(*registry.Desk) error) (err error) {
	p, err := openProgram(cfg)
	if err != nil {
		return err
	}
	d, err := registry.Open(ctx, registry.Config{
		Records: cfg.Records(), Program: p.ProgramID, Timing: p.Timing, ECUCA: p.ecuCA, Now: now,
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

// WriteOpenings writes what the auditor needs to see behind the ledger's blinded entries: stones.Write.
func WriteOpenings(ctx context.Context, cfg *Config, path string) error {
	return stones.Write(ctx, cfg.Records(), path)
}

// Audit replays a ledger from nothing: evidence.Audit.
func Audit(ctx context.Context, dir, root, openings string) (audit.Report, error) {
	return evidence.Audit(ctx, dir, root, openings)
}
