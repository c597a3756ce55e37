package claim

import (
	"fmt"

	"rawstone/pkg/claim/internal/batch"
	"rawstone/pkg/wire"
)

// An Item is a proof and what it is said to prove.
type Item struct {
	Statement Statement
	Proof     wire.Proof
}

// VerifyBatch returns an error for each item, nil exactly where Verify would return nil, but for a chance below 2⁻¹¹⁶ for a batch of
// 1,024 that a bad proof passes. Many good proofs cost a sixth of as many calls of Verify (package batch says how); a few bad ones
// among them are found by splitting, and many cost up to about twice as many calls. It works on one goroutine, and in memory that
// grows by about 2 KiB an item.
func (v *Verifier) VerifyBatch(items []Item) []error {
	errs := make([]error, len(items))
	var proofs []batch.Proof
	var indices []int // of the proofs' items
	for i, item := range items {
		p, err := item.decode()
		if err != nil {
			errs[i] = fmt.Errorf("cannot verify proof: %w", err)
			continue
		}
		proofs, indices = append(proofs, p), append(indices, i)
	}
	single := func(i int) bool {
		item := items[indices[i]]
		errs[indices[i]] = v.Verify(item.Statement, item.Proof)
		return errs[indices[i]] == nil
	}
	for i, ok := range v.batch.Verify(proofs, single) {
		if !ok && errs[indices[i]] == nil {
			errs[indices[i]] = fmt.Errorf("cannot verify proof: %w", errOutside)
		}
	}
	return errs
}

func (i Item) decode() (batch.Proof, error) {
	public, err := i.Statement.publicInputs()
	if err != nil {
		return batch.Proof{}, err
	}
	p, err := decodeOnCurve(i.Proof)
	if err != nil {
		return batch.Proof{}, err
	}
	return batch.Proof{A: p.Ar, B: p.Bs, C: p.Krs, Inputs: public}, nil
}
