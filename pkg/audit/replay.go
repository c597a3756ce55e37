// Package audit replays the ledger from nothing and says whether everything in it follows from what stands before it.
//
// A Replay is an incremental state machine: it accepts an entry only when all of it is right, and an entry that it refuses leaves it as
// it was. A stranger who pins the program root checks the order of entries, every signature on program, charter, policies, offers and
// changes of the validators, emission and supply, the total weight against live credits, every VRF proof and seed, the schedule of drops
// with none left out, the chain of blocks, the log's checkpoints and the quorum of the validators of each day; also what every mine box
// held, that the pool could pay it, and that no more was redeemed than there is. Who holds the openings checks also whose each credit is,
// that it is credited once and to the account its key was bound to where it ends, each account's weight of each day, the leaves, their
// order and root, every share, every grant of crystals, that each box and redemption was asked for by its account's owner once and is
// logged in the days that the owner allowed, and that the account had what it spent.
//
// The log's day is that of its next drop. What an operator decides before it is logged, a grant, a box or a redemption, says the log's day
// of the decision, and may be logged on that day or the next; the offers of that day hold.
//
// A day that fewer than a quorum of validators are left of goes on by package duty's recovery. Whether the day was over by then, which is
// when honest validators take part in one, no replay can tell: it sees only who was out and came back.
//
// It proves no claim again: that a credit has a valid proof behind it is for those who hold the claims. It knows no clock, so it cannot
// tell a log that stops from one whose next drop is not due.
package audit

import (
	"errors"
	"fmt"
	"maps"
	"reflect"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"rawstone/pkg/audit/internal/accounts"
	"rawstone/pkg/audit/internal/documents"
	"rawstone/pkg/audit/internal/treasury"
	"rawstone/pkg/ledger"
	"rawstone/pkg/ledger/duty"
	"rawstone/pkg/reward"
	"rawstone/pkg/wire"
)

// An Opener tells what blinded entries hide; it answers false for what it does not know. *opening.Set is one.
type Opener = accounts.Opener

// A Replay is the state after a prefix of a log. It is used by one goroutine at a time.
type Replay struct {
	opened *accounts.Accounts // nil without openings

	number    uint64 // of the next entry
	tree      *compact.Range
	documents *documents.Documents
	treasury  treasury.Treasury

	live   map[uint32]live // by effective day, as long as it may count
	drop   uint64          // the next
	leaves *leavesState    // of the day of drop, nil before they are logged
	day    *ledger.Day     // likewise

	previous              wire.Hash
	height, carry, supply uint64
	report                Report
}

// live sums the credits with kilometres that take effect on one day.
type live struct{ km, count, first uint64 }

type leavesState struct {
	*ledger.Leaves
	hash     wire.Hash
	from, to uint64 // the credits that count
	roster   duty.Roster
}

// NewReplay starts before the first entry. The root pins the program document's signer; openings may be nil.
func NewReplay(root wire.PublicKey, openings Opener) (*Replay, error) {
	if _, err := root.Key(); err != nil {
		return nil, fmt.Errorf("cannot replay ledger: the pinned program root is missing or wrong: %w", err)
	}
	r := &Replay{
		documents: documents.New(root),
		tree:      (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0),
		live:      make(map[uint32]live),
	}
	if openings != nil {
		r.opened, r.report.Opened = accounts.New(openings), true
	}
	return r, nil
}

// Apply checks the next entry and takes it in. An entry that is refused changes nothing; the error names its number, what is wrong and
// what it should have been.
func (r *Replay) Apply(e *ledger.Entry) error {
	if err := r.apply(e); err != nil {
		return fmt.Errorf("cannot accept entry %d: %w", e.Number, err)
	}
	return nil
}

func (r *Replay) apply(e *ledger.Entry) error {
	if e.Number != r.number {
		return fmt.Errorf("its number should be %d", r.number)
	}
	b, err := e.Encode()
	if err != nil {
		return err
	}
	var commit func()
	if e.Type >= ledger.TypeLeaves && e.Type <= ledger.TypeBlock {
		s, err := e.Sealed()
		if err != nil {
			return err
		}
		if commit, err = r.payload(e.Type, s.Payload); err != nil {
			return err
		}
		_, id := r.Program()
		if err := ledger.VerifyQuorum(r.Current(), id, e.Type, s); err != nil {
			return err
		}
	} else if commit, err = r.entry(e); err != nil {
		return err
	}
	if err := r.tree.Append(rfc6962.DefaultHasher.HashLeaf(b), nil); err != nil {
		return fmt.Errorf("cannot hash it: %w", err)
	}
	r.number++
	r.report.Entries++
	commit()
	return nil
}

// Check checks the payload of an entry of type leaves, day or block as the next one, before anybody has cosigned it.
func (r *Replay) Check(t ledger.Type, payload []byte) error {
	if _, err := r.payload(t, payload); err != nil {
		return fmt.Errorf("cannot accept entry %d: %w", r.number, err)
	}
	return nil
}

// weight returns the kilometres and number of the credits logged so far that count on a day, and the number of the first of them.
func (r *Replay) weight(day uint32) (km, count, first uint64) {
	first = r.number
	for effective, l := range r.live {
		if reward.Counts(day, effective) {
			km, count, first = km+l.km, count+l.count, min(first, l.first)
		}
	}
	return km, count, first
}

