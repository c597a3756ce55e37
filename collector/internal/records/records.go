// Package records says where a collector's records are and opens them for the parts of the program: in SQLite's file below the state
// directory or in a PostgreSQL server.
//
// One collector settles from the same records at a time, whatever its state directory: it holds the settler's lock from before it has read
// what to continue until it has closed. The package keeps no address longer than it takes to connect, and logs none.
package records

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/store"
)

// Config is the section `records` of a configuration: which database holds them. The zero value is SQLite's file.
type Config struct {
	// Postgres is set for a server.
	Postgres Postgres `yaml:"postgres"`
}

// Postgres is a PostgreSQL server.
type Postgres struct {
	// URLFile holds one line: postgres://HOST[:PORT]/DATABASE?sslmode=verify-full&sslrootcert=FILE. The URL names no login; each role has its
	// own, rawstone_ingest, _settle, _web, _audit, _admin and _account. Their passwords are in its passfile=FILE, or sslcert and sslkey name a
	// client certificate. Paths in it should be absolute.
	URLFile string `yaml:"url_file"`
}

const (
	maxURL      = 4096
	settlerLock = "settler"
	standby     = time.Second // before it is said that another collector has the lock
)

// Store returns how the records are opened for a role; file is where SQLite's are.
func (c Config) Store(role store.Role, file string) (store.Config, error) {
	if c.Postgres.URLFile == "" {
		return store.Config{Path: file, Role: role}, nil
	}
	url, err := readURL(c.Postgres.URLFile)
	if err != nil {
		return store.Config{}, fmt.Errorf("cannot use records.postgres.url_file: %w", err)
	}
	return store.Config{URL: url, Role: role}, nil
}

// readURL reads a file of one line.
func readURL(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxURL+1))
	if err != nil {
		return "", err
	}
	url := strings.TrimSpace(string(b))
	if url == "" || len(b) > maxURL || strings.ContainsAny(url, "\r\n") {
		return "", fmt.Errorf("%s is not one line with a postgres:// address", path)
	}
	return url, nil
}

// Migrate brings the schema of records in PostgreSQL, their logins and rights up to date as rawstone_owner, by the address in the file
// ownerURL or, when that is empty, in the configuration's.
func (c Config) Migrate(ctx context.Context, ownerURL string) error {
	if c.Postgres.URLFile == "" {
		return errors.New("cannot migrate records: they are in SQLite's file, which is migrated when it is opened; set records.postgres.url_file in the configuration to have them in PostgreSQL")
	}
	if ownerURL == "" {
		ownerURL = c.Postgres.URLFile
	}
	url, err := readURL(ownerURL)
	if err != nil {
		return fmt.Errorf("cannot migrate records: %w", err)
	}
	return store.Migrate(ctx, url)
}

// LockSettler waits until no other collector settles from the same records: two would number entries and draw drops against each other.
func LockSettler(ctx context.Context, db *store.DB, logger *slog.Logger) (*database.Lock, error) {
	soon, cancel := context.WithTimeout(ctx, standby)
	defer cancel()
	if l, err := db.Lock(soon, settlerLock); err == nil || soon.Err() == nil {
		return l, err
	}
	logger.Warn("another collector settles from these records: waiting until it ends")
	return db.Lock(ctx, settlerLock)
}

// Watch returns an error once the settler's lock is lost, after which its holder cannot write, and nil when ctx ends.
func Watch(ctx context.Context, l *database.Lock) error {
	select {
	case <-ctx.Done():
		return nil
	case <-l.Lost():
		return errors.New("cannot go on settling: the connection to PostgreSQL that held the settler's lock is lost; start the collector again")
	}
}
