package database_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	. "rawstone/collector/internal/database"
	"rawstone/collector/internal/database/postgrestest"
	"rawstone/collector/internal/firewall"
	"rawstone/collector/internal/schema"
)

var server postgrestest.Server

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }

func migrations() fstest.MapFS {
	return fstest.MapFS{
		"sqlite/00001_notes.sql": {Data: []byte(
			"-- +goose Up\nCREATE TABLE notes (name TEXT PRIMARY KEY, body BLOB, n INTEGER) STRICT;\n-- +goose Down\nDROP TABLE notes;\n")},
		"postgres/00001_notes.sql": {Data: []byte(
			"-- +goose Up\nCREATE TABLE notes (name TEXT PRIMARY KEY, body BYTEA, n BIGINT);\n-- +goose Down\nDROP TABLE notes;\n")},
	}
}

func add() firewall.Statement {
	return firewall.Statement{Name: "add note", Roles: firewall.Admin, SQL: `INSERT INTO notes (name, body, n) VALUES ($1, $2, -1)`}
}
func list() firewall.Statement {
	return firewall.Statement{Name: "read notes", Roles: firewall.Admin | firewall.Web, SQL: `SELECT name FROM notes ORDER BY name`}
}
func note() firewall.Statement {
	return firewall.Statement{Name: "read note", Roles: firewall.Admin, SQL: `SELECT n, body FROM notes WHERE name = $1`}
}
func change() firewall.Statement {
	return firewall.Statement{Name: "change notes", Roles: firewall.Admin, SQL: `UPDATE notes SET n = 7`}
}
func changeOne() firewall.Statement {
	return firewall.Statement{Name: "change note", Roles: firewall.Admin, SQL: `UPDATE notes SET n = n + 1 WHERE name = $1`}
}
func version() firewall.Statement {
	return firewall.Statement{Name: "add version", Roles: firewall.Audit, SQL: `INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, true)`}
}
func pragmas() firewall.Statement {
	return firewall.Statement{Name: "read pragmas", Roles: firewall.Settle, SQL: `SELECT j.journal_mode || s.synchronous || f.foreign_keys || b.timeout
		FROM pragma_journal_mode j, pragma_synchronous s, pragma_foreign_keys f, pragma_busy_timeout b`}
}

func statements() []firewall.Statement {
	return []firewall.Statement{add(), list(), note(), change(), changeOne()}
}

type rig struct{ config Config }

