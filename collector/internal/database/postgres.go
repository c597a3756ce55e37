package database

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rawstone/collector/internal/firewall"
	"rawstone/collector/internal/migration"
	"rawstone/collector/internal/postgres"
	"rawstone/collector/internal/session"
)

const (
	attempts     = 5 // at a transaction that PostgreSQL asks to repeat
	attemptPause = 10 * time.Millisecond
)

// server is the engine in a PostgreSQL server. Each of its connections keeps its statements prepared.
type server struct {
	config      *pgx.ConnConfig
	write, read *postgres.Pool      // write has one connection
	first       *postgres.Pool      // for those who wait for no other reader
	fence       chan *postgres.Held // of one place: the lock that is held, or nil
	places      map[string]int      // of statements in the program's list
}

func openPostgres(ctx context.Context, cfg Config) (*server, error) {
	c, err := postgres.Parse(cfg.URL, cfg.Role.Login(), postgres.Limits{Statement: cfg.StatementTimeout, Lock: cfg.BusyTimeout})
	if err != nil {
		return nil, fmt.Errorf("cannot open records: %w", err)
	}
	c.StatementCacheCapacity = max(1, len(cfg.Statements))
	s := &server{config: c, write: postgres.NewPool(c, 1), read: postgres.NewPool(c, readers()), first: postgres.NewPool(c, firstReaders),
		fence: make(chan *postgres.Held, 1), places: make(map[string]int)}
	s.fence <- nil
	for i, one := range cfg.Statements {
		s.places[string(one.Name)] = i
	}
	if err := s.check(ctx, cfg.Migrations); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open records: %w", err), s.close())
	}
	return s, nil
}

func (s *server) check(ctx context.Context, migrations fs.FS) error {
	files, err := fs.Sub(migrations, "postgres")
	if err != nil {
		return err
	}
	newest, err := migration.Newest(files)
	if err != nil {
		return err
	}
	var have int64
	err = s.transact(ctx, s.read, "begin read only", func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version`).Scan(&have)
	})
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && (pg.Code == "42P01" || pg.Code == "42501"): // no such table, or no right to read it
		return fmt.Errorf("the schema is not there: migrate it as %s: %w", firewall.Owner, err)
	case errors.As(err, &pg) && pg.Code == "28000": // no such login, or pg_hba.conf does not let it in
		return fmt.Errorf("the login is not there or not let in: migrate the schema as %s: %w", firewall.Owner, err)
	case err != nil:
		return err
	case have < newest:
		return fmt.Errorf("the schema is version %d and this program wants %d: migrate it as %s", have, newest, firewall.Owner)
	case have > newest:
		return fmt.Errorf("the schema is version %d and this program knows %d: use the newer program that wrote it", have, newest)
	}
	return nil
}

func (s *server) close() error {
	s.write.Close()
	s.read.Close()
	s.first.Close()
	return nil
}

// update takes the lock of all writers with its first statement: each later one sees what the writer before has committed.
func (s *server) update(ctx context.Context, fn func(runner) error) (err error) {
	begin := "begin isolation level read committed; " + postgres.LockWriters
	for n := 1; ; n++ {
		err = s.transact(ctx, s.write, begin, func(conn *pgx.Conn) error {
			if err := s.fenced(ctx, conn); err != nil {
				return err
			}
			return fn(session.NewPostgres(conn, s.places))
		})
		var pg *pgconn.PgError
		repeat := errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01") // serialisation failure, deadlock
		if !repeat || n == attempts {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Duration(n) * attemptPause):
		}
	}
}

func (s *server) view(ctx context.Context, first bool, fn func(runner) error) error {
	readers := s.read
	if first {
		readers = s.first
	}
	return s.transact(ctx, readers, "begin isolation level repeatable read read only", func(conn *pgx.Conn) error {
		return fn(session.NewPostgres(conn, s.places))
	})
}

func (s *server) transact(ctx context.Context, p *postgres.Pool, begin string, fn func(*pgx.Conn) error) error {
	conn, err := p.Borrow(ctx, begin)
	if err != nil {
		return fmt.Errorf("cannot begin transaction: %w", err)
	}
	defer p.Return(conn) // which rolls back
	if err := fn(conn); err != nil {
		if _, err := conn.PgConn().Exec(ctx, "rollback").ReadAll(); err != nil {
			_ = conn.Close(ctx) // the server rolls back
		}
		return err
	}
	tag, err := conn.Exec(ctx, "commit", pgx.QueryExecModeSimpleProtocol)
	if err == nil && tag.String() != "COMMIT" {
		err = errors.New("a statement in it has failed")
	}
	if err != nil {
		return fmt.Errorf("cannot commit transaction: %w", err)
	}
	return nil
}

func (s *server) backup(context.Context, string) error {
	return errors.New("they are in PostgreSQL: use pg_dump or its base backup")
}

// lock takes an advisory lock on a connection of its own, which the server takes back with the connection.
func (s *server) lock(ctx context.Context, name string) (*Lock, error) {
	held := <-s.fence
	defer func() { s.fence <- held }()
	if held != nil {
		return nil, errors.New("this database holds a lock already")
	}
	h, err := postgres.Hold(ctx, s.config, name)
	if err != nil {
		return nil, err
	}
	held = h
	return &Lock{h.Lost(), func() error {
		err := h.Release()
		<-s.fence
		s.fence <- nil
		return err
	}}, nil
}

// fenced refuses a transaction when the lock that this database held is lost. The transaction holds the lock of all writers, so that
// whoever gets the lost one next writes after it.
func (s *server) fenced(ctx context.Context, conn *pgx.Conn) error {
	h := <-s.fence
	s.fence <- h
	if h == nil {
		return nil
	}
	holds, err := h.Holds(ctx, conn)
	if err == nil && !holds {
		err = errors.New("the lock that was held is lost: open the records anew")
	}
	return err
}
