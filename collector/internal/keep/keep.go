// Package keep copies a collector, and puts a copy where a configuration says: records, ledger, and the files that the configuration names.
//
// It finds what there is to copy; how it is copied and checked is package backup's.
package keep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"rawstone/collector/internal/backup"
	"rawstone/collector/internal/program"
	"rawstone/collector/internal/setting"
	"rawstone/pkg/ledger"
)

// A Summary is what a backup holds.
type Summary = backup.Manifest

// Options are what backup and restore need besides the configuration.
type Options struct {
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

// openKeys checks that the keys that a configuration names are the program's. The ledger's it must name.
func openKeys(p *program.Program, c *program.Config) error {
	if c.LogKey == "" {
		return errors.New("it names no program.log_key: use the configuration of the process with the role settle")
	}
	if err := p.OpenLedgerKey(c); err != nil {
		return err
	}
	if c.ReceiptKey == "" {
		return nil
	}
	return p.OpenReceiptKey(c)
}

// Backup copies the records, the ledger and all files that the configuration names, as `collector backup` does. It may be called while
// the collector runs.
func Backup(ctx context.Context, cfg *setting.Config, o Options) (*Summary, error) {
	if err := backup.Unfinished(cfg.StateDir); err != nil {
		return nil, err
	}
	p, err := program.Open(&cfg.Program, cfg.Environment)
	if err != nil {
		return nil, err
	}
	if err := openKeys(p, &cfg.Program); err != nil {
		return nil, err
	}
	at, err := cfg.Place(o.OwnerURL, o.Programs)
	if err != nil {
		return nil, err
	}
	return backup.Create(ctx, backup.Config{Dir: o.Dir, Place: at, Program: p.ProgramID, Root: p.Root, LogKey: p.LogKey, Now: o.Now})
}

// Restore puts a backup where the configuration says, as `collector restore` does.
func Restore(ctx context.Context, cfg *setting.Config, o Options) (*Summary, error) {
	b, err := backup.Open(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	at, err := cfg.Place(o.OwnerURL, o.Programs)
	if err != nil {
		return nil, err
	}
	inside := within(cfg.Program, b)
	if err := whole(&inside); err != nil {
		return nil, fmt.Errorf("cannot use backup %s: %w", o.Dir, err)
	}
	p, err := program.Open(&inside, cfg.Environment)
	if err != nil {
		return nil, fmt.Errorf("cannot use backup %s: %w", o.Dir, err)
	}
	if err := openKeys(p, &inside); err != nil {
		return nil, fmt.Errorf("cannot use backup %s: %w", o.Dir, err)
	}
	t := backup.Target{
		Place: at, Program: p.ProgramID, Root: p.Root, Log: p.Signing.Log, LogKey: p.LogKey,
		Checkpoint: o.Checkpoint, Logger: o.Logger,
		Migrate: func(ctx context.Context) error { return cfg.Records.Migrate(ctx, o.OwnerURL) },
	}
	for _, d := range p.Genesis() {
		t.Documents = append(t.Documents, ledger.Entry{Type: d.Type, Body: d.Body})
	}
	return &b.Manifest, b.Restore(ctx, t)
}

// whole refuses files of a configuration that a backup lacks.
func whole(inside *program.Config) error {
	var lacks []string
	for _, f := range append(inside.Documents(), inside.Secrets()...) {
		if _, err := os.Stat(f.Path); f.Path != "" && errors.Is(err, fs.ErrNotExist) {
			lacks = append(lacks, f.Key)
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	return fmt.Errorf("it was made without %s; take what it lacks out of the configuration and restore again", strings.Join(lacks, ", "))
}

// within returns a program's files as they are in a backup.
func within(c program.Config, b *backup.Backup) program.Config {
	inside := program.Config{
		Root: b.File("program.root"), File: b.File("program.file"), Charter: b.File("program.charter"), ClaimKeys: b.File("program.claim_keys"),
		ECUCA: b.File("program.ecu_ca"), ReceiptKey: b.File("program.receipt_key"), LogKey: b.File("program.log_key"),
	}
	if c.ReceiptKey == "" {
		inside.ReceiptKey = ""
	}
	for i := range c.Policies {
		inside.Policies = append(inside.Policies, b.File(fmt.Sprintf("program.policies[%d]", i)))
	}
	for i := range c.Offers {
		inside.Offers = append(inside.Offers, b.File(fmt.Sprintf("program.offers[%d]", i)))
	}
	for i := range c.Witnesses {
		inside.Witnesses = append(inside.Witnesses, b.File(fmt.Sprintf("program.witnesses[%d]", i)))
	}
	return inside
}
