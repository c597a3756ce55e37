// Package opener tells a validator's rules what is disclosed of the entries that they look at, and they ask for no others.
//
// They see no secret of an entry later than the one they take in: started again, the validator looks at one entry after the other and has none
// either. A secret that its entry's opening does not name, or that is not the one which came before, is refused.
//
// What was destroyed at a person's request the rules do without. Where the validator had checked it before, nothing is lost. Where it had
// not, it believes the quorum alone that cosigned a block after it, as an account may only be erased once a block covers all that it has: until
// it has replayed such a block, Blind says that it must give nothing.
package opener

import (
	"bytes"
	"errors"
	"fmt"
	"maps"

	"rawstone/collector/internal/disclosure"
	"rawstone/collector/internal/erasure"
	"rawstone/pkg/account"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/wire"
)

// An Opener is what was disclosed; it is an audit.Opener. It is used by one goroutine at a time.
type Opener struct {
	current []disclosure.Entry // what is looked at
	// secrets are those of the entries that were replayed; replayed is the entry that is.
	secrets  map[string][32]byte
	replayed *disclosure.Entry
	counts   map[string]uint64 // entries that were replayed and named an account
	leaves   map[uint32]map[wire.Hash]uint64
	keys     map[wire.Hash]ledger.ErasedKey
	// forgotten are accounts that were erased since the validator began: their secrets count for what was replayed.
	forgotten map[string]bool
	// told is what somebody says of a day whose leaves are yet to be cosigned; it counts until they are replayed with what is said then.
	told    []reward.Leaf
	toldDay uint32
	// unseen is the last entry that was erased before the validator saw it, blind until a block covers it.
	unseen uint64
	blind  bool
}

// New starts before the first entry.
func New() *Opener {
	return &Opener{secrets: make(map[string][32]byte), counts: make(map[string]uint64), leaves: make(map[uint32]map[wire.Hash]uint64), keys: make(map[wire.Hash]ledger.ErasedKey), forgotten: make(map[string]bool)}
}

// Keep keeps what the tree of a day holds of an account that this validator has erased.
func (o *Opener) Keep(l erasure.Leaf) {
	if o.leaves[l.Day] == nil {
		o.leaves[l.Day] = make(map[wire.Hash]uint64)
	}
	o.leaves[l.Day][l.Pseudonym] = l.Weight
}

// KeepKey keeps what is left of an ECU key whose binding this validator has erased.
func (o *Opener) KeepKey(k ledger.ErasedKey) { o.keys[k.Mark] = k }

// Told takes what the tree of a day is said to hold of erased accounts, before the day's leaves are. Whether it weighs what their credits do is for
// the rules to find out.
func (o *Opener) Told(day uint32, leaves []reward.Leaf) { o.toldDay, o.told = day, leaves }

// Count returns how many entries that were replayed named an account.
func (o *Opener) Count(account string) uint64 { return o.counts[account] }

// Forget notes that an account was erased. What was replayed of it counts until the validator is started again; an account that has its name
// from then on is another, which this one cannot follow before.
func (o *Opener) Forget(account string) { o.forgotten[account] = true }

// Blind refuses while something that was erased before this validator could see it is covered by no block, which a quorum that saw it cosigned.
func (o *Opener) Blind() error {
	if !o.blind {
		return nil
	}
	return fmt.Errorf("what entry %d hides was erased before this validator saw it: it gives nothing before the others have cosigned a block after it", o.unseen)
}

// Look opens consecutive entries until what it returns is called.
func (o *Opener) Look(entries []disclosure.Entry) (end func()) {
	o.current = entries
	return func() { o.current = nil }
}

// Replay has apply take in an entry with its disclosure; apply accepts no block that a quorum has not cosigned.
func (o *Opener) Replay(e *disclosure.Entry, apply func() error) error {
	if err := o.secret(e); err != nil {
		return fmt.Errorf("cannot accept entry %d: %w", e.Number, err)
	}
	o.replayed = e
	defer func() { o.replayed = nil }()
	if err := apply(); err != nil {
		return err
	}
	if e.Account != "" {
		o.secrets[e.Account] = [32]byte(e.Secret)
	}
	if id, ok := e.Named(); ok {
		o.counts[id]++
	}
	if e.Erased && !e.Seen {
		o.unseen, o.blind = e.Number, true
	} else if e.Type == ledger.TypeBlock {
		o.blind = false
	}
	return nil
}

