package session

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"rawstone/collector/internal/firewall"
)

// A Postgres is a session in a PostgreSQL server. It sends statements that change one row together, because each journey to the server costs more than the statement, and those of
// one kind as one where there is a text for many, because that costs the server less too.
type Postgres struct {
	conn   *pgx.Conn
	places map[string]int // of statements in the program's list
	single []run
	many   []run // of statements with a text for many
	rows   int   // in single and many
}

// A run is a statement and the lists of arguments with which it waits, one that has no text for many only one.
type run struct {
	firewall.Statement
	lists   [][]any
	serials []*int64 // where the returned numbers go, in the order of lists; empty when none are
}

// NewPostgres returns the session of a connection within a transaction; places are statements' places in the program's list.
func NewPostgres(conn *pgx.Conn, places map[string]int) *Postgres {
	return &Postgres{conn: conn, places: places}
}

// ExecOne has a statement wait that changes one row or, with a serial, adds one and returns its number.
func (t *Postgres) ExecOne(_ context.Context, s firewall.Statement, args []any, serial *int64) error {
	t.rows++
	r := run{Statement: s, lists: [][]any{args}}
	if serial != nil {
		r.serials = []*int64{serial}
	}
	if s.Many == "" {
		t.single = append(t.single, r)
		return nil
	}
	place := t.places[string(s.Name)]
	i, found := slices.BinarySearchFunc(t.many, place, func(r run, place int) int { return t.places[string(r.Name)] - place })
	if !found {
		t.many = slices.Insert(t.many, i, r)
		return nil
	}
	t.many[i].lists = append(t.many[i].lists, args)
	t.many[i].serials = append(t.many[i].serials, r.serials...)
	return nil
}

// Flush sends what waits, when that are at least so many statements.
func (t *Postgres) Flush(ctx context.Context, least int) error {
	if t.rows < least {
		return nil
	}
	return t.send(ctx, nil, nil, nil)
}

// send sends what waits and then, when there is one, a statement whose answer is read by the function.
func (t *Postgres) send(ctx context.Context, s *firewall.Statement, args []any, last func(pgx.Row) error) (err error) {
	runs := slices.Concat(t.single, t.many)
	t.single, t.many, t.rows = nil, nil, 0
	var batch pgx.Batch
	for _, r := range runs {
		args, err := arguments(r.Statement, r.lists)
		if err != nil {
			return said{Say(r.Statement, err)}
		}
		batch.Queue(r.OnPostgres(), args...)
	}
	if s != nil {
		batch.Queue(s.OnPostgres(), args...)
	}
	results := t.conn.SendBatch(ctx, &batch)
	defer func() {
		if closed := results.Close(); err == nil {
			err = closed
		}
	}()
	for _, r := range runs {
		if err := r.read(results); err != nil {
			return said{Say(r.Statement, err)}
		}
	}
	if s != nil {
		return last(results.QueryRow())
	}
	return nil
}

// read reads the answer to a run.
func (r run) read(results pgx.BatchResults) error {
	if len(r.serials) == 0 {
		tag, err := results.Exec()
		if err != nil {
			return err
		}
		return want(len(r.lists), tag.RowsAffected())
	}
	rows, err := results.Query()
	if err != nil {
		return err
	}
	// Rows come in the order in which they were added, which is that of the lists.
	serials, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return err
	}
	if err := want(len(r.lists), int64(len(serials))); err != nil {
		return err
	}
	if len(r.serials) != len(r.lists) || !slices.IsSorted(serials) {
		return fmt.Errorf("%d serial numbers, not in order, for %d rows", len(serials), len(r.serials))
	}
	for i, p := range r.serials {
		*p = serials[i]
	}
	return nil
}

// arguments returns the arguments with which a statement is sent: arrays for a text for many.
func arguments(s firewall.Statement, lists [][]any) ([]any, error) {
	if s.Many == "" {
		return lists[0], nil
	}
	out := make([]any, len(lists[0]))
	for i := range out {
		var err error
		if out[i], err = column(lists, i); err != nil {
			return nil, fmt.Errorf("parameter $%d: %w", i+1, err)
		}
	}
	return out, nil
}

// column returns the arguments at a place as an array of their type. A nil stands for bytes.
func column(lists [][]any, i int) (any, error) {
	switch lists[0][i].(type) {
	case int64:
		return array[int64](lists, i)
	case int:
		return array[int](lists, i)
	case string:
		return array[string](lists, i)
	default:
		return array[[]byte](lists, i)
	}
}

func array[T any](lists [][]any, i int) ([]T, error) {
	out := make([]T, len(lists))
	for n, args := range lists {
		v, ok := args[i].(T)
		if _, bytes := any(v).([]byte); !ok && (args[i] != nil || !bytes) {
			return nil, fmt.Errorf("%T among %T", args[i], out)
		}
		out[n] = v
	}
	return out, nil
}

// Exec runs a statement with each list of arguments and returns the number of rows that were changed.
func (t *Postgres) Exec(ctx context.Context, s firewall.Statement, lists [][]any) (n int64, err error) {
	if s.Many != "" {
		args, err := arguments(s, lists)
		if err != nil {
			return 0, err
		}
		lists = [][]any{args}
	}
	for _, args := range lists {
		tag, err := t.conn.Exec(ctx, s.OnPostgres(), args...)
		if err != nil {
			return 0, err
		}
		n += tag.RowsAffected()
	}
	return n, nil
}

// Get reads one row, after what waits.
func (t *Postgres) Get(ctx context.Context, s firewall.Statement, args, dest []any) error {
	args, err := arguments(s, [][]any{args})
	if err != nil {
		return err
	}
	read := func(row pgx.Row) error {
		err := row.Scan(dest...)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotFound
		}
		return err
	}
	if t.rows == 0 {
		return read(t.conn.QueryRow(ctx, s.OnPostgres(), args...))
	}
	return t.send(ctx, &s, args, read)
}

// Each reads the rows for each list of arguments.
func (t *Postgres) Each(ctx context.Context, s firewall.Statement, lists [][]any, fn func(Scanner) error) error {
	if s.Many != "" {
		args, err := arguments(s, lists)
		if err != nil {
			return err
		}
		lists = [][]any{args}
	}
	for _, args := range lists {
		rows, err := t.conn.Query(ctx, s.OnPostgres(), args...)
		if err != nil {
			return err
		}
		if err := eachServerRow(rows, fn); err != nil {
			return err
		}
	}
	return nil
}

func eachServerRow(rows pgx.Rows, fn func(Scanner) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
