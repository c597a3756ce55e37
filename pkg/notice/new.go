package notice

import (
	"fmt"

	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// New returns the notice of a block, given as the body of its entry, over the bodies of all charters, policies and changes of validators
// logged before it, in the order of the log. It leaves out the charters before all others, which cars have by themselves, and of the
// rest as many as must be for MaxLen, the oldest first: claims over days gone by want old policies too.
//
// Never left out is a policy or a stop that decides about a day from today on, nor a change of validators that decides about the block's
// day or a later one. Where that leaves too much, New refuses: a successor of the oldest document has to be logged, so that it and what
// came before can go.
func New(root wire.PublicKey, p *terms.Program, program wire.Hash, block []byte, documents [][]byte, today uint32) (*Notice, error) {
	n := &Notice{Version: Version, Block: block, Documents: documents}
	b, err := n.peek()
	if err != nil {
		return nil, fmt.Errorf("cannot make notice: %w", err)
	}
	first, needed, err := bounds(root, p, program, documents, today, b.Day)
	if err != nil {
		return nil, fmt.Errorf("cannot make notice: %w", err)
	}
	for range first {
		n.leaveOut()
	}
	for {
		_, err := n.Encode()
		if err == nil {
			return n, nil
		}
		if first++; first > needed {
			return nil, fmt.Errorf("%w; document %d is still in force and so neither it nor those after it can be left out: replace it by a policy or, if it is one, a change of validators with a higher serial",
				err, needed)
		}
		n.leaveOut()
	}
}

// leaveOut moves the first document into the chain.
func (n *Notice) leaveOut() {
	n.Before, n.Documents = ledger.ChainPolicy(n.Before, n.Documents[0]), n.Documents[1:]
}

// bounds returns the index of the first document that is no charter, and of the first one that decides about a policy from today on or
// about the validators from the block's day on; both are the number of documents when there is none.
func bounds(root wire.PublicKey, p *terms.Program, program wire.Hash, documents [][]byte, today, block uint32) (first, needed int, err error) {
	first, needed = len(documents), len(documents)
	var policies []*terms.Policy
	replaced := false // by a change that has begun by the block's day
	for i := len(documents) - 1; i >= 0; i-- {
		if isCharter(documents[i]) {
			continue
		}
		first = i
		w, no := ledger.OpenWitness(root, p, program, documents[i])
		if no == nil {
			if !replaced {
				needed = i
			}
			replaced = replaced || w.FromDay <= block
			continue
		}
		policy, err := terms.OpenPolicy(p.Policy, program, documents[i])
		if err != nil {
			return 0, 0, fmt.Errorf("document %d: %w; nor is it a change of validators: %w", i, err, no)
		}
		if decides(policy, policies, today) {
			needed = i
		}
		policies = append(policies, policy)
	}
	return first, needed, nil
}

// decides reports whether a policy or a stop is the last word about its kind on some day from today on. later are those with higher
// serials.
func decides(p *terms.Policy, later []*terms.Policy, today uint32) bool {
	// The first day that no successor has taken moves on until none of them holds it: each pass ends in one of them less.
	day := max(today, p.FromDay)
	for moved := true; moved; {
		moved = false
		for _, q := range later {
			if q.Kind == p.Kind && q.FromDay <= day && day <= q.ToDay {
				day, moved = q.ToDay+1, true // ToDay is at most terms.MaxDay
			}
		}
	}
	return day <= p.ToDay
}
