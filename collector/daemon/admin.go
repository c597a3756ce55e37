package daemon

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rawstone/collector/internal/genesis"
	"rawstone/collector/internal/identity"
	"rawstone/collector/internal/stones"
	"rawstone/collector/internal/store"
	"rawstone/pkg/attest"
	"rawstone/pkg/audit"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Records returns the path of the collector's records.
func (c *Config) Records() string { return filepath.Join(c.StateDir, recordsFile) }

// Init begins a development program from its source and returns its identifier.
func Init(source, dir string, now func() time.Time) (wire.Hash, error) {
	return genesis.Init(genesis.Config{Source: source, Dir: dir, Now: now})
}

// A Vehicle is what is to be registered.
type Vehicle struct {
	// ID names the vehicle.
	ID string
	// ECUKey is the file with the identity of its attestation ECU, DeviceKey the one with its device key's public half.
	ECUKey, DeviceKey string
	// Account names an existing account; empty for a new one.
	Account string
}

// AddVehicle registers a vehicle and returns its account. It may be called while the collector runs.
func AddVehicle(ctx context.Context, cfg *Config, v Vehicle, now func() time.Time) (account string, err error) {
	err = administer(ctx, cfg, now, func(r *identity.Registry) error {
		text, err := terms.ReadDocument(v.ECUKey)
		if err != nil {
			return fmt.Errorf("cannot use ECU identity: %w; give the file that the ECU's initialisation wrote", err)
		}
		id, err := attest.ParseIdentity(text)
		if err != nil {
			return fmt.Errorf("cannot use ECU identity %s: %w", v.ECUKey, err)
		}
		device, err := readPublicKey(v.DeviceKey)
		if err != nil {
			return fmt.Errorf("cannot use device key: %w; give the file that the agent's initialisation wrote", err)
		}
		account, err = r.Add(ctx, identity.Vehicle{ID: v.ID, Identity: *id, Device: device, Account: v.Account})
		return err
	})
	return account, err
}

// readPublicKey reads a public key in hexadecimal.
func readPublicKey(path string) (p wire.PublicKey, err error) {
	text, err := terms.ReadDocument(path)
	if err != nil {
		return p, err
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(b) != len(p) {
		return p, fmt.Errorf("%s does not hold %d bytes in hexadecimal", path, len(p))
	}
	p = wire.PublicKey(b)
	if _, err := p.Key(); err != nil {
		return p, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// A Registered is a vehicle in the registry.
type Registered struct {
	ID       string    `json:"id"`
	Account  string    `json:"account"`
	AddedDay uint32    `json:"added_day"`
	LastSeen time.Time `json:"last_seen,omitzero"`
}

// ListVehicles returns the registry.
func ListVehicles(ctx context.Context, cfg *Config, now func() time.Time) (out []Registered, err error) {
	err = administer(ctx, cfg, now, func(r *identity.Registry) error {
		all, err := r.List(ctx)
		out = make([]Registered, 0, len(all)) // an empty list in JSON too
		for _, v := range all {
			out = append(out, Registered{ID: v.ID, Account: v.Account, AddedDay: v.AddedDay, LastSeen: v.LastSeen})
		}
		return err
	})
	return out, err
}

func administer(ctx context.Context, cfg *Config, now func() time.Time, do func(*identity.Registry) error) (err error) {
	p, err := openProgram(cfg)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Config{Path: cfg.Records()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	r, err := identity.New(identity.Config{DB: db, Program: p.ProgramID, Clock: terms.Clock{Timing: p.Timing, Now: now}})
	if err != nil {
		return err
	}
	return do(r)
}

// WriteOpenings writes what the auditor needs to see behind the ledger's blinded entries to a file that must not exist and that
// its owner alone may read.
func WriteOpenings(ctx context.Context, cfg *Config, path string) (err error) {
	records := cfg.Records()
	if _, err := os.Stat(records); err != nil {
		return fmt.Errorf("cannot write openings: there are no records: %w; correct state_dir in the configuration", err)
	}
	db, err := store.Open(ctx, store.Config{Path: records})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	all, err := stones.Openings(ctx, db)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot write openings: %s exists; choose another name or remove it", path)
	} else if err != nil {
		return fmt.Errorf("cannot write openings: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return all.Write(f)
}

// Audit replays the ledger in a directory from nothing under the pinned root, with openings when a file of them is named.
func Audit(ctx context.Context, dir, rootPath, openingsPath string) (audit.Report, error) {
	root, err := terms.LoadRoot(rootPath)
	if err != nil {
		return audit.Report{}, err
	}
	if _, err := os.Stat(dir); err != nil {
		return audit.Report{}, fmt.Errorf("cannot audit ledger: %w; name the directory %s below the collector's state_dir, or a copy of it", err, ledgerDir)
	}
	c := audit.Config{Dir: dir, Root: root}
	if openingsPath != "" {
		f, err := os.Open(openingsPath)
		if err != nil {
			return audit.Report{}, fmt.Errorf("cannot read openings: %w; `collector openings` writes them", err)
		}
		defer f.Close()
		opened, err := ledger.ReadOpenings(f)
		if err != nil {
			return audit.Report{}, fmt.Errorf("cannot use openings %s: %w", openingsPath, err)
		}
		c.Openings = opened
	}
	return audit.Audit(ctx, c)
}