// payload checks the payload of a cosigned entry as the next one.
func (r *Replay) payload(t ledger.Type, b []byte) (commit func(), err error) {
	if p, _ := r.Program(); p == nil {
		return nil, errors.New("it should be the program document")
	}
	if due := r.Due(); t != due.Type {
		return nil, fmt.Errorf("it is of type %v, should be %v of day %d, drop %d", t, due.Type, due.Day, due.Drop)
	}
	switch t {
	case ledger.TypeLeaves:
		l, err := ledger.DecodeLeaves(b)
		if err != nil {
			return nil, err
		}
		return r.checkLeaves(l, ledger.PayloadHash(t, b))
	case ledger.TypeDay:
		d, err := ledger.DecodeDay(b)
		if err != nil {
			return nil, err
		}
		return r.checkDay(d)
	default:
		k, err := ledger.DecodeBlock(b)
		if err != nil {
			return nil, err
		}
		return r.checkBlock(k, ledger.PayloadHash(t, b))
	}
}

func (r *Replay) checkLeaves(l *ledger.Leaves, hash wire.Hash) (func(), error) {
	day := r.today()
	if l.Day != day {
		return nil, fmt.Errorf("leaves are of day %d, should be of day %d", l.Day, day)
	}
	km, count, first := r.weight(day)
	if l.Weight != km {
		return nil, fmt.Errorf("total weight of day %d is %d km, should be %d km, the sum of the live credits", day, l.Weight, km)
	}
	if l.Count > count {
		return nil, fmt.Errorf("number of leaves is %d, should be at most %d, the number of live credits", l.Count, count)
	}
	p := r.Current()
	if n := len(l.Validators); n < int(p.Quorum) || int(l.Validators[n-1]) >= len(p.Validators) {
		return nil, fmt.Errorf("validators of day %d are %v, should be at least %d below %d", day, l.Validators, p.Quorum, len(p.Validators))
	}
	commit := func() {}
	if r.opened != nil {
		var err error
		if commit, err = r.opened.Leaves(l); err != nil {
			return nil, err
		}
	}
	return func() {
		commit()
		r.leaves = &leavesState{Leaves: l, hash: hash, from: first, to: r.number - 1, roster: duty.Roster{Set: l.Validators}} // to is this entry
		maps.DeleteFunc(r.live, func(effective uint32, _ live) bool { return reward.Expired(day, effective) })
		if r.opened != nil {
			r.report.Weights += l.Count
		}
	}, nil
}

// seed checks that proofs and withheld are of those of whom they should be, package duty's rule, and returns the seed.
func (r *Replay) seed(proofs []ledger.Proof, withheld []byte) (seed wire.Hash, err error) {
	p := r.Current()
	if err := r.leaves.roster.Check(ledger.Provers(proofs), withheld, int(p.Quorum)); err != nil {
		return seed, err
	}
	return ledger.Seed(p.Validators, r.Alpha(), proofs)
}

func (r *Replay) checkDay(d *ledger.Day) (func(), error) {
	want, err := r.NextDay(d.Proofs, d.Withheld)
	if err != nil {
		return nil, err
	}
	want.Root = d.Root // checked below, as far as possible
	if err := compare(d, want); err != nil {
		return nil, err
	}
	if empty, err := reward.NewTree(nil); err != nil || d.Count == 0 && d.Root != empty.Root().Hash {
		return nil, fmt.Errorf("weights root is %s, should be that of no leaves", d.Root)
	}
	commit := func() {}
	if r.opened != nil {
		if commit, err = r.opened.Day(d); err != nil {
			return nil, err
		}
	}
	return func() {
		commit()
		r.day, r.leaves.roster = d, duty.After(ledger.Provers(d.Proofs), d.Withheld)
		r.report.Seeds++
	}, nil
}

func (r *Replay) checkBlock(b *ledger.Block, hash wire.Hash) (func(), error) {
	want, after, err := r.nextBlock(b.Proofs, b.Withheld)
	if err != nil {
		return nil, err
	}
	if err := compare(b, want); err != nil {
		return nil, fmt.Errorf("block of drop %d: %w", want.Drop, err)
	}
	commit := func() {}
	if r.opened != nil {
		if commit, err = r.opened.Draw(b); err != nil {
			return nil, err
		}
	}
	return func() {
		commit()
		r.previous, r.leaves.roster = hash, duty.After(ledger.Provers(b.Proofs), b.Withheld)
		r.carry, r.supply, r.treasury = b.Carry, b.Supply, after
		if b.Weight > 0 {
			r.height++
		}
		r.drop++
		if r.today() != b.Day {
			r.leaves, r.day = nil, nil
		}
		r.report.Blocks++
		r.report.Seeds++
		if r.opened != nil {
			for _, o := range after.Opened() {
				r.opened.Won(o.Number, o.Prize)
			}
			r.report.Draws++
		}
	}, nil
}

// compare names the first field of a record that is not what it should be. It looks at every field there is, so that none is forgotten.
func compare[T ledger.Day | ledger.Block](got, want *T) error {
	g, w := reflect.ValueOf(got).Elem(), reflect.ValueOf(want).Elem()
	for i := range g.NumField() {
		if have, should := g.Field(i).Interface(), w.Field(i).Interface(); !reflect.DeepEqual(have, should) {
			return fmt.Errorf("%s is %v, should be %v", g.Type().Field(i).Name, have, should)
		}
	}
	return nil
}
