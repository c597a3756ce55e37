// Package settle writes the ledger: it numbers what the records' outbox holds, appends it to the log in order, and on the program's
// schedule makes each day's leaves and order and each drop's block, has the validators cosign them, and settles what accounts earned.
//
// The records are the truth and the log publishes them. An entry gets its number and its final bytes in the records before anybody signs
// the next one and before the log sees it, so a crash at any point resumes with the same bytes: what waits for cosignatures is kept as a
// draft. The settler replays each entry by the rules of package audit before it publishes it. There is one settler to a log.
//
// Missed drops are made up in order and none is skipped. Without a quorum of validators drops stop, which is said and counted, and are
// caught up afterwards; credits wait in the records meanwhile, because the draft has the next number. A log that holds more than the records, or something else, is refused at the start and never overwritten.
package settle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/store"
	"rawstone/pkg/audit"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

const (
	batch           = 256 // entries numbered, applied or appended at once
	defaultInterval = 200 * time.Millisecond
	defaultPatience = 5 * time.Second
)

// ErrNoQuorum says that too few validators answered: nothing is lost, the next Step tries again.
var ErrNoQuorum = errors.New("no quorum of validators")

// A Validator gives VRF proofs and cosignatures. What it follows is final: it is in the records.
type Validator interface {
	// Next returns the number of the entry that it wants next.
	Next(ctx context.Context) (uint64, error)
	// Follow gives it entries in order.
	Follow(ctx context.Context, entries ...ledger.Entry) error
	// Prove returns its proof for the seed that is due.
	Prove(ctx context.Context, due audit.Due) (ledger.Proof, error)
	// Cosign checks a payload as the next entry and signs it.
	Cosign(ctx context.Context, t ledger.Type, payload []byte) (ledger.Cosignature, error)
}

// A Document is a signed document for the log: the program, which comes first, a charter or a policy.
type Document struct {
	Type ledger.Type
	Body []byte
}

// Config configures a Settler.
type Config struct {
	Store *store.DB
	Log   *tlog.Log
	// LogDir is the directory of Log, which is replayed at the start.
	LogDir string
	// Root pins the program root.
	Root wire.PublicKey
	// Documents are logged when they are not yet, in this order: the program, charters, policies with rising serials.
	Documents []Document
	// Validators are in the order of the program's list.
	Validators []Validator
	// Now is the clock, time.Now outside tests.
	Now func() time.Time
	// Interval is how often Run looks for work, 200 ms when zero. Patience is how long a validator may take, 5 s when zero.
	Interval, Patience time.Duration
	Logger             *slog.Logger
	Registerer         prometheus.Registerer
}

// A Settler is the ledger's one writer. Step and Run are for one goroutine; the other methods may be called from several.
type Settler struct {
	c       Config
	metrics *metrics

	broken  error  // set by an error after which memory and records may differ
	live    bool   // the log's own entries are replayed
	settled uint64 // the first drop that the balances do not hold
	replay  *audit.Replay
	pending [][]byte // encoded entries that the log does not have yet

	mu    sync.Mutex
	today *day // nil when no order of a day is logged
}

// day is what the current day's drops have given so far.
type day struct {
	accounts []string      // in the order of the draw
	leaves   []reward.Leaf // likewise
	next     uint64        // the drop after the last that gains holds
	gains    map[string]uint64
}

