package database

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func migrations() fstest.MapFS {
	return fstest.MapFS{"00001_notes.sql": {Data: []byte(
		"-- +goose Up\nCREATE TABLE notes (name TEXT PRIMARY KEY, body BLOB, n INTEGER) STRICT;\n-- +goose Down\nDROP TABLE notes;\n")}}
}

func openAt(t *testing.T, path string) *DB {
	t.Helper()
	d, err := Open(t.Context(), Config{Path: path, Migrations: migrations()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func openNew(t *testing.T) *DB {
	t.Helper()
	// Characters that mean something in a URI must not name another file.
	return openAt(t, filepath.Join(t.TempDir(), "a?b#c%20d", "notes.db"))
}

func add(ctx context.Context, tx *Tx, name string) error {
	return tx.ExecOne(ctx, "add note", `INSERT INTO notes (name, body, n) VALUES ($1, x'0102', -1)`, name)
}

func update(t *testing.T, d *DB, fn func(*Tx) error) {
	t.Helper()
	if err := d.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func view(t *testing.T, d *DB, fn func(*Tx) error) {
	t.Helper()
	if err := d.View(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, tx *Tx) []string {
	t.Helper()
	out, err := List(t.Context(), tx, "read notes", func(s *string, scan Scanner) error { return scan(s) }, `SELECT name FROM notes ORDER BY name`)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFileIsPrivateAndHoldsWhatWasCommitted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a?b#c%20d", "notes.db")
	d := openAt(t, path)
	update(t, d, func(tx *Tx) error { return add(t.Context(), tx, "a") })
	for _, p := range []string{path, path + "-wal"} {
		if i, err := os.Stat(p); err != nil || i.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", p, i, err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	view(t, openAt(t, path), func(tx *Tx) error {
		if got := names(t, tx); !slices.Equal(got, []string{"a"}) {
			t.Errorf("notes %v", got)
		}
		return nil
	})
}

func TestPragmas(t *testing.T) {
	d := openNew(t)
	for name, db := range map[string]*sql.DB{"writer": d.write, "reader": d.read} {
		for pragma, want := range map[string]string{
			"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000",
		} {
			var got string
			if err := db.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
				t.Errorf("%s: %s is %s (%v), want %s", name, pragma, got, err, want)
			}
		}
	}
}

func TestUpdateIsAllOrNothing(t *testing.T) {
	d := openNew(t)
	fail := errors.New("no")
	err := d.Update(t.Context(), func(tx *Tx) error { return errors.Join(add(t.Context(), tx, "a"), fail) })
	if !errors.Is(err, fail) {
		t.Fatalf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = d.Update(ctx, func(tx *Tx) error {
		err := add(ctx, tx, "a")
		cancel()
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled transaction: %v", err)
	}
	view(t, d, func(tx *Tx) error {
		if got := names(t, tx); len(got) != 0 {
			t.Errorf("a failed transaction left %v", got)
		}
		return nil
	})
}

func TestViewCannotWriteAndSeesOneState(t *testing.T) {
	d := openNew(t)
	view(t, d, func(tx *Tx) error {
		if err := add(t.Context(), tx, "b"); err == nil {
			t.Error("a view wrote")
		}
		return nil
	})
	view(t, d, func(tx *Tx) error {
		before := names(t, tx)
		update(t, d, func(w *Tx) error { return add(t.Context(), w, "a") })
		if after := names(t, tx); len(before) != 0 || len(after) != 0 {
			t.Errorf("a view saw a later commit: %v, then %v", before, after)
		}
		return nil
	})
}

func TestRefusesNewerSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes.db")
	d := openAt(t, path)
	update(t, d, func(tx *Tx) error {
		return tx.ExecOne(t.Context(), "add version", `INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)`)
	})
	d.Close()
	if _, err := Open(t.Context(), Config{Path: path, Migrations: migrations()}); err == nil || !strings.Contains(err.Error(), "use the newer program") {
		t.Errorf("got %v", err)
	}
}

func TestRefusesWhatIsNoDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes.db")
	text := []byte(strings.Repeat("not a database ", 100))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Path: path, Migrations: migrations()}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want an error that names the file", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != string(text) {
		t.Error("the file was changed")
	}
	for name, cfg := range map[string]Config{
		"no file": {Migrations: migrations()}, "no migrations": {Path: path}, "empty migrations": {Path: path + "2", Migrations: fstest.MapFS{}},
	} {
		if d, err := Open(t.Context(), cfg); err == nil {
			t.Errorf("%s: opened", name)
			d.Close()
		}
	}
}

func TestBusyWriterFailsAfterItsTimeout(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes.db")
	d := openAt(t, path)
	other, err := Open(t.Context(), Config{Path: path, Migrations: migrations(), BusyTimeout: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	update(t, d, func(*Tx) error {
		if err := other.Update(t.Context(), func(*Tx) error { return nil }); err == nil {
			t.Error("two processes wrote at once")
		}
		return nil
	})
	update(t, other, func(tx *Tx) error { return add(t.Context(), tx, "a") })
}

func TestStatements(t *testing.T) {
	d := openNew(t)
	ctx := t.Context()
	update(t, d, func(tx *Tx) error { return errors.Join(add(ctx, tx, "a"), add(ctx, tx, "b")) })
	const all = `UPDATE notes SET n = 7`
	err := d.Update(ctx, func(tx *Tx) error { return tx.ExecOne(ctx, "change note", all) })
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "cannot change note: 2 rows") {
		t.Errorf("a statement for one row changed two: %v", err)
	}
	err = d.Update(ctx, func(tx *Tx) error { return tx.ExecOne(ctx, "change note", all+` WHERE name = 'c'`) })
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("a statement for one row changed none: %v", err)
	}
	view(t, d, func(tx *Tx) error {
		var n uint64
		var body [2]byte
		if err := tx.Get(ctx, "read note", `SELECT n, body FROM notes WHERE name = $1`, []any{"a"}, Uint64(&n), Fixed(body[:])); err != nil {
			t.Error(err)
		}
		if n != 1<<64-1 || body != [2]byte{1, 2} {
			t.Errorf("number %d, body %v", n, body)
		}
		read := func(n *uint64, scan Scanner) error { return scan(Uint64(n)) }
		if _, err := One(ctx, tx, "read note", read, `SELECT n FROM notes WHERE name = $1`, "c"); !errors.Is(err, ErrNotFound) {
			t.Errorf("a row that is not there: %v", err)
		}
		if _, err := One(ctx, tx, "read note", read, `SELECT name FROM notes`); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("a text as a number: %v", err)
		}
		if _, err := List(ctx, tx, "read notes", read, `SELECT body FROM notes`); err == nil {
			t.Error("a blob as a number")
		}
		short := body[:1]
		for _, column := range []string{"body", "name", "NULL"} {
			if err := tx.Get(ctx, "read note", `SELECT `+column+` FROM notes`, nil, Fixed(short)); err == nil {
				t.Errorf("%s as one byte", column)
			}
		}
		stop := errors.New("stop")
		seen := 0
		err := tx.Each(ctx, "read notes", `SELECT n FROM notes`, nil, func(Scanner) error { seen++; return stop })
		if !errors.Is(err, stop) || seen != 1 {
			t.Errorf("%d rows after %v", seen, err)
		}
		return nil
	})
	update(t, d, func(tx *Tx) error {
		if n, err := tx.Exec(ctx, "change notes", all); err != nil || n != 2 {
			t.Errorf("%d rows changed, %v", n, err)
		}
		return nil
	})
}
