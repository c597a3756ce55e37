// Package proof checks that each credit of a ledger has a valid claim behind it, and each binding a head that its ECU signed, as validators
// do before they cosign and an auditor does with archived claims.
//
// A Checker takes entries in order, beside a replay of package audit that holds the openings: whose a credit is, that it is credited once and
// when it counts is the replay's question; here it is whether the kilometres were proven. A claim holds for a credit when the bound key
// signed both its snapshots for the program, it begins at the head of the binding in which it ends, or forfeits what lies between, it ends on
// a later day and not behind the binding's cut, the policy under which it proves the credit's kind was logged before and is in force on the
// day on which it ends, the credit is worth exactly what the policy gives for the proven tier and days, and the Groth16 proof holds
// under the policy's verifying key for the statement that policy and tier make of the two snapshots. One claim may stand behind
// several credits, one for each kind, and a further claim over the same span behind a kind that the first did not prove.
//
// A binding holds when the bound key signed its head, for a claim may name the head by its number alone. The opening brings the signature; it
// need not where the head is the one of the key's binding before, which was verified.
//
// A batch is taken whole or refused whole. Memory grows with the spans that were credited, by some 100 bytes for each, and with a batch,
// which MaxItems bounds. What an entry hid whose opening was destroyed at a person's request is not checked. The package has no clock: that no claim ends in the future is what the collector's judge sees to.
package proof

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"rawstone/pkg/claim"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const (
	// MaxItems bounds the entries of one batch.
	MaxItems = 8192
	// MaxClaims bounds the claims that are given for one credit.
	MaxClaims = 16
)

// An Opener tells what blinded entries hide, as audit.Opener does. *opening.Set is one.
type Opener interface {
	Credit(number uint64) (ledger.CreditOpening, bool)
	Binding(number uint64) (ledger.BindingOpening, bool)
	Handover(number uint64) (ledger.HandoverOpening, bool)
	// Erased reports whether the opening of that number was destroyed because a person asked for it: then nothing is left to check.
	Erased(number uint64) bool
}

// A Verifier checks proofs under one verifying key, and is safe for concurrent use. *claim.Verifier is one.
type Verifier interface {
	// VerifyBatch returns an error for each item, nil for those whose proof holds.
	VerifyBatch(items []claim.Item) []error
}

// Config says what a ledger's credits are checked against. All but Workers is required.
type Config struct {
	// Root pins the signer of the program document.
	Root     wire.PublicKey
	Openings Opener
	// Verifier returns the verifier for a policy that the log holds; it is asked once for each lock and verifying key that are used. Keys
	// makes one.
	Verifier func(*terms.Program, *terms.Policy) (Verifier, error)
	// Environment, when it is production, refuses a program for development at its first entry.
	Environment wire.Environment
	// Workers is how many goroutines check a batch; the number of cores when zero.
	Workers int
}

// An Item is the next entry with what stands behind it.
type Item struct {
	Entry *ledger.Entry
	// Claims are the bytes of the claim behind a credit. Who does not know which of several claims over one span it is gives them all, at
	// most MaxClaims: the first that fits the credit has to hold. Entries of other types have none.
	Claims [][]byte
}

// A Checker is the state after a prefix of a log. It is used by one goroutine at a time.
type Checker struct {
	cfg       Config
	state     *state
	verifiers map[setup]Verifier
}

// A setup is what a policy says of its keys: its lock and the verifying key.
type setup struct{ lock, key wire.Hash }

// New starts before the first entry.
func New(c Config) (*Checker, error) {
	if _, err := c.Root.Key(); err != nil {
		return nil, fmt.Errorf("cannot check claims of a ledger: the pinned program root is missing or wrong: %w", err)
	}
	if c.Openings == nil || c.Verifier == nil || c.Workers < 0 {
		return nil, errors.New("cannot check claims of a ledger: openings or verifying keys are missing, or the number of workers is negative")
	}
	if c.Workers == 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	return &Checker{cfg: c, state: newState(), verifiers: make(map[setup]Verifier)}, nil
}

// Next returns the number of the next entry.
func (c *Checker) Next() uint64 { return c.state.next }

// Check checks the next entries and takes them in, all or none. The error names the number of the entry that is refused and what is wrong with
// it; of several it is the first, but for signatures and proofs, which are looked at last.
func (c *Checker) Check(ctx context.Context, items []Item) error {
	commit, err := c.Prepare(ctx, items)
	if err != nil {
		return err
	}
	commit(len(items))
	return nil
}

// Prepare checks the next entries and changes nothing. What it returns takes the first n of them in, for callers that have yet to see how
// many of them a replay accepts; it is called at most once, and before the checker is used again.
func (c *Checker) Prepare(ctx context.Context, items []Item) (commit func(n int), err error) {
	b := newBatch(c)
	after, err := c.read(items, b)
	if err != nil {
		return nil, err
	}
	if err := b.verify(ctx); err != nil {
		return nil, err
	}
	return func(n int) {
		if n < len(items) {
			// The first ones were right a moment ago, and are read once more without those behind them.
			var err error
			if after, err = c.read(items[:n], nil); err != nil {
				return
			}
		}
		c.state.take(after)
	}, nil
}

// Replay takes the next entries in, all or none, with every check but those of the claims' signatures and proofs: it rebuilds the state
// after a restart from entries that Check has taken before, and from their claims.
func (c *Checker) Replay(items []Item) error {
	after, err := c.read(items, nil)
	if err != nil {
		return err
	}
	c.state.take(after)
	return nil
}

// read applies entries to a state over the checker's own, and notes in b, unless it is nil, what is to be verified.
func (c *Checker) read(items []Item, b *batch) (*state, error) {
	if len(items) > MaxItems {
		return nil, fmt.Errorf("cannot check %d entries at once: at most %d allowed", len(items), MaxItems)
	}
	r := &reader{cfg: &c.cfg, state: c.state.over(), batch: b}
	for i := range items {
		if err := r.apply(&items[i]); err != nil {
			return nil, refused(items[i].Entry.Number, err)
		}
	}
	return r.state, nil
}

func refused(number uint64, err error) error {
	return fmt.Errorf("cannot accept entry %d: %w", number, err)
}
