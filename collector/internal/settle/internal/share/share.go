// Package share computes whose each stone of a day's draws is: the day's leaves from what accounts have earned, their order, and what the
// blocks of the day give to each account.
//
// It follows package reward, which anybody can check, and adds to it only who is behind a pseudonym. It keeps nothing on disk and draws no
// seed.
package share

import (
	"fmt"
	"sync"

	"rawstone/collector/internal/balance"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/wire"
)

// Leaves returns a day's leaves and their accounts. Those of erased accounts have none, "".
func Leaves(day uint32, weights []balance.Weight, erased []reward.Leaf) (accounts []string, leaves []reward.Leaf) {
	for _, w := range weights {
		accounts = append(accounts, w.ID)
		leaves = append(leaves, reward.Leaf{Pseudonym: reward.Pseudonym(w.Secret, day), Weight: w.Km})
	}
	return append(accounts, make([]string, len(erased))...), append(leaves, erased...)
}

// Order brings leaves and their accounts into the order of a seed, and returns the accounts, their intervals and the root.
func Order(seed wire.Hash, accounts []string, leaves []reward.Leaf) (ordered []string, line reward.Line, root reward.Root, err error) {
	owner := make(map[wire.Hash]string, len(leaves))
	for i, l := range leaves {
		owner[l.Pseudonym] = accounts[i]
	}
	leaves = reward.Order(seed, leaves)
	ordered = make([]string, len(leaves))
	for i, l := range leaves {
		ordered[i] = owner[l.Pseudonym]
	}
	tree, err := reward.NewTree(leaves)
	if err != nil {
		return nil, line, root, err
	}
	return ordered, tree.Line(), tree.Root(), nil
}

// A Day is what the drops of one day have given so far. Its methods may be called from several goroutines.
type Day struct {
	accounts []string    // in the order of the draw
	line     reward.Line // likewise

	mu    sync.Mutex
	next  uint64 // the drop after the last that gains holds
	gains map[string]uint64
}

// NewDay starts before the drop next, with the accounts and intervals in the order of the draw.
func NewDay(accounts []string, line reward.Line, next uint64) *Day {
	return &Day{accounts: accounts, line: line, next: next, gains: make(map[string]uint64)}
}

// Take adds a block's shares and returns how many accounts have one.
func (d *Day) Take(b *ledger.Block) (owners int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b.Drop != d.next {
		return 0, fmt.Errorf("cannot share drop %d: it should be drop %d", b.Drop, d.next)
	}
	if b.Weight > 0 {
		draw, err := reward.NewDraw(b.Seed, b.Units, b.Weight)
		if err != nil {
			return 0, err
		}
		wins, err := draw.Wins(d.line)
		if err != nil {
			return 0, err
		}
		for _, w := range wins {
			if owner := d.accounts[w.Index]; owner != "" { // an erased account's stones are nobody's
				d.gains[owner] += w.Units * reward.Unit
			}
		}
		owners = len(wins)
	}
	d.next++
	return owners, nil
}

// Gains returns the drop after the last that was taken, and what each account has got, in milli-stones. It is for a day that is over.
func (d *Day) Gains() (next uint64, gains map[string]uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.next, d.gains
}