// New logs the documents, compares the log with the records and replays it.
func New(ctx context.Context, c Config) (*Settler, error) {
	if c.Store == nil || c.Log == nil || c.LogDir == "" || c.Now == nil || c.Logger == nil || c.Registerer == nil || len(c.Validators) == 0 {
		return nil, errors.New("cannot start settler: records, log, clock, logger, metrics or validators are missing")
	}
	c.Interval, c.Patience = cmp.Or(c.Interval, defaultInterval), cmp.Or(c.Patience, defaultPatience)
	r, err := audit.NewReplay(c.Root, nil)
	if err != nil {
		return nil, err
	}
	s := &Settler{c: c, replay: r}
	if s.metrics, err = newMetrics(c.Registerer); err != nil {
		return nil, err
	}
	if err := s.document(ctx); err != nil {
		return nil, err
	}
	if err := s.resume(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// document numbers the documents that are not in the records yet: the first ones before anything else, so that vehicles may be
// registered before the collector has ever run.
func (s *Settler) document(ctx context.Context) error {
	return s.c.Store.Update(ctx, func(tx *store.Tx) error {
		next, err := tx.NextNumber(ctx)
		if err != nil {
			return err
		}
		for _, d := range s.c.Documents {
			has, err := tx.HasEntry(ctx, d.Type, d.Body)
			if err != nil {
				return err
			}
			if has {
				continue
			}
			if d.Type == ledger.TypeProgram && next != 0 {
				return errors.New("cannot start settler: the records belong to another program document; use the one they began with, or new records and a new log")
			}
			id, err := tx.AddEntry(ctx, d.Type, d.Body)
			if err != nil {
				return err
			}
			if next == 0 {
				if err := tx.NumberEntry(ctx, id); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// resume replays the log, checking that each entry is the records', and leaves the rest of the records to Step.
func (s *Settler) resume(ctx context.Context) error {
	var records uint64
	err := s.c.Store.View(ctx, func(tx *store.Tx) (err error) {
		if records, err = tx.NextNumber(ctx); err != nil {
			return err
		}
		s.settled, err = tx.Settled(ctx)
		return err
	})
	if err != nil {
		return err
	}
	size := s.c.Log.Size()
	if size > records {
		return fmt.Errorf("cannot start settler: the log holds %d entries and the records only %d: restore newer records, or rebuild them from the log", size, records)
	}
	if size > 0 {
		var known []ledger.Entry // the records from the entry in hand on
		err := audit.Read(ctx, s.c.LogDir, s.c.Root, func(e *ledger.Entry) error {
			if len(known) == 0 {
				if known, err = s.entries(ctx, e.Number); err != nil {
					return err
				}
			}
			if want := known[0]; want.Number != e.Number || want.Type != e.Type || string(want.Body) != string(e.Body) {
				return fmt.Errorf("cannot start settler: entry %d of the log is not the records': restore the records that belong to this log, or rebuild them from it", e.Number)
			}
			known = known[1:]
			return s.apply(ctx, e)
		})
		if err != nil {
			return err
		}
	}
	s.live = true
	return s.c.Store.Update(ctx, func(tx *store.Tx) error { return tx.MarkAppended(ctx, size) })
}

func (s *Settler) entries(ctx context.Context, from uint64) (out []ledger.Entry, err error) {
	err = s.c.Store.View(ctx, func(tx *store.Tx) error {
		out, err = tx.Entries(ctx, from, batch)
		return err
	})
	return out, err
}

// Run settles until ctx ends. A missing quorum is said, counted and tried again; every other error ends it.
func (s *Settler) Run(ctx context.Context) error {
	tick := time.NewTicker(s.c.Interval)
	defer tick.Stop()
	waiting := false
	for {
		switch err := s.Step(ctx); {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrNoQuorum):
			if !waiting {
				s.c.Logger.Error("drops wait", "error", err)
			}
			waiting = true
		case err != nil:
			return err
		default:
			if waiting {
				s.c.Logger.Info("drops go on")
			}
			waiting = false
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Step does all that is due now: when it returns nil, all entries that the records held are in the log, and so are the blocks of all
// drops that are due. After ErrNoQuorum it may be called again; any other error asks for a new Settler.
func (s *Settler) Step(ctx context.Context) error {
	if s.broken != nil {
		return fmt.Errorf("cannot settle after an error: %w", s.broken)
	}
	err := s.step(ctx)
	// What is final goes into the log even when the validators do not let us go on.
	if err == nil || errors.Is(err, ErrNoQuorum) {
		err = errors.Join(err, s.flush(ctx))
	}
	if err != nil {
		s.metrics.errors.Inc()
		if !errors.Is(err, ErrNoQuorum) {
			s.broken = err
		}
	}
	return err
}

func (s *Settler) step(ctx context.Context) error {
	for {
		taken, err := s.take(ctx)
		if err != nil {
			return err
		}
		if taken {
			continue
		}
		var draft store.Draft
		var found, unnumbered bool
		if err := s.c.Store.View(ctx, func(tx *store.Tx) error {
			if draft, found, err = tx.Draft(ctx); err != nil {
				return err
			}
			unnumbered, err = tx.Unnumbered(ctx)
			return err
		}); err != nil {
			return err
		}
		if found || unnumbered {
			if found {
				err = s.seal(ctx, draft)
			} else {
				err = s.number(ctx)
			}
			if err != nil {
				return err
			}
			continue
		}
		made, err := s.make(ctx)
		if err != nil || !made {
			return err
		}
	}
}

// take applies the next numbered entries and readies them for the log.
func (s *Settler) take(ctx context.Context) (bool, error) {
	entries, err := s.entries(ctx, s.replay.Next())
	if err != nil {
		return false, err
	}
	for i := range entries {
		e := &entries[i]
		b, err := e.Encode()
		if err != nil {
			return false, err
		}
		if err := s.apply(ctx, e); err != nil {
			return false, err
		}
		s.pending = append(s.pending, b)
		if len(s.pending) >= batch {
			if err := s.flush(ctx); err != nil {
				return false, err
			}
		}
	}
	return len(entries) > 0, nil
}

// number numbers rows of the outbox that have none.
func (s *Settler) number(ctx context.Context) error {
	return s.c.Store.Update(ctx, func(tx *store.Tx) error { return tx.NumberEntries(ctx, batch) })
}

// flush appends what is pending to the log and notes it in the records.
func (s *Settler) flush(ctx context.Context) error {
	if len(s.pending) == 0 {
		return nil
	}
	if err := s.c.Log.Append(ctx, s.replay.Next()-uint64(len(s.pending)), s.pending...); err != nil {
		return err
	}
	s.metrics.entries.Add(float64(len(s.pending)))
	s.pending = nil
	return s.c.Store.Update(ctx, func(tx *store.Tx) error { return tx.MarkAppended(ctx, s.replay.Next()) })
}
