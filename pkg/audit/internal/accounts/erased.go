package accounts

import (
	"fmt"

	"rawstone/pkg/account"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/wire"
)

// erased is what all accounts whose openings were destroyed have together.
type erased struct {
	entries  uint64
	weights  map[uint32]uint64 // kilometres by effective day, as long as they may count
	crystals uint64
	milli    uint64 // drawn and won less redeemed; nobody can claim them
}

// entry takes in an entry of which nothing is left to check.
func (e *erased) entry() { e.entries++ }

func (e *erased) credit(c ledger.Credit) func() {
	return func() {
		e.entries++
		if c.Km > 0 {
			e.weights[c.Effective] += uint64(c.Km)
		}
	}
}

// leaves checks those that are said to be of erased accounts against what they have earned, and returns those that are of no account whose leaf is
// known: who saw openings before they were destroyed still counts them for their account.
func (e *erased) leaves(day uint32, said []reward.Leaf, owners map[wire.Hash]string, known []reward.Leaf) (out []reward.Leaf, err error) {
	want, have := uint64(0), uint64(0)
	for effective, km := range e.weights {
		if reward.Counts(day, effective) {
			want += km
		}
	}
	if len(said) == 0 && want == 0 {
		return nil, nil
	}
	weights := make(map[wire.Hash]uint64)
	for _, l := range known {
		weights[l.Pseudonym] = l.Weight
	}
	for _, l := range said {
		if _, is := owners[l.Pseudonym]; is && weights[l.Pseudonym] == l.Weight {
			continue
		}
		if _, twice := weights[l.Pseudonym]; twice || l.Weight == 0 || l.Weight > want-have {
			return nil, fmt.Errorf("leaf %s of an erased account weighs %d km on day %d: it stands twice, or all of them weigh more than the %d km of erased credits", l.Pseudonym, l.Weight, day, want)
		}
		weights[l.Pseudonym] = l.Weight
		have += l.Weight
		out = append(out, l)
	}
	if have != want {
		return nil, fmt.Errorf("leaves of erased accounts weigh %d km on day %d, should weigh %d km, the sum of erased credits", have, day, want)
	}
	return out, nil
}

func (e *erased) grant(g account.Grant) func() {
	return func() {
		e.entries++
		e.crystals += uint64(g.Crystals)
	}
}

// gone reports whether the request of that number has no opening because it was destroyed.
func (o *Accounts) gone(number uint64) bool {
	_, ok := o.opener.Request(number)
	return !ok && o.opener.Erased(number)
}

func (o *Accounts) erasedBox(number uint64, cost uint32) (func(), error) {
	e := &o.erased
	if uint64(cost) > e.crystals {
		return nil, fmt.Errorf("box costs %d crystals, erased accounts have %d", cost, e.crystals)
	}
	return func() {
		e.entries++
		e.crystals -= uint64(cost)
	}, nil
}

func (e *erased) won(p cultivation.Prize) {
	e.milli += p.Milli
	e.crystals += uint64(p.Crystals)
}

func (e *erased) redemption(r account.Redemption) (func(), error) {
	if r.Milli > e.milli {
		return nil, fmt.Errorf("redemption uses %d milli-stones, erased accounts have %d", r.Milli, e.milli)
	}
	return func() {
		e.entries++
		e.milli -= r.Milli
	}, nil
}

// Erased returns how many entries' openings were destroyed, and the milli-stones of their accounts, which nobody can claim.
func (o *Accounts) Erased() (entries, milli uint64) { return o.erased.entries, o.erased.milli }
