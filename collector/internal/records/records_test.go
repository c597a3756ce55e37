package records

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/store"
)

func TestStore(t *testing.T) {
	dir := t.TempDir()
	file := func(text string) Config {
		path := filepath.Join(dir, "url")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Config{Postgres{path}}
	}
	if got, err := (Config{}).Store(store.Web, "x.db"); err != nil || got != (store.Config{Path: "x.db", Role: store.Web}) {
		t.Errorf("%+v, %v", got, err)
	}
	const url = "postgres://db.example/rawstone?sslmode=verify-full"
	if got, err := file(" "+url+"\n").Store(store.Audit, "x.db"); err != nil || got != (store.Config{URL: url, Role: store.Audit}) {
		t.Errorf("%+v, %v", got, err)
	}
	for name, c := range map[string]Config{
		"empty": file(" \n"), "none": {Postgres{filepath.Join(dir, "none")}},
	} {
		if _, err := c.Store(store.Web, ""); err == nil || !strings.HasPrefix(err.Error(), "cannot use records.postgres.url_file: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{url + "\n" + url, url + strings.Repeat(" ", maxURL)} {
		if _, err := file(text).Store(store.Web, ""); err == nil || strings.Contains(err.Error(), "db.example") {
			t.Errorf("%.80q: %v", text, err)
		}
	}
}

func TestMigrateIsForPostgreSQL(t *testing.T) {
	if err := (Config{}).Migrate(t.Context(), "url"); err == nil || !strings.Contains(err.Error(), "set records.postgres.url_file") {
		t.Error(err)
	}
	path := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(path, []byte("postgres://me:secret@db.example/x?sslmode=verify-full"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, owner := range []string{"", path} {
		if err := (Config{Postgres{path}}).Migrate(t.Context(), owner); err == nil || !strings.Contains(err.Error(), "it names a login") || strings.Contains(err.Error(), "secret") {
			t.Error(err)
		}
	}
}

// said tells when something was logged.
type said chan string

func (s said) Write(b []byte) (int, error) {
	s <- string(bytes.TrimSpace(b))
	return len(b), nil
}

// TestSecondSettlerWaits has a settler wait, and say so, until the first one ends.
func TestSecondSettlerWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	open := func() *store.DB {
		db, err := store.Open(t.Context(), store.Config{Path: path, Role: store.Settle})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db
	}
	a, b := open(), open()
	log := make(said, 1)
	logger := slog.New(slog.NewTextHandler(log, nil))
	first, err := LockSettler(t.Context(), a, logger)
	if err != nil {
		t.Fatal(err)
	}
	type result struct {
		l   *database.Lock
		err error
	}
	next := make(chan result, 1)
	go func() {
		l, err := LockSettler(t.Context(), b, logger)
		next <- result{l, err}
	}()
	select {
	case text := <-log:
		if !strings.Contains(text, "waiting until it ends") {
			t.Error(text)
		}
	case r := <-next:
		t.Fatalf("two settlers: %v", r.err)
	}
	if err := first.Release(); err != nil {
		t.Error(err)
	}
	r := <-next
	if r.err != nil {
		t.Fatal(r.err)
	}
	if err := r.l.Release(); err != nil {
		t.Error(err)
	}
}
