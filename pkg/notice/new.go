package notice

import (
	"fmt"

	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// New returns the notice of a block, given as the body of its entry, over the bodies of all charters and policies logged before it, in
// the order of the log. It leaves out the charters before the first policy, which cars have by themselves, and of the rest as many as
// must be for MaxLen, the oldest first: claims over days gone by want old policies too.
//
// Never left out is a policy or a stop that decides about a day from today on. Where that leaves too much, New refuses: a successor of
// the oldest policy has to be logged, so that it and what came before can go.
func New(p *terms.Program, program wire.Hash, block []byte, documents [][]byte, today uint32) (*Notice, error) {
	first, needed, err := bounds(p, program, documents, today)
	if err != nil {
		return nil, fmt.Errorf("cannot make notice: %w", err)
	}
	n := &Notice{Version: Version, Block: block, Documents: documents}
	for range first {
		n.leaveOut()
	}
	for {
		_, err := n.Encode()
		if err == nil {
			return n, nil
		}
		if first++; first > needed {
			return nil, fmt.Errorf("%w; document %d is still in force and so neither it nor those after it can be left out: replace it by a policy with a higher serial",
				err, needed)
		}
		n.leaveOut()
	}
}

// leaveOut moves the first document into the chain.
func (n *Notice) leaveOut() {
	n.Before, n.Documents = ledger.ChainPolicy(n.Before, n.Documents[0]), n.Documents[1:]
}

// bounds returns the index of the first policy, and of the first one that decides about a day from today on; both are the number of
// documents when there is none.
func bounds(p *terms.Program, program wire.Hash, documents [][]byte, today uint32) (first, needed int, err error) {
	first, needed = len(documents), len(documents)
	var policies []*terms.Policy
	for i := len(documents) - 1; i >= 0; i-- {
		if !isPolicy(documents[i]) {
			continue
		}
		policy, err := terms.OpenPolicy(p.Policy, program, documents[i])
		if err != nil {
			return 0, 0, fmt.Errorf("document %d: %w", i, err)
		}
		first = i
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
