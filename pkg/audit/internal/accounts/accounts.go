// Package accounts is the part of an audit that only who holds the openings can do: whose each credit is, that it is credited once and to
// the account its key is bound to, each account's weight of each day, the leaves, their order and root, and every share; that crystals are
// granted once and within the limits offered, and that an account asked itself, under its own key, for what it spends, and has it.
//
// A key's bindings are segments of its sequence numbers that do not overlap. A credit lies in one of them, by its end, and is its account's;
// a hand-over ends a segment, and what a key counts beyond the end, or after its revocation, is nobody's.
//
// Of entries whose openings were destroyed at a person's request it checks what is left to check: that the leaves of erased accounts weigh what
// their credits do, and that they spent no more crystals and stones, all together, than they got. How that is divided among them, and whose
// it was, nobody can tell any more. A key's erased last binding is known by its end alone, which no later binding begins before.
//
// Its methods check first and return what is to be done once the whole entry is accepted; what is refused changes nothing. What a
// stranger can check is left to the replay.
package accounts

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"rawstone/pkg/account"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// ErrNoOpening says that an entry is not among the openings that were given.
var ErrNoOpening = errors.New("has no opening")

// An Opener tells what blinded entries hide; it answers false for what it does not know. *opening.Set is one.
type Opener interface {
	// These return the opening of the entry of that number.
	Credit(number uint64) (ledger.CreditOpening, bool)
	Binding(number uint64) (ledger.BindingOpening, bool)
	Handover(number uint64) (ledger.HandoverOpening, bool)
	Change(number uint64) (account.ChangeOpening, bool)
	Grant(number uint64) (account.GrantOpening, bool)
	// Request returns the opening of a box or a redemption.
	Request(number uint64) (account.RequestOpening, bool)
	// Secret returns an account's secret, which its pseudonyms are made from.
	Secret(account string) ([32]byte, bool)
	// Erased reports whether the opening of the entry of that number was destroyed because a person asked for it. It is asked only where
	// there is none.
	Erased(number uint64) bool
	// ErasedLeaves returns what the tree of a day holds of erased accounts.
	ErasedLeaves(day uint32) []reward.Leaf
	// ErasedKey returns what is kept of an ECU key whose last binding's opening was destroyed, as far as it is known.
	ErasedKey(id wire.KeyID) (ledger.ErasedKey, bool)
}

// Accounts is the state of all accounts after a prefix of a log. It is used by one goroutine at a time.
type Accounts struct {
	opener   Opener
	keys     map[wire.KeyID]*key
	fitted   map[string]wire.KeyID // the key of each vehicle with an open binding
	credited map[span][]string     // kinds
	// weights holds kilometres by account and effective day, as long as they may count.
	weights map[string]map[uint32]uint64
	// leaves are the current day's, accounts by pseudonym, and the leaves in the order of the draw, with their line, once the day has one.
	owners map[wire.Hash]string
	leaves []reward.Leaf
	line   reward.Line
	// holdings are by account; it has one as soon as there is something to say of it beside its mileage.
	holdings map[string]*holding
	features map[wire.Hash]feature // credits of feature policies by their blinds
	granted  map[occasion]struct{}
	requests map[wire.Hash]struct{} // identifiers of all that were accepted
	boxes    map[uint64]string      // the accounts of the boxes that wait, by number
	erased   erased
}

// A span is what may be credited once for each kind: it ends at a key's snapshot. A span that was credited for one kind may be
// credited for another later, but no span begins before the key's head.
type span struct {
	ecu wire.KeyID
	seq uint64
}

// New starts before the first entry.
func New(o Opener) *Accounts {
	return &Accounts{opener: o, keys: make(map[wire.KeyID]*key), fitted: make(map[string]wire.KeyID),
		credited: make(map[span][]string), weights: make(map[string]map[uint32]uint64), holdings: make(map[string]*holding),
		features: make(map[wire.Hash]feature), granted: make(map[occasion]struct{}), requests: make(map[wire.Hash]struct{}), boxes: make(map[uint64]string), erased: erased{weights: make(map[uint32]uint64)}}
}