func (r rig) open(t *testing.T, role firewall.Role) *DB {
	t.Helper()
	r.config.Role = role
	d, err := Open(t.Context(), r.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func onFile(t *testing.T) rig {
	// Characters that mean something in a URI must not name another file.
	return rig{Config{Path: filepath.Join(t.TempDir(), "a?b#c%20d", "notes.db"), Migrations: migrations(), Statements: statements()}}
}

func onServer(t *testing.T) rig {
	pg := server.New(t, firewall.Owner)
	dir, err := fs.Sub(migrations(), "postgres")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time changes nothing
		if err := schema.Migrate(t.Context(), schema.Config{URL: pg.URL(), Migrations: dir, Statements: statements()}); err != nil {
			t.Fatal(err)
		}
	}
	return rig{Config{URL: pg.URL(), Migrations: migrations(), Statements: statements()}}
}

func engines(t *testing.T, test func(*testing.T, rig)) {
	t.Run("sqlite", func(t *testing.T) { test(t, onFile(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, onServer(t)) })
}

func put(ctx context.Context, d *DB, names ...string) error {
	return d.Update(ctx, func(tx *Tx) error {
		for _, n := range names {
			if err := tx.ExecOne(ctx, add(), n, []byte{1, 2}); err != nil {
				return err
			}
		}
		return nil
	})
}

func names(t *testing.T, d *DB) (out []string) {
	t.Helper()
	err := d.View(t.Context(), func(tx *Tx) (err error) {
		out, err = List(t.Context(), tx, list(), func(s *string, scan Scanner) error { return scan(s) })
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFileIsPrivateAndHoldsWhatWasCommitted(t *testing.T) {
	r := onFile(t)
	d := r.open(t, firewall.Admin)
	if err := put(t.Context(), d, "a"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{r.config.Path, r.config.Path + "-wal"} {
		if i, err := os.Stat(p); err != nil || i.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", p, i, err)
		}
	}
	copied := filepath.Join(t.TempDir(), "copy.db")
	if err := d.Backup(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	if i, err := os.Stat(copied); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("backup: %v, %v, want mode 0600", i, err)
	}
	if err := d.Backup(t.Context(), copied); err == nil {
		t.Error("a backup overwrote another")
	}
	if err := r.open(t, firewall.Web).Backup(t.Context(), copied+"2"); !errors.Is(err, firewall.ErrRefused) {
		t.Errorf("web backs up: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if got := names(t, r.open(t, firewall.Web)); !slices.Equal(got, []string{"a"}) {
		t.Errorf("notes %v", got)
	}
	r.config.Path = copied
	if got := names(t, r.open(t, firewall.Web)); !slices.Equal(got, []string{"a"}) {
		t.Errorf("notes in the backup %v", got)
	}
}

func TestPragmas(t *testing.T) {
	r := onFile(t)
	r.config.Statements = append(r.config.Statements, pragmas())
	d := r.open(t, firewall.Settle)
	for name, run := range map[string]func(context.Context, func(*Tx) error) error{"writer": d.Update, "reader": d.View} {
		var got string
		err := run(t.Context(), func(tx *Tx) error { return tx.Get(t.Context(), pragmas(), nil, &got) })
		if err != nil || got != "wal215000" {
			t.Errorf("%s: %s (%v)", name, got, err)
		}
	}
}

func TestUpdateIsAllOrNothing(t *testing.T) { engines(t, testUpdateIsAllOrNothing) }

func testUpdateIsAllOrNothing(t *testing.T, r rig) {
	d := r.open(t, firewall.Admin)
	fail := errors.New("no")
	err := d.Update(t.Context(), func(tx *Tx) error {
		return errors.Join(tx.ExecOne(t.Context(), add(), "a", nil), tx.Flush(t.Context()), fail)
	})
	if !errors.Is(err, fail) {
		t.Fatalf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = d.Update(ctx, func(tx *Tx) error {
		err := errors.Join(tx.ExecOne(ctx, add(), "a", nil), tx.Flush(ctx))
		cancel()
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled transaction: %v", err)
	}
	for _, wrong := range []string{"a", "x"} { // twice, or a row that is not there
		err := d.Update(t.Context(), func(tx *Tx) error {
			return errors.Join(tx.ExecOne(t.Context(), add(), "a", nil), tx.ExecOne(t.Context(), map[string]firewall.Statement{"a": add(), "x": changeOne()}[wrong],
				map[string][]any{"a": {"a", nil}, "x": {"x"}}[wrong]...))
		})
		if err == nil || wrong == "x" && !(errors.Is(err, ErrNotFound) && strings.Contains(err.Error(), "cannot change note: 0 rows")) {
			t.Errorf("%s: %v", wrong, err)
		}
	}
	if got := names(t, d); len(got) != 0 {
		t.Errorf("a failed transaction left %v", got)
	}
	if err := put(t.Context(), d, "a"); err != nil {
		t.Fatal(err)
	}
}

func TestViewCannotWriteAndSeesOneState(t *testing.T) { engines(t, testView) }

func testView(t *testing.T, r rig) {
	d := r.open(t, firewall.Admin)
	if err := d.View(t.Context(), func(tx *Tx) error { return tx.ExecOne(t.Context(), add(), "b", nil) }); err == nil {
		t.Error("a view wrote")
	}
	row := func(s *string, scan Scanner) error { return scan(s) }
	err := d.View(t.Context(), func(tx *Tx) error {
		before, err := List(t.Context(), tx, list(), row)
		after, err2 := List(t.Context(), tx, list(), row)
		if err := errors.Join(err, err2, put(t.Context(), d, "a")); err != nil {
			return err
		}
		later, err := List(t.Context(), tx, list(), row)
		if len(before)+len(after)+len(later) != 0 {
			t.Errorf("a view saw a later commit: %v, %v, %v", before, after, later)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSlowReadersHoldNobodyUp has more slow readers than there are connections for, and one who waits for none of them.
func TestSlowReadersHoldNobodyUp(t *testing.T) {
	engines(t, func(t *testing.T, r rig) {
		d := r.open(t, firewall.Admin)
		if err := put(t.Context(), d, "a"); err != nil {
			t.Fatal(err)
		}
		slow := max(4, runtime.GOMAXPROCS(0))
		reading, end, done := make(chan bool), make(chan bool), make(chan error)
		for range slow {
			go func() {
				done <- d.View(t.Context(), func(*Tx) error { reading <- true; <-end; return nil })
			}()
		}
		for range slow {
			<-reading
		}
		queued, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := d.View(queued, func(*Tx) error { return nil }); err == nil {
			t.Error("there are more connections for readers than the test holds")
		}
		var n uint64
		var body []byte
		soon, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := d.ViewFirst(soon, func(tx *Tx) error { return tx.Get(soon, note(), []any{"a"}, Uint64(&n), &body) })
		if err != nil {
			t.Errorf("a first reader waits for others: %v", err)
		}
		if err := d.ViewFirst(soon, func(tx *Tx) error { return tx.ExecOne(soon, add(), "b", nil) }); err == nil {
			t.Error("a first reader wrote")
		}
		close(end)
		for range slow {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestOneWriterAtATime has two programs count in the same row, reading before they write.
func TestOneWriterAtATime(t *testing.T) { engines(t, testOneWriter) }

func testOneWriter(t *testing.T, r rig) {
	a, b := r.open(t, firewall.Admin), r.open(t, firewall.Admin)
	if err := put(t.Context(), a, "a"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	const each = 20
	for _, d := range []*DB{a, b} {
		go func() {
			var err error
			for range each {
				err = errors.Join(err, d.Update(t.Context(), func(tx *Tx) error {
					var n uint64
					var body []byte
					if err := tx.Get(t.Context(), note(), []any{"a"}, Uint64(&n), &body); err != nil {
						return err
					}
					return tx.ExecOne(t.Context(), changeOne(), "a")
				}))
			}
			done <- err
		}()
	}
	if err := errors.Join(<-done, <-done); err != nil {
		t.Fatal(err)
	}
	var n uint64
	var body [2]byte
	err := a.View(t.Context(), func(tx *Tx) error { return tx.Get(t.Context(), note(), []any{"a"}, Uint64(&n), Fixed(body[:])) })
	if err != nil || n != 2*each-1 || body != [2]byte{1, 2} {
		t.Errorf("counted to %d, %v, %v", n, body, err)
	}
	r.config.BusyTimeout = 10 * time.Millisecond
	c := r.open(t, firewall.Admin)
	err = a.Update(t.Context(), func(*Tx) error {
		if err := c.Update(t.Context(), func(*Tx) error { return nil }); !errors.Is(err, ErrBusy) {
			t.Errorf("two programs wrote at once, or the second is told %v", err)
		}
		soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := b.Update(soon, func(*Tx) error { return nil }); !errors.Is(err, ErrBusy) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who does not wait is told %v", err)
		}
		return nil
	})
	if err = errors.Join(err, c.Update(t.Context(), func(*Tx) error { return nil })); err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) { engines(t, testRefusals) }

func testRefusals(t *testing.T, r rig) {
	var log bytes.Buffer
	r.config.Logger, r.config.Registerer = slog.New(slog.NewTextHandler(&log, nil)), prometheus.NewRegistry()
	d := r.open(t, firewall.Web)
	r.open(t, firewall.Web) // counts in the same place
	for _, s := range []firewall.Statement{add(), {Name: "read notes", SQL: `DELETE FROM notes`, Roles: firewall.Web}, {Name: "drop", SQL: `DROP TABLE notes`, Roles: firewall.Web}} {
		err := d.Update(t.Context(), func(tx *Tx) error { return tx.ExecOne(t.Context(), s, "secret text", nil) })
		if !errors.Is(err, firewall.ErrRefused) {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
	n, err := testutil.GatherAndCount(r.config.Registerer.(*prometheus.Registry), "rawstone_database_refused_total")
	want := "# HELP rawstone_database_refused_total Statements that the database's firewall refused.\n# TYPE rawstone_database_refused_total counter\nrawstone_database_refused_total{role=\"web\"} 3\n"
	if err2 := testutil.GatherAndCompare(r.config.Registerer.(*prometheus.Registry), strings.NewReader(want)); n != 1 || err != nil || err2 != nil {
		t.Errorf("%d, %v, %v", n, err, err2)
	}
	if got := log.String(); !strings.Contains(got, `role=web statement="add note"`) || strings.Contains(got, "secret") {
		t.Errorf("log: %s", got)
	}
	if got := names(t, d); len(got) != 0 {
		t.Errorf("notes %v", got)
	}
	for name, bad := range map[string][]firewall.Statement{
		"twice": {add(), add()}, "no role": {{Name: "a", SQL: "SELECT 1"}}, "no name": {{SQL: "SELECT 1", Roles: firewall.Web}}, "unknown role": {{Name: "a", SQL: "SELECT 1", Roles: 1 << 15}},
	} {
		r.config.Statements, r.config.Role = bad, firewall.Web
		if d, err := Open(t.Context(), r.config); err == nil {
			t.Errorf("%s: registered", name)
			d.Close()
		}
	}
}

func TestLock(t *testing.T) { engines(t, testLock) }

func testLock(t *testing.T, r rig) {
	a, b := r.open(t, firewall.Admin), r.open(t, firewall.Admin)
	held, err := a.Lock(t.Context(), "settler")
	if err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), a, "a"); err != nil {
		t.Errorf("the holder cannot write: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := b.Lock(ctx, "settler"); err == nil {
		t.Error("two hold the lock")
	}
	if other, err := b.Lock(t.Context(), "other"); err != nil {
		t.Error(err)
	} else if err := other.Release(); err != nil {
		t.Error(err)
	}
	type result struct {
		l   *Lock
		err error
	}
	next := make(chan result, 1)
	go func() {
		l, err := b.Lock(t.Context(), "settler")
		next <- result{l, err}
	}()
	if err := held.Release(); err != nil {
		t.Error(err)
	}
	got := <-next
	if got.err != nil {
		t.Fatal(got.err)
	}
	if err := errors.Join(put(t.Context(), a, "b"), put(t.Context(), b, "c"), got.l.Release()); err != nil {
		t.Error(err)
	}
	if _, err := a.Lock(t.Context(), "../x"); err == nil {
		t.Error("a path is a lock's name")
	}
}

// TestLostLock cuts the connection that holds a lock: its holder hears of it and writes no more, and the next one gets the lock.
func TestLostLock(t *testing.T) {
	pg := server.New(t, firewall.Owner)
	dir, _ := fs.Sub(migrations(), "postgres")
	if err := schema.Migrate(t.Context(), schema.Config{URL: pg.URL(), Migrations: dir, Statements: statements()}); err != nil {
		t.Fatal(err)
	}
	r := rig{Config{URL: pg.URL(), Migrations: migrations(), Statements: statements()}}
	a, b := r.open(t, firewall.Admin), r.open(t, firewall.Admin)
	held, err := a.Lock(t.Context(), "settler")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pg.As(t, "postgres").Exec(t.Context(),
		`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`); err != nil {
		t.Fatal(err)
	}
	<-held.Lost()
	if err := put(t.Context(), a, "a"); err == nil || !strings.Contains(err.Error(), "lock that was held is lost") {
		t.Errorf("who lost the lock wrote: %v", err)
	}
	if _, err := b.Lock(t.Context(), "settler"); err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), b, "b"); err != nil {
		t.Error(err)
	}
	if err := errors.Join(held.Release(), put(t.Context(), a, "c")); err != nil {
		t.Error(err)
	}
	// A connection that died while nobody used it is replaced.
	if _, err := pg.As(t, "postgres").Exec(t.Context(),
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rawstone_admin' AND datname = current_database()`); err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), a, "d"); err != nil {
		t.Error(err)
	}
}

func TestRefusesOtherSchemas(t *testing.T) {
	r := onFile(t)
	r.config.Statements = append(r.config.Statements, version())
	d := r.open(t, firewall.Audit)
	if err := d.Update(t.Context(), func(tx *Tx) error { return tx.ExecOne(t.Context(), version()) }); err != nil {
		t.Fatal(err)
	}
	r.config.Role = firewall.Admin
	if _, err := Open(t.Context(), r.config); err == nil || !strings.Contains(err.Error(), "use the newer program") {
		t.Errorf("got %v", err)
	}
	pg := onServer(t)
	pg.config.Role = firewall.Admin
	pg.config.Migrations = fstest.MapFS{"postgres/00002_x.sql": {}}
	if _, err := Open(t.Context(), pg.config); err == nil || !strings.Contains(err.Error(), "migrate it as rawstone_owner") {
		t.Errorf("an older schema: %v", err)
	}
	pg.config.Migrations = fstest.MapFS{"postgres/00000_x.sql": {}}
	if _, err := Open(t.Context(), pg.config); err == nil {
		t.Error("no migrations")
	}
	empty := server.New(t, firewall.Owner)
	pg.config.Migrations, pg.config.URL = migrations(), empty.URL()
	if _, err := Open(t.Context(), pg.config); err == nil || !strings.Contains(err.Error(), "the schema is not there") {
		t.Errorf("an empty database: %v", err)
	}
}

func TestRefusesWhatIsNoDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes.db")
	text := []byte(strings.Repeat("not a database ", 100))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Path: path, Migrations: migrations(), Role: firewall.Web}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want an error that names the file", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != string(text) {
		t.Error("the file was changed")
	}
}
