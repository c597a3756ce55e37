package store

import (
	"os"
	"path/filepath"
	"testing"

	"rawstone/collector/internal/database/postgrestest"
	"rawstone/collector/internal/firewall"
)

// every is a role that may do everything.
const every = Ingest | Settle | Web | Audit | Admin | Account | Statements | Person

var server postgrestest.Server

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }

// A rig is where one test's records are: a file, or a database of a server.
type rig struct {
	path string
	pg   *postgrestest.Database
}

// engines runs a test with new records on each engine.
func engines(t *testing.T, test func(*testing.T, *rig)) {
	t.Run("sqlite", func(t *testing.T) { test(t, &rig{path: filepath.Join(t.TempDir(), "records.db")}) })
	t.Run("postgres", func(t *testing.T) { test(t, onPostgres(t)) })
}

func onPostgres(t testing.TB) *rig {
	t.Helper()
	r := &rig{pg: server.New(t, firewall.Owner)}
	if err := Migrate(t.Context(), r.pg.URL()); err != nil {
		t.Fatal(err)
	}
	var logins []string
	for _, role := range every.Each() {
		logins = append(logins, role.Login())
	}
	r.pg.Join(t, every.Login(), logins...)
	return r
}

func (r *rig) config(role Role) Config {
	if r.pg != nil {
		return Config{URL: r.pg.URL(), Role: role}
	}
	return Config{Path: r.path, Role: role}
}

// open opens the records until the test ends.
func (r *rig) open(t testing.TB, role Role) *DB {
	t.Helper()
	d, err := Open(t.Context(), r.config(role))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}
