// Package credit decides what a submission is worth: whether a claim is accepted and what it credits, whether a usage report is
// kept, and what the signed receipt says.
//
// A claim is accepted whole or refused whole. It must come from a registered vehicle, under an ECU key bound to it and not revoked;
// both snapshots must carry that key's signature; it must begin exactly at the binding's head, unless it forfeits what lies between, and
// end on a later day that is at most one day ahead; and every proof must hold for the statement that the collector rebuilds from its
// own policy, the one in force for its kind on the day on which the claim ends. Nothing of the statement is taken from the sender. A
// span is credited once for each kind: the same bytes get the stored receipt, and another proof over the same span gets the original
// credit, because Groth16 proofs can be re-randomised by anyone. A kind that a claim lost its proof of on the way is credited when
// the span comes again.
//
// Submissions come in batches. What they ask of signatures and proofs is planned first, then checked together on all cores, signatures
// before proofs, and proofs in few calls that each check many; the decisions follow from the answers. All this happens before the write
// transaction, against the last committed state; the transaction decides again when that state has moved. A plan saves time and
// decides nothing: what it did not foresee is checked when it is asked.
//
// A key speaks for a vehicle over a range of its snapshots, its binding, and is credited by the head of each. A claim across the cut
// between two bindings of one car, which was sold, is refused as a gap with the head at the cut: a claim up to it earns for the one account,
// the next, which begins there, for the other. A revoked key earns nothing, whatever it signed before. The bytes of accepted claims are kept for auditors.
//
// The package publishes nothing and refuses to guess: an error of the database is no decision.
package credit

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/credit/internal/usage"
	"rawstone/collector/internal/store"
	"rawstone/pkg/audit"
	"rawstone/pkg/claim"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const defaultKept = 100

type Earlier = usage.Earlier // a charter that was in force before

// ReadEarlier finds them in the log.
func ReadEarlier(ctx context.Context, log usage.Log, d *terms.Documents, c terms.Clock) ([]Earlier, error) {
	return usage.ReadEarlier(ctx, log, d, c)
}

// A Verifier checks proofs under one verifying key; it must be safe for concurrent use.
type Verifier interface {
	// Verify returns nil when p proves s.
	Verify(s claim.Statement, p wire.Proof) error
	// VerifyBatch returns for each item what Verify would.
	VerifyBatch(items []claim.Item) []error
}

// Config says by what to judge.
type Config struct {
	DB *store.DB
	// Program is the identifier of the program that ECUs sign for.
	Program wire.Hash
	Clock   terms.Clock
	// Policies holds every policy under which a claim may still arrive. Which is in force, terms.InForce says.
	Policies []*terms.Policy
	// Verifiers holds a verifier for each policy's verifying key, by the key's hash.
	Verifiers map[wire.Hash]Verifier
	// Charter is the data charter in force and CharterID its identifier; without one, every report is refused.
	Charter   *terms.Charter
	CharterID wire.Hash
	Earlier   []Earlier // those before it under which reports may still arrive
	// Receipt signs receipts with one of the program's receipt keys.
	Receipt crypto.Signer
	// KeptPerDay bounds what is kept of a vehicle and program day though refused or a repetition; 100 when zero. More is judged, answered and counted.
	KeptPerDay int
	Workers    int                   // how many goroutines check a batch; the number of cores when zero
	Registerer prometheus.Registerer // takes the package's metrics; none when nil
}

// A Judge decides about submissions. It may be used from several goroutines.
type Judge struct {
	cfg      Config
	policies map[uint16]*terms.Policy
	usage    map[wire.Hash]*usage.Rule // by charter
	batches  prometheus.Histogram
	block    atomic.Pointer[block] // the one that was read last
}

// A block is one of the log with its drop, so that a program's newest is decoded once and not for each claim.
type block struct {
	body []byte
	drop uint64
}

