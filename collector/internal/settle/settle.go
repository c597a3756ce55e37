// Package settle writes the ledger: it numbers what the records' outbox holds, appends it to the log in order, and on the program's
// schedule makes each day's leaves and order and each drop's block, has the validators cosign them, and settles what accounts earned.
//
// The records are the truth and the log publishes them. An entry gets its number and its final bytes in the records before anybody signs
// the next one and before the log sees it, so a crash at any point resumes with the same bytes: what waits for cosignatures is kept as a
// draft. The settler replays each entry, with what it hides, by the rules of package audit before it gets its number, and sets aside
// what they refuse. There is one settler to a log.
//
// Missed drops are made up in order and none is skipped. Without a quorum of validators drops stop, which is said and counted, and are
// caught up afterwards; credits wait in the records meanwhile, because the draft has the next number. A log that holds more than the
// records, or something else, is refused at the start and never overwritten.
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

	"rawstone/collector/internal/outbox"
	"rawstone/collector/internal/panel"
	"rawstone/collector/internal/settle/internal/gate"
	"rawstone/collector/internal/settle/internal/metrics"
	"rawstone/collector/internal/settle/internal/share"
	"rawstone/collector/internal/store"
	"rawstone/collector/internal/watch"
	"rawstone/pkg/audit"
	"rawstone/pkg/ledger"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

const (
	batch, numbered = 256, 1024       // entries applied, and numbered, at once
	appended        = 4096            // entries appended at once: the log makes a checkpoint of each time, and no more than ten in a second
	maxHeld         = 5 * time.Second // that a final entry waits for the log while there is always more to do
	defaultInterval = 200 * time.Millisecond
	defaultPatience = 5 * time.Second
)

// ErrNoQuorum says that too few validators answered: nothing is lost, the next Step tries again.
var ErrNoQuorum = errors.New("no quorum of validators")

// A Validator gives VRF proofs and cosignatures. What it follows is final: it is in the records.
type Validator interface {
	panel.Follower
	// Prove returns its proof for the seed that is due.
	Prove(ctx context.Context, due audit.Due) (ledger.Proof, error)
	// Cosign checks a payload as the next entry and signs it.
	Cosign(ctx context.Context, t ledger.Type, payload []byte) (ledger.Cosignature, error)
}

// A Document is a signed document for the log: the program, which comes first, a charter, a policy, offers or a change of the validators.
type Document struct {
	Type ledger.Type
	Body []byte
	// Name is what errors call it, such as its key in the configuration and its file; empty when its place is all that is known.
	Name string
}

// recordsError marks an error of the records' database, such as a lock that another process holds too long: it may heal.
type recordsError struct{ error }

func (e recordsError) Unwrap() error { return e.error }

// Config configures a Settler.
type Config struct {
	Store *store.DB
	Log   *tlog.Log
	// LogDir is the directory of Log, which is replayed at the start.
	LogDir string
	// Root pins the program root.
	Root wire.PublicKey
	// Documents are logged when their texts are not yet, in this order: the program, charters, and policies, offers and changes of the
	// validators with rising serials each.
	Documents []Document
	// Validators are by their names in the program document and in changes of the validators. Of whom nobody is asked here, the answer
	// is missing on the days on which they are in force.
	Validators map[string]Validator
	// Now is the clock, time.Now outside tests.
	Now func() time.Time
	// Elapsed is the time since some instant on a clock that nobody can set; nil stands for the process's monotonic clock.
	Elapsed func() time.Duration
	// Interval is how often Run looks for work, 200 ms when zero. Patience is how long a validator may take, 5 s when zero.
	Interval, Patience time.Duration
	Logger             *slog.Logger
	Registerer         prometheus.Registerer
}

// A Settler is the ledger's one writer. Step and Run are for one goroutine; the other methods may be called from several.
type Settler struct {
	c       Config
	metrics *metrics.Metrics
	watch   watch.Watch
	doubted bool // the clock is not believed

	broken    error  // set by an error after which memory and records may differ
	live      bool   // the log's own entries are replayed
	settled   uint64 // the first drop that the balances do not hold
	replay    *audit.Replay
	gate      *gate.Gate     // what the replay's entries hide
	documents []ledger.Entry // checked, and not in the records yet
	pending   [][]byte       // encoded entries that the log does not have yet
	flushed   time.Duration  // when the log last got any, by Elapsed

	mu    sync.Mutex
	today *share.Day // nil when no order of a day is logged
}

// New compares the log with the records, replays both, and checks the documents by the rules of the log as it is. It writes nothing that
// is not numbered already; the first Step logs the documents that are new.
func New(ctx context.Context, c Config) (*Settler, error) {
	if c.Store == nil || c.Log == nil || c.LogDir == "" || c.Now == nil || c.Logger == nil || c.Registerer == nil || len(c.Validators) == 0 {
		return nil, errors.New("cannot start settler: records, log, clock, logger, metrics or validators are missing")
	}
	c.Interval, c.Patience = cmp.Or(c.Interval, defaultInterval), cmp.Or(c.Patience, defaultPatience)
	if c.Elapsed == nil {
		began := time.Now()
		c.Elapsed = func() time.Duration { return time.Since(began) }
	}
	s := &Settler{c: c, metrics: metrics.New()}
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	return s, s.metrics.Register(c.Registerer)
}

