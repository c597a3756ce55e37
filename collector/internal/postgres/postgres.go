// Package postgres connects to a PostgreSQL server. It speaks TLS 1.3 to a server whose certificate and name it has verified, and nothing
// else: an address that allows less is refused, and so is one with a login in it, because whoever asks for a connection says as whom.
//
// Passwords come from the address's passfile in PostgreSQL's own format, or there are none: sslcert and sslkey name a client
// certificate. The package runs no statement.
package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const connectTimeout = 10 * time.Second

// Limits bound what one connection may keep the server at; both are at least a millisecond.
type Limits struct {
	// Statement is how long a statement may run, Lock how long it may wait for another transaction.
	Statement, Lock time.Duration
}

// Parse reads an address such as postgres://HOST/DATABASE?sslmode=verify-full&sslrootcert=FILE for one login.
func Parse(address, login string, l Limits) (*pgx.ConnConfig, error) {
	const remedy = "write postgres://HOST/DATABASE?sslmode=verify-full&sslrootcert=FILE"
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, errors.New("cannot use PostgreSQL address: it is no postgres:// URL; " + remedy) // it may hold a secret: not said
	}
	q := u.Query()
	switch {
	case u.User != nil || q.Has("user") || q.Has("password"):
		return nil, errors.New("cannot use PostgreSQL address: it names a login, which each role has its own of; use passfile or sslcert and sslkey")
	case len(q["sslmode"]) != 1 || q.Get("sslmode") != "verify-full":
		return nil, errors.New("cannot use PostgreSQL address: sslmode is not verify-full; " + remedy)
	case u.Hostname() == "" || strings.ContainsAny(u.Host, ",/%") || q.Has("host") || q.Has("hostaddr") || q.Has("service"):
		return nil, errors.New("cannot use PostgreSQL address: it names no single host, and sockets have no TLS; " + remedy)
	}
	u.User = url.User(login)
	c, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, fmt.Errorf("cannot use PostgreSQL address: %w", err)
	}
	if c.TLSConfig == nil || c.TLSConfig.ServerName == "" || c.TLSConfig.InsecureSkipVerify || len(c.Fallbacks) != 0 {
		return nil, errors.New("cannot use PostgreSQL address: it would not verify the server; " + remedy)
	}
	c.TLSConfig.MinVersion = tls.VersionTLS13
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	c.RuntimeParams = map[string]string{
		"application_name": login, "search_path": "public, pg_temp", "client_min_messages": "warning",
		"statement_timeout": millis(l.Statement), "lock_timeout": millis(l.Lock), "idle_in_transaction_session_timeout": millis(l.Statement),
	}
	return c, nil
}

// Busy reports whether an error says that a lock was not to be had in time, that a statement took too long, or that a transaction is to be run
// again: lock_not_available, query_canceled, serialization_failure and deadlock_detected (PostgreSQL, appendix A).
func Busy(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && slices.Contains([]string{"55P03", "57014", "40001", "40P01"}, e.Code)
}

func millis(d time.Duration) string { return strconv.FormatInt(max(1, d.Milliseconds()), 10) }

// A Pool lends connections, each to one borrower at a time.
type Pool struct {
	config *pgx.ConnConfig
	slots  chan *pgx.Conn // nil for a connection that is yet to be made
	close  sync.Once
	closed chan struct{}
}

// NewPool returns a pool of at most size connections, which are made when they are needed.
func NewPool(config *pgx.ConnConfig, size int) *Pool {
	p := &Pool{config: config, slots: make(chan *pgx.Conn, size), closed: make(chan struct{})}
	for range size {
		p.slots <- nil
	}
	return p
}

// Borrow waits for a connection on which the statement start can be run, as `begin`: one that died while nobody used it is replaced.
func (p *Pool) Borrow(ctx context.Context, start string) (conn *pgx.Conn, err error) {
	select {
	case conn = <-p.slots:
	case <-p.closed:
		return nil, errors.New("the database is closed")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	used := conn != nil
	for {
		if conn == nil || conn.IsClosed() {
			if conn, err = pgx.ConnectConfig(ctx, p.config); err != nil {
				p.slots <- nil
				return nil, err
			}
			used = false
		}
		if _, err = conn.PgConn().Exec(ctx, start).ReadAll(); err == nil {
			return conn, nil
		}
		if !used || !conn.IsClosed() || ctx.Err() != nil {
			p.Return(conn)
			return nil, err
		}
	}
}

// Return takes a connection back; one that is within a transaction is closed, which rolls that back.
func (p *Pool) Return(conn *pgx.Conn) {
	if conn.IsClosed() || conn.PgConn().TxStatus() != 'I' {
		closeConn(conn)
		conn = nil
	}
	p.slots <- conn
}

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // the server rolls back what was not committed
}

// Close waits for all connections to come back and closes them.
func (p *Pool) Close() {
	p.close.Do(func() {
		close(p.closed)
		for range cap(p.slots) {
			if conn := <-p.slots; conn != nil {
				closeConn(conn)
			}
		}
	})
}