// Credit checks the credit that is the entry of that number.
func (o *Accounts) Credit(number uint64, c ledger.Credit) (func(), error) {
	op, ok := o.opener.Credit(number)
	if !ok && o.opener.Erased(number) {
		return o.erased.credit(c), nil
	}
	if !ok {
		return nil, fmt.Errorf("credit %w", ErrNoOpening)
	}
	blind, err := op.Blind()
	if err != nil {
		return nil, err
	}
	if blind != c.Blind {
		return nil, fmt.Errorf("credit's blind is %s, its opening's is %s", c.Blind, blind)
	}
	if _, ok := o.opener.Secret(op.Account); !ok {
		return nil, fmt.Errorf("credit's account %q has no opening", op.Account)
	}
	to, err := o.segment(number, op)
	if err != nil {
		return nil, err
	}
	if op.Kind != terms.KindMileage && c.Km != 0 {
		return nil, fmt.Errorf("credit of kind %q is %d km, should be 0", op.Kind, c.Km)
	}
	once := span{op.ECU, op.ToSeq}
	kinds := o.credited[once]
	if slices.Contains(kinds, op.Kind) {
		return nil, fmt.Errorf("credit of key %s for snapshot %d and kind %q stands a second time", op.ECU, op.ToSeq, op.Kind)
	}
	if kinds == nil && op.ToSeq <= to.head {
		return nil, fmt.Errorf("credit ends at snapshot %d, should be after %d, the head of key %s", op.ToSeq, to.head, op.ECU)
	}
	return func() {
		o.credited[once] = append(kinds, op.Kind)
		to.head = max(to.head, op.ToSeq)
		if strings.HasPrefix(op.Kind, terms.KindFeature) {
			o.features[c.Blind] = feature{op.Account, op.Kind}
		}
		if c.Km > 0 {
			w := o.weights[op.Account]
			if w == nil {
				w = make(map[uint32]uint64)
				o.weights[op.Account] = w
			}
			w[c.Effective] += uint64(c.Km)
		}
	}, nil
}

// Leaves checks a day's leaves against what every account has earned.
func (o *Accounts) Leaves(l *ledger.Leaves) (func(), error) {
	owners := make(map[wire.Hash]string)
	var leaves []reward.Leaf
	for account, days := range o.weights {
		weight := uint64(0)
		for effective, km := range days {
			if reward.Counts(l.Day, effective) {
				weight += km
			}
		}
		if weight == 0 {
			continue
		}
		secret, _ := o.opener.Secret(account)
		p := reward.Pseudonym(secret, l.Day)
		owners[p] = account
		leaves = append(leaves, reward.Leaf{Pseudonym: p, Weight: weight})
	}
	gone, err := o.erased.leaves(l.Day, o.opener.ErasedLeaves(l.Day), owners, leaves)
	if err != nil {
		return nil, err
	}
	leaves = append(leaves, gone...)
	hash, _, err := reward.SetHash(leaves)
	if err != nil {
		return nil, err
	}
	if l.Count != uint64(len(leaves)) {
		return nil, fmt.Errorf("number of leaves is %d, should be %d", l.Count, len(leaves))
	}
	if l.Set != hash {
		return nil, fmt.Errorf("hash of the set of leaves is %s, should be %s: a weight or an account differs", l.Set, hash)
	}
	return func() {
		o.owners, o.leaves = owners, leaves
		// What does not count today counts on no later day.
		for account, days := range o.weights {
			maps.DeleteFunc(days, func(effective uint32, _ uint64) bool { return reward.Expired(l.Day, effective) })
			if len(days) == 0 {
				delete(o.weights, account)
			}
		}
		maps.DeleteFunc(o.erased.weights, func(effective uint32, _ uint64) bool { return reward.Expired(l.Day, effective) })
	}, nil
}

// Day checks the order and the root of the leaves that were checked last.
func (o *Accounts) Day(d *ledger.Day) (func(), error) {
	ordered := reward.Order(d.Order, o.leaves)
	tree, err := reward.NewTree(ordered)
	if err != nil {
		return nil, err
	}
	if root := tree.Root(); root.Hash != d.Root {
		return nil, fmt.Errorf("weights root is %s, should be %s", d.Root, root.Hash)
	}
	return func() { o.leaves, o.line = ordered, tree.Line() }, nil
}

// Draw checks a block that follows from what is public, and gives every account its share.
func (o *Accounts) Draw(b *ledger.Block) (func(), error) {
	if b.Weight == 0 {
		return func() {}, nil
	}
	d, err := reward.NewDraw(b.Seed, b.Units, b.Weight)
	if err != nil {
		return nil, err
	}
	wins, err := d.Wins(o.line)
	if err != nil {
		return nil, err
	}
	return func() {
		for _, w := range wins {
			if owner, known := o.owners[o.leaves[w.Index].Pseudonym]; known {
				o.holding(owner).milli += w.Units * reward.Unit
			} else {
				o.erased.milli += w.Units * reward.Unit
			}
		}
	}, nil
}
