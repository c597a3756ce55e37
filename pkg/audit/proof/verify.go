package proof

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"sync"
	"sync/atomic"

	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const (
	maxSignatures = 64  // of one piece of work
	maxProofs     = 256 // of one call of VerifyBatch: a larger piece is hardly cheaper for each
)

// batch is what is to be verified of some entries.
type batch struct {
	checker    *Checker
	program    wire.Hash
	signatures []signature
	proofs     map[Verifier]*proofs
	order      []*proofs // as they came
}

// A signature is a snapshot that a key should have signed, for the entry of that number.
type signature struct {
	number   uint64
	of       string // what the snapshot belongs to
	key      *ecdsa.PublicKey
	snapshot wire.Snapshot
}

// proofs are those under one verifying key, with the numbers of their credits.
type proofs struct {
	verifier Verifier
	items    []claim.Item
	numbers  []uint64
}

func newBatch(c *Checker) *batch { return &batch{checker: c, proofs: make(map[Verifier]*proofs)} }

func (b *batch) sign(s signature) { b.signatures = append(b.signatures, s) }

func (b *batch) prove(number uint64, program *terms.Program, policy *terms.Policy, item claim.Item) error {
	keys := setup{policy.Lock, policy.VerifyingKey}
	v := b.checker.verifiers[keys]
	if v == nil {
		var err error
		if v, err = b.checker.cfg.Verifier(program, policy); err != nil {
			return err
		}
		b.checker.verifiers[keys] = v
	}
	p := b.proofs[v]
	if p == nil {
		p = &proofs{verifier: v}
		b.proofs[v] = p
		b.order = append(b.order, p)
	}
	p.items, p.numbers = append(p.items, item), append(p.numbers, number)
	return nil
}

// A fault is what is wrong with the entry of a number.
type fault struct {
	number uint64
	err    error
}

// verify verifies everything noted and returns the fault of the lowest number.
func (b *batch) verify(ctx context.Context) error {
	var pieces []func() (fault, bool)
	for all := b.signatures; len(all) > 0; {
		some := all[:min(len(all), maxSignatures)]
		all = all[len(some):]
		pieces = append(pieces, func() (fault, bool) { return b.signed(some) })
	}
	for _, p := range b.order {
		for from := 0; from < len(p.items); from += maxProofs {
			to := min(from+maxProofs, len(p.items))
			pieces = append(pieces, func() (fault, bool) { return p.verify(from, to) })
		}
	}
	faults, err := each(ctx, b.checker.cfg.Workers, pieces)
	if err != nil {
		return err
	}
	if len(faults) == 0 {
		return nil
	}
	first := faults[0]
	for _, f := range faults[1:] {
		if f.number < first.number {
			first = f
		}
	}
	return refused(first.number, first.err)
}

func (b *batch) signed(some []signature) (fault, bool) {
	for _, s := range some {
		if err := attest.Verify(s.key, b.program, s.snapshot); err != nil {
			return fault{s.number, fmt.Errorf("%s: snapshot %d: %w", s.of, s.snapshot.Seq, err)}, true
		}
	}
	return fault{}, false
}

func (p *proofs) verify(from, to int) (fault, bool) {
	for i, err := range p.verifier.VerifyBatch(p.items[from:to]) {
		if err != nil {
			return fault{p.numbers[from+i], fmt.Errorf("credit's claim: %w", err)}, true
		}
	}
	return fault{}, false
}

// each does pieces of work on some goroutines and returns what they found wrong. It ends early when ctx does.
func each(ctx context.Context, workers int, pieces []func() (fault, bool)) (faults []fault, err error) {
	var (
		next  atomic.Int64
		mu    sync.Mutex
		group sync.WaitGroup
	)
	for range min(workers, len(pieces)) {
		group.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(pieces) {
					return
				}
				if f, bad := pieces[i](); bad {
					mu.Lock()
					faults = append(faults, f)
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("cannot check claims: %w", context.Cause(ctx))
	}
	return faults, nil
}
