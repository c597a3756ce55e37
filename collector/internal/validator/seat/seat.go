// Package seat is one validator with all that is its own: its key, its copy of the ledger with what was disclosed of it, the proofs behind
// credits, and what speaks against the operator.
//
// Invariants: it cosigns only what its own replay accepts after entries that are on its disk, each credit among them with a claim that it
// has verified itself. Once it holds proof of a second history, a checkpoint with the ledger's signature that its copy contradicts, it
// gives no proof and cosigns nothing again. While a receipt that the operator signed is overdue it does neither, until the ledger holds
// what was promised or the validator's own operator acknowledges it.
//
// It believes nobody: neither the collector, whose entries and disclosures it checks, nor another validator, whose word alone never stops
// it. It refuses in one sentence.
package seat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	fnote "github.com/transparency-dev/formats/note"

	"rawstone/collector/internal/disclosure"
	"rawstone/collector/internal/validator"
	"rawstone/collector/internal/validator/archive"
	"rawstone/collector/internal/validator/complaint"
	"rawstone/collector/internal/validator/forget"
	"rawstone/collector/internal/validator/opener"
	"rawstone/pkg/audit"
	"rawstone/pkg/audit/proof"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const stateFile = "validator.json"

// Config configures a Seat. All is required.
type Config struct {
	Key *ledger.ValidatorKey
	// Root pins the program root.
	Root wire.PublicKey
	// Dir is the state directory. A validator that loses it may contradict itself.
	Dir string
	// Verifier returns the verifier of the proofs under a policy: proof.Keys makes one.
	Verifier func(*terms.Program, *terms.Policy) (proof.Verifier, error)
	// Environment is the validator's: one for production refuses a program for development.
	Environment wire.Environment
	// Now is the clock, time.Now outside tests.
	Now        func() time.Time
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// A Seat may be used from several goroutines.
type Seat struct {
	c       Config
	core    *validator.Validator
	claims  *proof.Checker
	archive *archive.Archive
	metrics *metrics

	mu     sync.Mutex
	opener *opener.Opener
	stale  chan struct{} // closed when the copy is not what was replayed any more, which over says too
	over   bool
	// newest is the last checkpoint of the ledger that the copy agrees with; ahead are those that it is not long enough for, by size.
	newest noted
	ahead  map[uint64]noted
	agrees bool // the copy is known to hold what was cosigned in an earlier life
	// forks are the files of evidence; rivals are validators whose copy is another.
	forks      []string
	complaints *complaint.Book
	cosigner   string // its verifier's text
	rivals     map[string]string
	refusal    string // the last
	gave       audit.Due
	omissions  uint64 // proofs that were given and called withheld
}

// Open reads what the validator has and replays its copy. Cancelling ctx abandons the copy as a crash would; Close ends it in order.
func Open(ctx context.Context, c Config) (_ *Seat, err error) {
	if c.Key == nil || c.Dir == "" || c.Verifier == nil || c.Now == nil || c.Logger == nil || c.Registerer == nil {
		return nil, errors.New("cannot open validator: key, state directory, verifying keys, clock, logger or metrics are missing")
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot open validator: %w", err)
	}
	signer, verifier, err := signerOf(c.Key)
	if err != nil {
		return nil, err
	}
	s := &Seat{c: c, metrics: newMetrics(), opener: opener.New(), stale: make(chan struct{}), ahead: make(map[uint64]noted), rivals: make(map[string]string)}
	if s.cosigner, err = fnote.VKeyToCosignatureV1(verifier); err != nil {
		return nil, err
	}
	if s.forks, err = evidence(c.Dir); err != nil {
		return nil, err
	}
	if s.archive, err = archive.Open(ctx, archive.Config{Dir: c.Dir, Signer: signer, Verifier: verifier, Logger: c.Logger}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.archive.Close())
		}
	}()
	state := filepath.Join(c.Dir, stateFile)
	if _, err := os.Stat(state); s.archive.Size() > 0 && errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot open validator: %s is missing and the copy of the ledger beside it is not: without it the validator could contradict what it signed: restore it, or validate with a new key", state)
	}
	if s.complaints, err = complaint.Open(complaint.Config{Dir: c.Dir, Archive: s.archive, Logger: c.Logger}); err != nil {
		return nil, err
	}
	if s.core, err = validator.Open(validator.Config{Key: c.Key, Root: c.Root, State: state, Openings: s.opener, Now: c.Now, Logger: c.Logger}); err != nil {
		return nil, err
	}
	if s.claims, err = proof.New(proof.Config{Root: c.Root, Openings: s.opener, Verifier: c.Verifier, Environment: c.Environment}); err != nil {
		return nil, err
	}
	if err := s.resume(ctx); err != nil {
		return nil, err
	}
	if err := c.Registerer.Register(s.metrics); err != nil {
		return nil, err
	}
	s.metrics.show(s.status())
	if len(s.forks) > 0 {
		c.Logger.Error("second history of the ledger: nothing is cosigned", "evidence", s.forks[0])
	}
	return s, nil
}

