// Package statement makes accounts' statements (package statement of pkg) out of a collector's records and its log, and has owners check
// theirs from files.
//
// A statement is made anew for each request. What it costs beside the account's own part are the days' trees, which are the whole fleet's:
// they are kept in memory, the newest of them, so that owners who ask for the same days share them. What the records say of balances is put
// in as it is, so that records which say something else than the log give a statement that no owner accepts.
//
// The package writes nothing to records or log, and believes the records about what an entry hides and the log's tiles about hashes: who gets
// a statement checks both. What the records are ahead of the log is not there yet.
package statement

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"rawstone/collector/internal/store"
	"rawstone/pkg/statement"
	"rawstone/pkg/wire"
)

// Errors that callers branch on.
var (
	// ErrNoAccount is for an account that is not there.
	ErrNoAccount = errors.New("there is no such account")
	// ErrNotYet is for records without a block whose tree is in the log.
	ErrNotYet = errors.New("no block covers it yet: ask again after the next drop")
	// ErrAhead is for a drop to begin with that is beyond the next.
	ErrAhead = errors.New("there is no such drop yet")
)

// keptLeaves bounds the leaves of the days' trees that are kept, of about 120 bytes each.
const keptLeaves = 4_000_000

// Config says what to make statements from; every field is required. The three may be one, opened for the three roles.
type Config struct {
	// Settle holds the records opened for the role Settle: entries, weights, drawn stones.
	Settle *store.DB
	// Audit holds them opened for the role Audit: openings.
	Audit *store.DB
	// Account holds them opened for the role Account: boxes and redemptions.
	Account *store.DB
	// LogDir is the log's directory, which this package only reads.
	LogDir string
	// Root is the pinned program root.
	Root wire.PublicKey
}

// A Desk makes statements. It may be used from several goroutines.
type Desk struct {
	cfg  Config
	open []*store.DB // for the desk alone

	mu   sync.Mutex
	days []*day // the newest used last
}

// New returns a desk.
func New(cfg Config) (*Desk, error) {
	if cfg.Settle == nil || cfg.Audit == nil || cfg.Account == nil || cfg.LogDir == "" || cfg.Root == (wire.PublicKey{}) {
		return nil, errors.New("cannot make statements: no records, log or program root given")
	}
	return &Desk{cfg: cfg}, nil
}

// Open opens records that are known by how they are opened for a role, and returns a desk over them, which Close closes.
func Open(ctx context.Context, records func(store.Role) (store.Config, error), logDir string, root wire.PublicKey) (_ *Desk, err error) {
	d := &Desk{cfg: Config{LogDir: logDir, Root: root}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("cannot make statements: %w", err), d.Close())
		}
	}()
	for role, db := range map[store.Role]**store.DB{store.Settle: &d.cfg.Settle, store.Audit: &d.cfg.Audit, store.Account: &d.cfg.Account} {
		c, err := records(role)
		if err != nil {
			return nil, err
		}
		if *db, err = store.Open(ctx, c); err != nil {
			return nil, err
		}
		d.open = append(d.open, *db)
	}
	return d, nil
}

// Close closes the records that Open has opened.
func (d *Desk) Close() (err error) {
	for _, db := range d.open {
		err = errors.Join(err, db.Close())
	}
	return err
}

// Write writes an account's statement up to the newest block, beginning with the drop since, the first that its owner has not verified; 0
// for a whole one. Nothing is written when the error is one of the package's own.
func (d *Desk) Write(ctx context.Context, w io.Writer, account string, since uint64) error {
	s, err := d.draft(ctx, account, since)
	if err == nil {
		err = s.write(ctx, statement.NewWriter(w))
	}
	if err != nil {
		return fmt.Errorf("cannot make statement: %w", err)
	}
	return nil
}
