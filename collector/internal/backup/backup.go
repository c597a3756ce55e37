// Package backup copies what a collector cannot do without, its records, its ledger and the files that its configuration names, while it
// runs, and puts such a copy in place where nothing is.
//
// A backup is a directory. The ledger is copied as of one checkpoint and the records after it, so that they are never behind the ledger.
// Every file stands in a manifest with its SHA-256, and the manifest's own comes last: without it a backup was cut short. It holds secret
// keys and the accounts' secrets, and only its owner can read it. Queues are not in it, because vehicles send again until they hold a
// receipt.
//
// Restore checks the whole backup first, by the rules by which the settler begins: that each entry of the ledger is the records', and follows
// from the ones before. It overwrites nothing. What is put in place is made ready beside its place before, and Unfinished tells a place in
// which that was cut short; the same Restore again completes it.
//
// Validators are not in a backup: they are processes of their own, and one that has followed the ledger further than the restored records go
// refuses to cosign for them.
package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"rawstone/collector/internal/backup/internal/dump"
	"rawstone/collector/internal/backup/internal/holding"
	"rawstone/collector/internal/backup/internal/manifest"
	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

const (
	ledgerDir   = "ledger"
	filesDir    = "files"
	recordsFile = "records.db"
	dumpFile    = "records.dump"
)

// The engines that may hold records.
const (
	SQLite     = "sqlite"
	PostgreSQL = "postgresql"
)

// A Place says where a collector has its things.
type Place struct {
	// State is the state directory. Ledger and Records are what it holds: the ledger's directory and SQLite's file. Records is empty when
	// OwnerURL, PostgreSQL's address in the form of package postgres, is set.
	State, Ledger, Records string
	OwnerURL               string
	// Files are what the configuration names: files, and directories of files.
	Files []File
	// Programs is the folder of pg_dump and pg_restore; empty for those on PATH.
	Programs string
}

func (p *Place) server() *dump.Server { return &dump.Server{URL: p.OwnerURL, Programs: p.Programs} }

// A File is a path and the configuration key that names it; a file below a directory has its own name after the key and a slash.
type File struct{ Key, Path string }

func (p *Place) engine() string {
	if p.OwnerURL != "" {
		return PostgreSQL
	}
	return SQLite
}

// A Manifest says what a backup holds.
type Manifest = manifest.Manifest

// ErrBehind says that others have seen the ledger further than a backup goes.
var ErrBehind = holding.ErrBehind

// Config configures Create.
type Config struct {
	// Dir is the directory to write, which must not exist or be empty.
	Dir string
	// Place is what is copied.
	Place Place
	// Program is the program document's identifier, Root the pinned public key of the program root, LogKey its log's verifier.
	Program wire.Hash
	Root    wire.PublicKey
	LogKey  string
	// Now is the clock.
	Now func() time.Time
}

// Create makes a backup; the collector may run. After an error there is none.
func Create(ctx context.Context, c Config) (_ *Manifest, err error) {
	made := os.Mkdir(c.Dir, 0o700)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return nil, fmt.Errorf("cannot make backup: %w", made)
	}
	if found, err := os.ReadDir(c.Dir); err != nil {
		return nil, fmt.Errorf("cannot make backup: %w", err)
	} else if len(found) > 0 {
		return nil, fmt.Errorf("cannot make backup: %s is not empty; %s, or choose another directory", c.Dir, remedy(c.Dir))
	}
	if err := os.Chmod(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot make backup: %w", errors.Join(err, empty(c.Dir)))
			if made == nil {
				err = errors.Join(err, os.Remove(c.Dir))
			}
		}
	}()
	m := &Manifest{Time: c.Now().UTC().Truncate(time.Second), Program: c.Program.String(), Engine: c.Place.engine()}
	if err := copyLedger(ctx, m, c); err != nil {
		return nil, err
	}
	held, err := copyRecords(ctx, m, c)
	if err != nil {
		return nil, err
	}
	if err := held.Follow(ctx, c.Root, filepath.Join(c.Dir, ledgerDir), nil, nil); err != nil {
		return nil, err
	}
	m.Records = held.Len()
	files, err := expand(c.Place.Files)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if err := m.Copy(c.Dir, filepath.Join(filesDir, f.Key), f.Path); err != nil {
			return nil, fmt.Errorf("cannot copy %s: %w", f.Key, err)
		}
	}
	return m, m.Write(c.Dir)
}

// expand puts the files of directories, such as the one of the claim setup, in their places.
func expand(list []File) (out []File, err error) {
	for _, f := range list {
		info, err := os.Stat(f.Path)
		if err != nil {
			return nil, fmt.Errorf("cannot copy %s: %w", f.Key, err)
		}
		if !info.IsDir() {
			out = append(out, f)
			continue
		}
		inside, err := os.ReadDir(f.Path)
		if err != nil {
			return nil, fmt.Errorf("cannot copy %s: %w", f.Key, err)
		}
		for _, e := range inside {
			if e.Type().IsRegular() {
				out = append(out, File{f.Key + "/" + e.Name(), filepath.Join(f.Path, e.Name())})
			}
		}
	}
	return out, nil
}

// remedy says what to do with a directory that something is in.
func remedy(dir string) string {
	if _, err := os.Stat(filepath.Join(dir, manifest.SumFile)); err == nil {
		return "it holds a backup"
	}
	if _, err := os.Stat(filepath.Join(dir, ledgerDir)); err == nil {
		return "it holds a backup that was cut short, remove it"
	}
	return "move away what it holds"
}

// empty removes what a directory holds.
func empty(dir string) error {
	found, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range found {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// copyRecords copies the records and reads the copy.
func copyRecords(ctx context.Context, m *Manifest, c Config) (*holding.Holding, error) {
	if m.Engine == PostgreSQL {
		path := filepath.Join(c.Dir, dumpFile)
		server := c.Place.server()
		if err := server.Write(ctx, path); err != nil {
			return nil, err
		}
		held := new(holding.Holding)
		if err := errors.Join(server.Read(ctx, path, held), held.Whole()); err != nil {
			return nil, err
		}
		return held, m.Add(c.Dir, dumpFile)
	}
	if _, err := os.Stat(c.Place.Records); err != nil {
		return nil, fmt.Errorf("there are no records: %w; correct state_dir in the configuration", err)
	}
	db, err := store.Open(ctx, store.Config{Path: c.Place.Records, Role: store.Admin})
	if err != nil {
		return nil, err
	}
	path := filepath.Join(c.Dir, recordsFile)
	if err := errors.Join(db.Backup(ctx, path), db.Close()); err != nil {
		return nil, err
	}
	held, err := holding.ReadFile(ctx, path, nil)
	if err != nil {
		return nil, err
	}
	return held, m.Add(c.Dir, recordsFile)
}

// A Backup is one whose files are all there as the manifest says.
type Backup struct {
	Manifest
	dir string
	sum string // the manifest's
}

// Open checks every file of a backup and names the first that is not right.
func Open(ctx context.Context, dir string) (*Backup, error) {
	m, own, err := manifest.Open(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("cannot use backup %s: %w", dir, err)
	}
	return &Backup{*m, dir, own}, nil
}

// File returns the path within the backup of what a configuration key names.
func (b *Backup) File(key string) string { return filepath.Join(b.dir, filesDir, key) }

func (b *Backup) ledger() string { return filepath.Join(b.dir, ledgerDir) }