// New returns a judge, or says what is missing or contradicts itself.
func New(cfg Config) (*Judge, error) {
	if cfg.DB == nil || cfg.Program.IsZero() || cfg.Clock.Now == nil || cfg.Clock.DayS == 0 || cfg.Receipt == nil {
		return nil, errors.New("cannot judge submissions: database, program, clock or receipt key missing")
	}
	if (cfg.Charter == nil) != cfg.CharterID.IsZero() {
		return nil, errors.New("cannot judge submissions: data charter and its identifier do not come together")
	}
	if cfg.Workers < 0 || cfg.KeptPerDay < 0 {
		return nil, errors.New("cannot judge submissions: number of workers or of kept submissions is negative")
	}
	cfg.KeptPerDay, cfg.Workers = cmp.Or(cfg.KeptPerDay, defaultKept), cmp.Or(cfg.Workers, runtime.GOMAXPROCS(0))
	j := &Judge{cfg: cfg, policies: make(map[uint16]*terms.Policy, len(cfg.Policies)), usage: make(map[wire.Hash]*usage.Rule)}
	if n := len(cfg.Earlier); cfg.Charter != nil {
		cfg.Earlier = append(cfg.Earlier[:n:n], Earlier{Charter: cfg.Charter, ID: cfg.CharterID, Until: math.MaxUint32})
	}
	for _, c := range cfg.Earlier {
		var err error
		if j.usage[c.ID], err = usage.New(c.Charter, c.ID, c.Until); err != nil {
			return nil, err
		}
	}
	for _, p := range cfg.Policies {
		if err := p.Validate(); err != nil {
			return nil, fmt.Errorf("cannot judge by policy %d: %w", p.Serial, err)
		}
		if j.policies[p.Serial] != nil {
			return nil, fmt.Errorf("cannot judge by policy %d: its serial stands twice", p.Serial)
		}
		if p.Program != cfg.Program {
			return nil, fmt.Errorf("cannot judge by policy %d: it belongs to another program", p.Serial)
		}
		if cfg.Verifiers[p.VerifyingKey] == nil {
			return nil, fmt.Errorf("cannot judge by policy %d: no verifying key %s loaded", p.Serial, p.VerifyingKey)
		}
		if cfg.Charter != nil {
			if err := cfg.Charter.Covers(p); err != nil {
				return nil, fmt.Errorf("cannot judge by policy %d: %w", p.Serial, err)
			}
		}
		j.policies[p.Serial] = p
	}
	j.batches = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "rawstone_credit_batch_proofs", Help: "Proofs that were verified together.", Buckets: prometheus.ExponentialBuckets(1, 2, 9), // to maxPiece
	})
	if cfg.Registerer == nil {
		return j, nil
	}
	if err := cfg.Registerer.Register(j.batches); err != nil {
		return nil, fmt.Errorf("cannot judge submissions: %w", err)
	}
	return j, nil
}

// A verdict is a decision before it is written down.
type verdict struct {
	reason wire.Reason // empty when accepted
	head   *wire.Head  // after the decision, when the key is known
	km     uint32

	span    store.Span     // of an accepted claim
	credits []store.Credit // what it earns; when again, for the kinds that had no proof before
	again   bool           // the span was credited before

	report *wire.Report // an accepted report
}

// state is what a decision depends on besides the submission and the policies. Equal states give equal decisions.
type state struct {
	answered bool // the same bytes were answered before
	today    uint32
	earliest uint32 // the first day from which a credit may count
	latest   uint32 // the last one
	known    bool   // the vehicle is registered, with this device key
	device   wire.PublicKey
	added    uint32 // the day of the vehicle's registration
	bound    bool   // the ECU key is or was bound to the vehicle, and the claim falls under this binding
	binding  store.Binding
	cut      wire.Head // where the claim is to be divided: it begins under an earlier binding; zero where it is not
	spanned  bool      // a span of the key ends where the claim ends
	span     store.Span
	credited string        // the kinds that the span was credited for, each with a line feed after it
	charges  store.Charges // of a report
}

// vehicleState reads the part that all kinds need.
func (j *Judge) vehicleState(ctx context.Context, tx *store.Tx, id string) (s state, err error) {
	s.today = j.cfg.Clock.Today()
	v, err := tx.Vehicle(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return s, nil
	}
	s.known, s.device, s.added = true, v.Device, v.AddedDay
	return s, err
}

// effective bounds the day from which a credit counts by the numbered blocks. Package audit refuses what takes effect before the day of
// the log's next drop or long after it, and a credit that is in the outbox cannot be taken back: the host's clock may not decide alone.
func (j *Judge) effective(ctx context.Context, tx *store.Tx) (earliest, latest uint32, err error) {
	day := func(drop uint64) uint32 { return j.cfg.Clock.Day(j.cfg.Clock.DropTime(drop)) }
	newest, err := tx.LastBlock(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return day(0) + 1, day(0) + audit.MaxAhead, nil
	} else if err != nil {
		return 0, 0, err
	}
	last := j.block.Load()
	if last == nil || !bytes.Equal(last.body, newest.Body) {
		sealed, err := newest.Sealed()
		if err != nil {
			return 0, 0, err
		}
		b, err := ledger.DecodeBlock(sealed.Payload)
		if err != nil {
			return 0, 0, err
		}
		last = &block{newest.Body, b.Drop}
		j.block.Store(last)
	}
	// The next block may wait for cosignatures and come before this credit; then its successor's day is the log's.
	return max(day(last.drop)+1, day(last.drop+2)), day(last.drop+1) + audit.MaxAhead, nil
}
