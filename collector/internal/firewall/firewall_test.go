package firewall

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestRoles(t *testing.T) {
	if got := (Settle | Ingest).Each(); !slices.Equal(got, []Role{Ingest, Settle}) {
		t.Errorf("%v", got)
	}
	var logins []string
	for _, r := range every.Each() {
		logins = append(logins, r.Login())
	}
	if got := strings.Join(logins, " "); got != "rawstone_ingest rawstone_settle rawstone_web rawstone_audit rawstone_admin rawstone_account rawstone_statement rawstone_person" {
		t.Error(got)
	}
	if got := (Web | Admin).String(); got != "web_admin" {
		t.Error(got)
	}
}

// TestAdmit: what is admitted is exactly what is registered for one of the roles.
func TestAdmit(t *testing.T) {
	var log bytes.Buffer
	reg := prometheus.NewRegistry()
	read := Statement{Name: "read", SQL: "SELECT 1", Roles: Web | Audit}
	write := Statement{Name: "write", SQL: "DELETE FROM t", Roles: Admin}
	f, err := New(Config{Role: Web | Settle, Statements: []Statement{read, write}, Logger: slog.New(slog.NewTextHandler(&log, nil)), Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Admit(t.Context(), read); err != nil {
		t.Error(err)
	}
	otherSQL, otherRoles := read, write
	otherSQL.SQL, otherRoles.Roles = write.SQL, Web
	for _, s := range []Statement{write, otherSQL, otherRoles, {Name: "unknown", SQL: "SELECT 1", Roles: Web}, {}} {
		if err := f.Admit(t.Context(), s); !errors.Is(err, ErrRefused) {
			t.Errorf("%q: %v", s.Name, err)
		}
	}
	if n := testutil.ToFloat64(f.refused); n != 5 || strings.Count(log.String(), "role=settle_web ") != 5 {
		t.Errorf("%v refusals counted\n%s", n, &log)
	}
	if strings.Contains(log.String(), "DELETE") {
		t.Error("the log holds SQL")
	}
}
