package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"rawstone/collector/internal/backup"
	"rawstone/collector/internal/bridge"
	"rawstone/collector/internal/program"
	"rawstone/collector/internal/records"
	"rawstone/pkg/ledger"
)

// A BackupSummary is what a backup holds.
type BackupSummary = backup.Manifest

// BackupOptions are what backup and restore need besides the configuration.
type BackupOptions struct {
	// Dir is the backup's directory.
	Dir string
	// OwnerURL names a file with PostgreSQL's address for the login rawstone_owner; empty for the configuration's.
	OwnerURL string
	// Programs is the folder of pg_dump and pg_restore; empty for those on PATH.
	Programs string
	// Checkpoint names a file with the newest checkpoint of the ledger that others have seen; for Restore alone, and it may be empty.
	Checkpoint string
	// Logger takes what the ledger's engine says. Required by Restore.
	Logger *slog.Logger
	Now    func() time.Time
}

// files are all that the configuration names besides what is in the state directory: a backup holds them.
func (c *Config) files() (out []backup.File) {
	for _, f := range append(c.Program.Documents(), c.Program.Secrets()...) {
		out = append(out, backup.File(f))
	}
	out = append(out, backup.File{Key: "vehicles.ca_certificate", Path: c.Vehicles.CACertificate}, backup.File{Key: "vehicles.ca_key", Path: c.Vehicles.CAKey},
		backup.File{Key: "https.certificate", Path: c.HTTPS.Certificate}, backup.File{Key: "https.key", Path: c.HTTPS.Key})
	if c.MQTT.Certificate != c.HTTPS.Certificate || c.MQTT.Key != c.HTTPS.Key {
		out = append(out, backup.File{Key: "mqtt.certificate", Path: c.MQTT.Certificate}, backup.File{Key: "mqtt.key", Path: c.MQTT.Key})
	}
	if b := c.Bridge; b != (bridge.Place{}) {
		out = append(out, backup.File{Key: "bridge.ca", Path: b.CA}, backup.File{Key: "bridge.certificate", Path: b.Certificate}, backup.File{Key: "bridge.key", Path: b.Key})
	}
	return out
}

// place is where this collector has what a backup holds.
func (c *Config) place(o BackupOptions) (p backup.Place, err error) {
	p = backup.Place{State: c.StateDir, Ledger: c.path(ledgerDir), Signed: c.path(validatorFile), Files: c.files(), Programs: o.Programs}
	r := c.Records
	if r.Postgres.URLFile == "" {
		p.Records = c.path(recordsFile)
		return p, nil
	}
	if o.OwnerURL != "" {
		r = records.Config{Postgres: records.Postgres{URLFile: o.OwnerURL}}
	}
	at, err := r.Store(0, "")
	p.OwnerURL = at.URL
	return p, err
}

// Backup copies the records, the ledger and all files that the configuration names, as `collector backup` does. It may be called while
// the collector runs.
func Backup(ctx context.Context, cfg *Config, o BackupOptions) (*BackupSummary, error) {
	if err := backup.Unfinished(cfg.StateDir); err != nil {
		return nil, err
	}
	p, err := program.Open(&cfg.Program, cfg.Environment)
	if err != nil {
		return nil, err
	}
	if err := p.OpenSecrets(&cfg.Program); err != nil {
		return nil, err
	}
	place, err := cfg.place(o)
	if err != nil {
		return nil, err
	}
	return backup.Create(ctx, backup.Config{Dir: o.Dir, Place: place, Program: p.ProgramID, Root: p.Root, LogKey: p.LogKey, Now: o.Now})
}

// Restore puts a backup where the configuration says, as `collector restore` does.
func Restore(ctx context.Context, cfg *Config, o BackupOptions) (*BackupSummary, error) {
	b, err := backup.Open(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	place, err := cfg.place(o)
	if err != nil {
		return nil, err
	}
	inside := within(cfg.Program, b)
	p, err := program.Open(&inside, cfg.Environment)
	if err != nil {
		return nil, fmt.Errorf("cannot use backup %s: %w", o.Dir, err)
	}
	if err := p.OpenSecrets(&inside); err != nil {
		return nil, fmt.Errorf("cannot use backup %s: %w", o.Dir, err)
	}
	t := backup.Target{
		Place: place, Program: p.ProgramID, Root: p.Root, Log: p.Signing.Log, LogKey: p.LogKey, Validator: fmt.Sprintf("%x", p.Signing.Validator.Public().Key),
		Checkpoint: o.Checkpoint, Logger: o.Logger,
		Migrate: func(ctx context.Context) error { return cfg.Records.Migrate(ctx, o.OwnerURL) },
	}
	for _, d := range p.Genesis() {
		t.Documents = append(t.Documents, ledger.Entry{Type: d.Type, Body: d.Body})
	}
	return &b.Manifest, b.Restore(ctx, t)
}

// within returns a program's files as they are in a backup.
func within(c program.Config, b *backup.Backup) program.Config {
	inside := program.Config{
		Root: b.File("program.root"), File: b.File("program.file"), Charter: b.File("program.charter"), ClaimKeys: b.File("program.claim_keys"),
		ECUCA: b.File("program.ecu_ca"), ReceiptKey: b.File("program.receipt_key"), LogKey: b.File("program.log_key"), ValidatorKey: b.File("program.validator_key"),
	}
	for i := range c.Policies {
		inside.Policies = append(inside.Policies, b.File(fmt.Sprintf("program.policies[%d]", i)))
	}
	return inside
}