// resume replays the copy. The proofs of its claims were verified before it was written.
func (s *Seat) resume(ctx context.Context) error {
	if s.archive.Size() == 0 {
		return nil
	}
	if err := errors.Join(s.archive.Leaves(s.opener.Keep), s.archive.ErasedKeys(s.opener.KeepKey)); err != nil {
		return err
	}
	return s.archive.Each(ctx, func(e disclosure.Entry) error {
		entries := []disclosure.Entry{e}
		defer s.opener.Look(entries)()
		err := s.claims.Replay(items(entries))
		if err == nil {
			err = s.replay(ctx, &entries[0])
		}
		if err != nil {
			return fmt.Errorf("cannot use the validator's own copy: %w", err)
		}
		return nil
	})
}

// items are entries as the checker of claims wants them.
func items(entries []disclosure.Entry) []proof.Item {
	out := make([]proof.Item, len(entries))
	for i := range entries {
		e := entries[i].Ledger()
		out[i].Entry = &e
		if len(entries[i].Claim) > 0 {
			out[i].Claims = [][]byte{entries[i].Claim}
		}
	}
	return out
}

// Close writes what waits and closes the copy.
func (s *Seat) Close() error { return s.archive.Close() }

// Next returns the number of the entry that it wants next.
func (s *Seat) Next(ctx context.Context) (uint64, error) { return s.core.Next(ctx) }

// Follow checks and keeps entries, in order. It stops at the first that breaks a rule, and says so.
func (s *Seat) Follow(ctx context.Context, entries ...disclosure.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.follow(ctx, entries)
	s.refused(err)
	return err
}

func (s *Seat) follow(ctx context.Context, entries []disclosure.Entry) error {
	next, err := s.core.Next(ctx)
	if err != nil {
		return err
	}
	if len(entries) > 0 && entries[0].Number != next {
		return fmt.Errorf("cannot accept entry %d: its number should be %d", entries[0].Number, next)
	}
	defer s.opener.Look(entries)()
	// Claims come first, and all together: what the replay has taken in is not taken back.
	commit, err := s.claims.Prepare(ctx, items(entries))
	if err != nil {
		return err
	}
	n := 0
	for n < len(entries) && err == nil {
		if err = s.replay(ctx, &entries[n]); err == nil {
			n++
		}
	}
	commit(n)
	s.metrics.entries.Add(float64(n))
	return errors.Join(err, s.archive.Append(entries[:n]...))
}

// Erase destroys what it holds of the account whose entries have these numbers: forget.Erase. After disclosure.ErrStale it gives nothing until it
// is started again.
func (s *Seat) Erase(ctx context.Context, numbers []uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.archive.Wait(ctx)
	if err == nil {
		var n int
		if n, err = forget.Erase(s.archive, s.opener, numbers); n > 0 {
			s.c.Logger.Info("account erased", "entries", n)
		}
	}
	s.refused(err)
	return err
}

// Stale is closed when the validator must be started again before it goes on: disclosure.ErrStale.
func (s *Seat) Stale() <-chan struct{} { return s.stale }

// replay has the rules look at an entry with its disclosure.
func (s *Seat) replay(ctx context.Context, e *disclosure.Entry) error {
	return s.opener.Replay(e, func() error { return s.core.Follow(ctx, e.Ledger()) })
}

