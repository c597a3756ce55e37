// Package dump runs PostgreSQL's own programs to write the records to a file and to read them back, and reads from such a file, without a
// server, the entries for the ledger.
//
// It works as the owner of the tables, over verified TLS 1.3. A file is one state of all tables; it goes into an empty database as a whole
// or not at all.
package dump

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"rawstone/collector/internal/firewall"
	"rawstone/collector/internal/postgres"
)

const (
	maxSaid    = 1 << 10
	patience   = 30 * time.Second
	minimumTLS = "TLSv1.3"
)

// A Server is where records are.
type Server struct {
	// URL is its address in the form of package postgres.
	URL string
	// Programs is the folder of pg_dump and pg_restore; empty for those on PATH.
	Programs string
}

// address returns PostgreSQL's for the owner of the tables, in libpq's form. It holds no password: package postgres refuses one.
func address(ownerURL string) (string, error) {
	if _, err := postgres.Parse(ownerURL, firewall.Owner, postgres.Limits{Statement: patience, Lock: patience}); err != nil {
		return "", err
	}
	u, err := url.Parse(ownerURL)
	if err != nil {
		return "", errors.New("cannot use PostgreSQL address") // it may hold a secret: not said
	}
	q := u.Query()
	q.Set("ssl_min_protocol_version", minimumTLS)
	u.RawQuery, u.User = q.Encode(), url.User(firewall.Owner)
	return u.String(), nil
}

// command prepares one of PostgreSQL's programs.
func (s *Server) command(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	path := name
	if s.Programs != "" {
		path = filepath.Join(s.Programs, name)
	}
	path, err := exec.LookPath(path)
	if err != nil {
		return nil, fmt.Errorf("cannot find PostgreSQL's program %s: install its client package (postgresql-client), or name the folder with --postgres-programs: %w", name, err)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "PGOPTIONS=-c bytea_output=hex")
	return cmd, nil
}

// said bounds what a program may say on standard error.
type said struct{ b bytes.Buffer }

func (s *said) Write(p []byte) (int, error) {
	s.b.Write(p[:min(len(p), maxSaid-s.b.Len())])
	return len(p), nil
}

func (s *said) wrap(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cannot run %s: %w: %s", name, err, strings.Join(strings.Fields(s.b.String()), " "))
}

// run runs a program to its end.
func (s *Server) run(ctx context.Context, name string, args ...string) error {
	cmd, err := s.command(ctx, name, args...)
	if err != nil {
		return err
	}
	var spoken said
	cmd.Stderr = &spoken
	return spoken.wrap(name, cmd.Run())
}

// Write writes one state of all tables to a file.
func (s *Server) Write(ctx context.Context, path string) error {
	at, err := address(s.URL)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // before pg_dump makes it readable for others
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return s.run(ctx, "pg_dump", "--format=custom", "--no-owner", "--no-password", "--dbname="+at, "--file="+path)
}

// Load puts a dump into an empty database, all of it or nothing, with the rights that it has. Their logins must be there before.
func (s *Server) Load(ctx context.Context, path string) error {
	at, err := address(s.URL)
	if err != nil {
		return err
	}
	if err := s.logins(ctx); err != nil {
		return err
	}
	return s.run(ctx, "pg_restore", "--no-owner", "--single-transaction", "--exit-on-error", "--no-password", "--dbname="+at, path)
}

// logins makes those that are missing, as package schema does.
func (s *Server) logins(ctx context.Context) error {
	return s.connect(ctx, func(conn *pgx.Conn) error {
		for _, r := range firewall.Roles() {
			var there bool
			if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)`, r.Login()).Scan(&there); err != nil {
				return err
			}
			if there {
				continue
			}
			if _, err := conn.Exec(ctx, `CREATE ROLE `+pgx.Identifier{r.Login()}.Sanitize()+` LOGIN NOINHERIT`); err != nil {
				return err
			}
		}
		return nil
	})
}

// connect lends a connection of the owner's.
func (s *Server) connect(ctx context.Context, do func(*pgx.Conn) error) error {
	c, err := postgres.Parse(s.URL, firewall.Owner, postgres.Limits{Statement: patience, Lock: patience})
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return err
	}
	return errors.Join(do(conn), conn.Close(context.WithoutCancel(ctx)))
}

// Tables counts those in a database.
func (s *Server) Tables(ctx context.Context) (n int, err error) {
	err = s.connect(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`).Scan(&n)
	})
	return n, err
}
