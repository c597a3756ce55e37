package postgres

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	l := Limits{Statement: time.Second, Lock: time.Minute}
	c, err := Parse("postgres://db.example/records?sslmode=verify-full", "rawstone_web", l)
	if err != nil {
		t.Fatal(err)
	}
	if c.User != "rawstone_web" || c.Host != "db.example" || c.Database != "records" || c.TLSConfig.ServerName != "db.example" ||
		c.TLSConfig.MinVersion != tls.VersionTLS13 || c.RuntimeParams["statement_timeout"] != "1000" || c.RuntimeParams["lock_timeout"] != "60000" {
		t.Errorf("%+v", c)
	}
	for _, bad := range []string{
		"", "host=db.example", "mysql://db.example/x?sslmode=verify-full", "postgres://db.example/x", "postgres://db.example/x?sslmode=disable",
		"postgres://db.example/x?sslmode=require", "postgres://db.example/x?sslmode=verify-ca", "postgres://db.example/x?sslmode=prefer",
		"postgres://db.example/x?sslmode=verify-full&sslmode=disable", "postgres:///x?sslmode=verify-full", "postgres:///x?host=/run/postgresql&sslmode=verify-full",
		"postgres://%2Frun%2Fpostgresql/x?sslmode=verify-full", "postgres://a,b/x?sslmode=verify-full", "postgres://me:secret@db.example/x?sslmode=verify-full",
		"postgres://db.example/x?sslmode=verify-full&user=me", "postgres://db.example/x?sslmode=verify-full&password=secret",
		"postgres://db.example/x?sslmode=verify-full&service=x", "postgres://db.example/x?sslmode=verify-full&sslrootcert=/no/such/file",
	} {
		if _, err := Parse(bad, "rawstone_web", l); err == nil {
			t.Errorf("%s was accepted", bad)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("a secret is told: %v", err)
		}
	}
}