// Prove returns the VRF proof for the seed that is due, once all before it is on disk.
func (s *Seat) Prove(ctx context.Context, due audit.Due) (ledger.Proof, error) {
	s.core.Await(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(ctx); err != nil {
		s.refused(err)
		return ledger.Proof{}, fmt.Errorf("cannot prove: %w", err)
	}
	p, err := s.core.Prove(ctx, due)
	if err == nil {
		s.gave = due
	}
	s.refused(err)
	return p, err
}

// Told takes what a day's tree is said to hold of erased accounts: opener.Opener.Told.
func (s *Seat) Told(day uint32, leaves []reward.Leaf) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opener.Told(day, leaves)
}

// Cosign checks a payload as the next entry, remembers it on disk, and signs it.
func (s *Seat) Cosign(ctx context.Context, t ledger.Type, payload []byte) (ledger.Cosignature, error) {
	s.core.Await(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(ctx); err != nil {
		s.refused(err)
		return ledger.Cosignature{}, fmt.Errorf("cannot cosign: %w", err)
	}
	c, err := s.core.Cosign(ctx, t, payload)
	if err == nil {
		s.metrics.cosigned.Inc()
		s.omitted(t, payload, c.Validator)
	}
	s.refused(err)
	return c, err
}

// omitted notes that an entry which is right calls the validator's proof withheld although it was given. It cannot be told from an answer
// that was lost on its way, so that it is shown and stops nothing; the log shows to everybody who is out.
func (s *Seat) omitted(t ledger.Type, payload []byte, own uint8) {
	var withheld []byte
	var of audit.Due
	switch t {
	case ledger.TypeDay:
		if d, err := ledger.DecodeDay(payload); err == nil {
			withheld, of = d.Withheld, audit.Due{Type: t, Day: d.Day, Drop: s.gave.Drop}
		}
	case ledger.TypeBlock:
		if b, err := ledger.DecodeBlock(payload); err == nil {
			withheld, of = b.Withheld, audit.Due{Type: t, Day: b.Day, Drop: b.Drop}
		}
	}
	if of == s.gave && bytes.IndexByte(withheld, own) >= 0 {
		s.gave = audit.Due{}
		s.omissions++
		s.metrics.omitted.Inc()
		s.c.Logger.Error("proof was given and is called withheld", "day", of.Day, "drop", of.Drop)
	}
}

// ready says why the validator gives nothing at the moment. The lock is held.
func (s *Seat) ready(ctx context.Context) error {
	if err := s.archive.Wait(ctx); err != nil {
		return err
	}
	if err := s.examine(); err != nil {
		return err
	}
	if len(s.forks) > 0 {
		return fmt.Errorf("the ledger has a second history, of which %s is the evidence", s.forks[0])
	}
	select {
	case <-s.stale:
		return disclosure.ErrStale
	default:
	}
	if err := s.opener.Blind(); err != nil {
		return err
	}
	list, err := s.overdue()
	if err != nil || len(list) == 0 {
		return err
	}
	return fmt.Errorf("%d receipts that the operator signed are overdue, that for submission %s first: the ledger does not hold their credits", len(list), list[0])
}

// overdue returns the submissions whose receipts are. The lock is held.
func (s *Seat) overdue() ([]wire.Hash, error) {
	p, _ := s.core.Program()
	if p == nil {
		return nil, nil
	}
	return s.complaints.Overdue(p, s.core.Due().Day)
}

// Complain takes in a receipt that the collector has signed and whose credits its owner misses in the ledger: complaint.Book.Add.
func (s *Seat) Complain(ctx context.Context, receipt []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, _ := s.core.Program()
	if p == nil {
		return errors.New("cannot judge receipt: the validator has not seen the program document yet")
	}
	if err := s.archive.Wait(ctx); err != nil {
		return err
	}
	defer func() { s.metrics.show(s.status()) }()
	return s.complaints.Add(p, s.core.Due().Day, receipt)
}

// refused notes an error.
func (s *Seat) refused(err error) {
	if errors.Is(err, disclosure.ErrStale) && !s.over {
		s.over = true
		close(s.stale)
	}
	if err != nil {
		s.refusal = err.Error()
		s.metrics.refused.Inc()
		s.c.Logger.Error("refused", "error", err)
	}
	s.metrics.show(s.status())
}
