package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// Advisory locks are pairs of numbers of 32 bits. The first says whose: 0x52415753, "RAWS". The second is 1 for whoever writes, and a
// name's hash.
const lockSpace = 0x52415753

// LockWriters has a transaction wait until no other that ran it is under way.
const LockWriters = "select pg_advisory_xact_lock(1380013907, 1)"

// A Held is an advisory lock, held by a session of its own.
type Held struct {
	conn *pgx.Conn
	key  int32
	stop context.CancelFunc
	lost chan struct{}
}

// Hold waits until nobody else holds the lock of a name.
func Hold(ctx context.Context, config *pgx.ConnConfig, name string) (*Held, error) {
	c := config.Copy()
	c.RuntimeParams["statement_timeout"], c.RuntimeParams["lock_timeout"] = "0", "0" // it may have to wait for long
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	h := &Held{conn: conn, lost: make(chan struct{})}
	// hashtext is PostgreSQL's own and stable within a major version; all who compete use one server.
	if err := conn.QueryRow(ctx, `SELECT hashtext($1)`, name).Scan(&h.key); err != nil {
		return nil, errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
	}
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1::int4, $2::int4)`, lockSpace, h.key); err != nil {
		return nil, errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
	}
	var watch context.Context
	watch, h.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(h.lost)
		for err := error(nil); err == nil; { // only the loss of the connection ends the wait
			_, err = conn.WaitForNotification(watch)
		}
	}()
	return h, nil
}

// Lost returns a channel that is closed when the session has ended.
func (h *Held) Lost() <-chan struct{} { return h.lost }

// Release ends the session.
func (h *Held) Release() error {
	h.stop()
	<-h.lost
	return h.conn.Close(context.Background())
}

// Holds asks the server over another connection whether the lock is still held.
func (h *Held) Holds(ctx context.Context, conn *pgx.Conn) (is bool, err error) {
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND classid::int8 = $1 AND objid::int8 = $2 AND pid = $3)`,
		int64(lockSpace), int64(uint32(h.key)), int32(h.conn.PgConn().PID())).Scan(&is)
	return is, err
}