// secret checks that a secret comes with an opening that names its account, and is the one that came before.
func (o *Opener) secret(e *disclosure.Entry) error {
	if e.Account == "" {
		return nil
	}
	named := ""
	if op, ok := disclosure.Opened[ledger.BindingOpening](e, ledger.TypeBinding); ok {
		named = op.Account
	} else if op, ok := disclosure.Opened[account.ChangeOpening](e, ledger.TypeAccount); ok {
		named = op.Account
	}
	if named != e.Account || len(e.Secret) != 32 {
		return fmt.Errorf("it comes with the secret of an account that its opening does not name, or is of type %v, which has none", e.Type)
	}
	if have, known := o.secrets[e.Account]; known && !bytes.Equal(have[:], e.Secret) {
		if o.forgotten[e.Account] {
			return disclosure.ErrStale
		}
		return errors.New("the secret of its account is not the one that was disclosed before")
	}
	return nil
}

func (o *Opener) at(number uint64) *disclosure.Entry {
	if len(o.current) > 0 && number >= o.current[0].Number && number-o.current[0].Number < uint64(len(o.current)) {
		return &o.current[number-o.current[0].Number]
	}
	return new(disclosure.Entry)
}

// Credit returns the opening of a credit.
func (o *Opener) Credit(n uint64) (ledger.CreditOpening, bool) {
	return disclosure.Opened[ledger.CreditOpening](o.at(n), ledger.TypeCredit)
}

// Binding returns the opening of a binding.
func (o *Opener) Binding(n uint64) (ledger.BindingOpening, bool) {
	return disclosure.Opened[ledger.BindingOpening](o.at(n), ledger.TypeBinding)
}

// Handover returns the opening of a hand-over.
func (o *Opener) Handover(n uint64) (ledger.HandoverOpening, bool) {
	return disclosure.Opened[ledger.HandoverOpening](o.at(n), ledger.TypeHandover)
}

// Change returns the opening of a change of an account.
func (o *Opener) Change(n uint64) (account.ChangeOpening, bool) {
	return disclosure.Opened[account.ChangeOpening](o.at(n), ledger.TypeAccount)
}

// Grant returns the opening of a grant.
func (o *Opener) Grant(n uint64) (account.GrantOpening, bool) {
	return disclosure.Opened[account.GrantOpening](o.at(n), ledger.TypeGrant)
}

// Request returns the opening of a box or a redemption.
func (o *Opener) Request(n uint64) (account.RequestOpening, bool) { return o.at(n).Request() }

// Secret returns the secret of an account that was disclosed so far, with the entry that is replayed at the latest.
func (o *Opener) Secret(id string) ([32]byte, bool) {
	if v, ok := o.secrets[id]; ok {
		return v, true
	}
	if e := o.replayed; e != nil && e.Account == id {
		return [32]byte(e.Secret), true
	}
	return [32]byte{}, false
}

// Erased reports whether what the entry hides is said to have been destroyed.
func (o *Opener) Erased(n uint64) bool { e := o.at(n); return e.Erased && e.Number == n }

// ErasedKey returns what is left of an ECU key whose binding was erased in an earlier life of the validator; in this one it has seen the binding.
func (o *Opener) ErasedKey(id wire.KeyID) (ledger.ErasedKey, bool) {
	k, ok := o.keys[ledger.KeyMark(id)]
	return k, ok
}

// ErasedLeaves returns what the tree of a day holds of erased accounts, as far as the validator knows it or is told with the entry that is replayed.
func (o *Opener) ErasedLeaves(day uint32) (out []reward.Leaf) {
	all := maps.Clone(o.leaves[day])
	if e := o.replayed; e != nil && len(e.Leaves) > 0 {
		if all == nil {
			all = make(map[wire.Hash]uint64)
		}
		e.ErasedLeaves(func(l reward.Leaf) { all[l.Pseudonym] = l.Weight })
	}
	if o.replayed == nil && o.toldDay == day && len(o.told) > 0 {
		if all == nil {
			all = make(map[wire.Hash]uint64)
		}
		for _, l := range o.told {
			all[l.Pseudonym] = l.Weight
		}
	}
	for p, weight := range all {
		out = append(out, reward.Leaf{Pseudonym: p, Weight: weight})
	}
	return out
}
