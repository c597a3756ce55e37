// Package statement makes accounts' statements (package statement of pkg) out of a collector's records and its log, and has owners check
// theirs from files.
//
// A statement is made anew for each request. What it costs beside the account's own part are the days' trees, which are the whole fleet's:
// they are kept as files (package dayfile), so that each is made once and read by all who ask for its day, and that of the newest day is made
// before anybody asks. What the records say of balances is put in as it is, so that records which say something else than the log give a
// statement that no owner accepts.
//
// The package writes nothing to records or log, and believes the records about what an entry hides and the log's tiles about hashes: who gets
// a statement checks both. What the records are ahead of the log is not there yet.
package statement

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"rawstone/collector/internal/statement/internal/dayfile"
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

// Config says what to make statements from; fields are required unless their comment says otherwise.
type Config struct {
	// Records are the records, opened for the role Statements.
	Records *store.DB
	// LogDir is the log's directory, which this package only reads.
	LogDir string
	// Root is the pinned program root.
	Root wire.PublicKey
	// Days is the directory of the days' trees, for them alone; KeptDays and KeptBytes bound it, by dayfile's defaults of 400 days and 20 GiB when zero.
	Days      string
	KeptDays  int
	KeptBytes int64
	Logger    *slog.Logger
}

// A Desk makes statements. It may be used from several goroutines.
type Desk struct {
	cfg  Config
	days *dayfile.Shelf
	own  bool // the records are the desk's alone
}

// New returns a desk.
func New(cfg Config) (*Desk, error) {
	if cfg.Records == nil || cfg.LogDir == "" || cfg.Root == (wire.PublicKey{}) || cfg.Logger == nil {
		return nil, errors.New("cannot make statements: no records, log, program root or logger given")
	}
	days, err := dayfile.Open(dayfile.Config{Dir: cfg.Days, Days: cfg.KeptDays, Bytes: cfg.KeptBytes, Logger: cfg.Logger})
	if err != nil {
		return nil, fmt.Errorf("cannot make statements: %w", err)
	}
	return &Desk{cfg: cfg, days: days}, nil
}

// Open opens records, which the configuration does not hold yet, for the role Statements, and returns a desk over them, which Close closes.
func Open(ctx context.Context, records store.Config, cfg Config) (_ *Desk, err error) {
	records.Role = store.Statements
	if cfg.Records, err = store.Open(ctx, records); err != nil {
		return nil, fmt.Errorf("cannot make statements: %w", err)
	}
	d, err := New(cfg)
	if err != nil {
		return nil, errors.Join(err, cfg.Records.Close())
	}
	d.own = true
	return d, nil
}

// Close closes the records that Open has opened.
func (d *Desk) Close() error {
	if !d.own {
		return nil
	}
	return d.cfg.Records.Close()
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