// load makes the memory anew from the records and the log.
func (s *Settler) load(ctx context.Context) error {
	g := gate.New()
	r, err := audit.NewReplay(s.c.Root, g)
	if err != nil {
		return err
	}
	fresh := &Settler{c: s.c, metrics: s.metrics, replay: r, gate: g}
	if err := fresh.resume(ctx); err != nil {
		return err
	}
	for taken := true; taken; {
		if taken, err = fresh.take(ctx); err != nil {
			return err
		}
	}
	if err := fresh.check(); err != nil {
		return err
	}
	s.broken, s.live, s.settled, s.replay, s.gate, s.documents, s.pending = nil, true, fresh.settled, r, g, fresh.documents, fresh.pending
	s.mu.Lock()
	defer s.mu.Unlock()
	s.today = fresh.today
	return nil
}

// check finds the documents that the log lacks, and refuses them together when one may not follow: numbered, it would stay for good. It
// refuses to go on without a policy that is logged, for agents obey them all, and claims are judged by those that are listed.
func (s *Settler) check() error {
	if p, id := s.replay.Program(); p != nil {
		for _, d := range s.c.Documents {
			if d.Type == ledger.TypeProgram && wire.ID(d.Body) != id {
				return errors.New("cannot start settler: the records belong to another program document; use the one they began with, or new records and a new log")
			}
		}
	}
	list := make([]ledger.Entry, len(s.c.Documents))
	for i, d := range s.c.Documents {
		list[i] = ledger.Entry{Type: d.Type, Body: d.Body}
	}
	lacking, absent, err := s.replay.NewDocuments(list)
	if err != nil {
		if r, ok := errors.AsType[*audit.Refusal](err); ok {
			return fmt.Errorf("cannot start settler: %s", r.Advice(s.c.Documents[r.Place].Name))
		}
		return fmt.Errorf("cannot start settler: %w", err)
	}
	if len(absent) > 0 {
		return fmt.Errorf("cannot start settler: policy %d is in the ledger and not in program.policies: list its file again; to end it, log a stop", absent[0])
	}
	s.documents = lacking
	return nil
}

// document numbers the documents that are new, before what came earlier to the outbox: vehicles may be registered before the collector
// has ever run, and claims are judged by a policy as soon as it is listed. They are checked once more: a draft that waited may have begun
// another day, and some documents ask for days of notice.
func (s *Settler) document(ctx context.Context) error {
	if err := s.check(); err != nil {
		return err
	}
	err := s.update(ctx, func(tx *store.Tx) error {
		for _, d := range s.documents {
			id, err := tx.AddEntry(ctx, d.Type, d.Body)
			if err != nil {
				return err
			}
			if err := tx.NumberEntry(ctx, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		s.documents = nil
	}
	return err
}

func (s *Settler) view(ctx context.Context, fn func(*store.Tx) error) error {
	if err := s.c.Store.View(ctx, fn); err != nil {
		return recordsError{err}
	}
	return nil
}

func (s *Settler) update(ctx context.Context, fn func(*store.Tx) error) error {
	if err := s.c.Store.Update(ctx, fn); err != nil {
		return recordsError{err}
	}
	return nil
}

// resume replays the log, checking that each entry is the records', and leaves the rest of the records to Step.
func (s *Settler) resume(ctx context.Context) error {
	var records uint64
	err := s.view(ctx, func(tx *store.Tx) (err error) {
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
		var known []outbox.Row // the records from the entry in hand on
		err := audit.Read(ctx, s.c.LogDir, s.c.Root, func(e *ledger.Entry) error {
			if len(known) == 0 {
				if known, err = s.rows(ctx, e.Number); err != nil {
					return err
				}
			}
			want := known[0]
			if want.Number != e.Number || want.Type != e.Type || string(want.Body) != string(e.Body) {
				return fmt.Errorf("cannot start settler: entry %d of the log is not the records': restore the records that belong to this log, or rebuild them from it", e.Number)
			}
			known = known[1:]
			return s.apply(ctx, &want)
		})
		if err != nil {
			return err
		}
	}
	s.live = true
	return s.update(ctx, func(tx *store.Tx) error { return tx.MarkAppended(ctx, size) })
}

// Run settles until ctx ends. A missing quorum and errors of the records' database are said, counted and tried again, the latter from
// what the records and the log hold by then; every other error ends it, because it would come again.
func (s *Settler) Run(ctx context.Context) error {
	waiting := false
	for {
		pause := s.c.Interval
		var records recordsError
		switch err := s.runOnce(ctx); {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrNoQuorum), errors.As(err, &records):
			if !waiting {
				s.c.Logger.Error("drops wait", "error", err)
			}
			waiting = true
			if errors.As(err, &records) {
				pause = s.c.Patience // a new beginning reads the whole log
			}
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
		case <-time.After(pause):
		}
	}
}

// runOnce is Step, after a new beginning when the last one failed.
func (s *Settler) runOnce(ctx context.Context) error {
	if s.broken != nil {
		if err := s.load(ctx); err != nil {
			s.metrics.Errors.Inc()
			return err
		}
	}
	return s.Step(ctx)
}

// Step does all that is due now: when it returns nil, all entries that the records held are in the log, and so are the blocks of all
// drops that are due, as far as the clock is believed. After ErrNoQuorum it may be called again; any other error asks for a new Settler.
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
		s.metrics.Errors.Inc()
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
		draft, found, unnumbered, err := s.waiting(ctx)
		if err != nil {
			return err
		}
		made := true
		switch {
		case found:
			err = s.seal(ctx, draft)
		case len(s.documents) > 0:
			err = s.document(ctx)
		case unnumbered:
			err = s.number(ctx)
		default:
			made, err = s.make(ctx)
		}
		if err != nil || !made {
			return err
		}
	}
}
