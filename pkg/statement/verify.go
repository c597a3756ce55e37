package statement

import (
	"errors"
	"fmt"
	"io"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/statement/internal/chain"
	"rawstone/pkg/statement/internal/holding"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Config says what a statement is verified against.
type Config struct {
	// Root is the pinned public key of the program root.
	Root wire.PublicKey
	// Account is whose the statement must be.
	Account string
	// State is what the statement goes on from; nil for a whole one.
	State *State
}

// Verify reads a statement to its end and checks everything in it. The report and the state, from which the next statement goes on, are there
// only when all is right; the error names what is not. Memory is bounded by the days that the statement covers.
func Verify(r io.Reader, c Config) (*Report, *State, error) {
	v := &verifier{c: c, report: Report{Account: c.Account}}
	in := NewReader(r)
	for {
		rec, err := in.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = v.apply(rec)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("cannot accept statement: %w", err)
		}
	}
	if !v.closed {
		return nil, nil, errors.New("cannot accept statement: it ends early")
	}
	v.finish()
	return &v.report, &State{stateDocument{Version: Version, Program: v.id, Chain: v.chain.State, Holding: v.holding.State}}, nil
}

// A verifier is the state after a prefix of a statement.
type verifier struct {
	c      Config
	report Report

	program *terms.Program
	id      wire.Hash
	from    uint64
	sealed  ledger.Sealed
	newest  *ledger.Block // of sealed, for which a quorum stands once finish has looked
	chain   *chain.Chain
	holding *holding.Holding

	last     uint64 // number of the last entry, when entries is not 0
	entries  uint64
	redeemed uint64 // by the account since the last block
	day      *Day   // of the block that comes next
	closed   bool
}

func (v *verifier) apply(r *Record) error {
	switch {
	case v.closed:
		return errors.New("something follows its end")
	case (v.program == nil) != (r.Opening != nil):
		return errors.New("it must open once, at its beginning")
	case r.Opening != nil:
		return v.open(r.Opening)
	case r.Document != nil:
		if err := v.chain.Document(r.Document.Type, r.Document.Body); err != nil {
			return fmt.Errorf("document of type %v: %w", r.Document.Type, err)
		}
		return nil
	case r.Base != nil:
		return v.base(r.Base)
	case r.Entry != nil:
		return v.entry(r.Entry)
	case r.Day != nil:
		if v.day != nil {
			return fmt.Errorf("day %d follows day %d without a block", r.Day.Day, v.day.Day)
		}
		v.day = r.Day
		return nil
	case r.Block != nil:
		return v.block(r.Block)
	}
	return v.close(r.Close)
}

func (v *verifier) open(o *Opening) error {
	if o.Account != v.c.Account {
		return fmt.Errorf("it is of account %q, should be of %q", o.Account, v.c.Account)
	}
	program, id, err := terms.OpenProgram(v.c.Root, o.Program)
	if err != nil {
		return err
	}
	past := stateDocument{Holding: holding.State{Account: o.Account, Secret: o.Secret}}
	if s := v.c.State; s != nil {
		past = s.s
		switch {
		case id != past.Program:
			return fmt.Errorf("it is of program %s, should be of %s as the saved state is", id, past.Program)
		case o.Account != past.Holding.Account || o.Secret != past.Holding.Secret:
			return errors.New("its account or the account's secret is not that of the saved state")
		case o.From != past.Chain.Next:
			return fmt.Errorf("it begins with drop %d, should begin with drop %d, where the saved state ends: ask for one from there on "+
				"(`collector owner statement --since STATE`, or GET /v1/account/statement?since=%[2]d)", o.From, past.Chain.Next)
		}
	}
	if v.chain, err = chain.New(v.c.Root, program, id, past.Chain); err != nil {
		return err
	}
	if v.holding, err = holding.New(program, id, past.Holding); err != nil {
		return err
	}
	if err := codec.Decode(o.Newest, &v.sealed, ledger.MaxBodyLen); err != nil {
		return err
	}
	if v.newest, err = ledger.DecodeBlock(v.sealed.Payload); err != nil {
		return err
	}
	v.program, v.id, v.from = program, id, o.From
	return nil
}

// stateless is the remedy for a statement that goes on from a state that is not given.
const stateless = "give the state that it goes on from (--state), or ask for a whole statement"

// settled says whether the log's day is known: whether the statement stands behind a block, or before drop 0.
func (v *verifier) settled() bool { return v.chain.Begun() || v.from == 0 }

func (v *verifier) base(payload []byte) error {
	if err := v.chain.Base(payload); err != nil {
		return err
	}
	if v.chain.Next != v.from {
		return fmt.Errorf("it is based on the block of drop %d, should begin with drop %d", v.chain.Next-1, v.from)
	}
	if v.entries > 0 && v.last >= v.chain.Size {
		return fmt.Errorf("entry %d stands before the block of drop %d, whose checkpoint covers %d entries", v.last, v.chain.Next-1, v.chain.Size)
	}
	return nil
}

func (v *verifier) entry(rec *Entry) error {
	e, err := ledger.DecodeEntry(rec.Entry)
	if err != nil {
		return err
	}
	if err := v.own(e, rec); err != nil {
		return fmt.Errorf("entry %d, a %v: %w", e.Number, e.Type, err)
	}
	v.last = e.Number
	v.entries++
	return nil
}

func (v *verifier) own(e *ledger.Entry, rec *Entry) error {
	if v.entries > 0 && e.Number <= v.last {
		return fmt.Errorf("it does not follow entry %d", v.last)
	}
	if v.chain.Begun() && e.Number <= v.chain.Size {
		return fmt.Errorf("it stands after the block of drop %d, which is entry %d", v.chain.Next-1, v.chain.Size)
	}
	path := make([][]byte, len(rec.Path))
	for i := range path {
		path[i] = rec.Path[i][:]
	}
	leaf := rfc6962.DefaultHasher.HashLeaf(rec.Entry)
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, e.Number, v.newest.Size, leaf, path, v.newest.LogRoot[:]); err != nil {
		return fmt.Errorf("it is not in the tree of the newest block, of %d entries", v.newest.Size) // the library's error spells hashes over several lines
	}
	if e.Type == ledger.TypeOffers {
		if len(rec.Opening) != 0 {
			return errors.New("offers hide nothing")
		}
		return v.holding.Announce(e.Body, v.settled(), v.chain.Today())
	}
	if !v.settled() {
		return errors.New("it stands before the block that the statement is based on: " + stateless)
	}
	g, err := v.holding.Entry(e, rec.Opening, v.chain.Today())
	if err != nil {
		return err
	}
	v.redeemed += g.Redeemed
	v.report.add(v.chain.Today(), g)
	return nil
}

func (v *verifier) block(rec *Block) error {
	if !v.settled() {
		return fmt.Errorf("the block before drop %d is missing: %s", v.from, stateless)
	}
	before := v.chain.State
	b, err := v.chain.Block(rec.Payload)
	if err != nil {
		return err
	}
	if v.entries > 0 && v.last >= b.Size {
		return fmt.Errorf("entry %d stands before the block of drop %d, whose checkpoint covers %d entries", v.last, b.Drop, b.Size)
	}
	if len(before.Validators) == 0 || before.Day != b.Day {
		err = v.begin(b)
	} else if v.day != nil {
		err = fmt.Errorf("day %d stands within day %d", v.day.Day, b.Day)
	}
	if err != nil {
		return err
	}
	boxes := uint64(len(v.holding.Closed))
	g, err := v.holding.Draw(b)
	if err != nil {
		return fmt.Errorf("drop %d: %w", b.Drop, err)
	}
	switch {
	case g.Units != rec.Units:
		return fmt.Errorf("drop %d: the account's share is %d units, should be %d", b.Drop, rec.Units, g.Units)
	case b.Cultivated-before.Cultivated < g.Won || b.Boxes-before.Boxes < boxes:
		return fmt.Errorf("drop %d: it opens %d boxes for %d milli-stones, should open at least the account's %d for %d", b.Drop, b.Boxes-before.Boxes,
			b.Cultivated-before.Cultivated, boxes, g.Won)
	case b.Redeemed-before.Redeemed < v.redeemed:
		return fmt.Errorf("drop %d: %d milli-stones are redeemed, should be at least the account's %d", b.Drop, b.Redeemed-before.Redeemed, v.redeemed)
	}
	v.redeemed = 0
	row := v.report.add(b.Day, g)
	row.Drops++
	row.Weight, row.Total = v.holding.Interval.End-v.holding.Interval.Begin, b.Weight
	return nil
}

// begin begins the day of a block with the account's place in it.
func (v *verifier) begin(b *ledger.Block) error {
	var path *reward.Path
	if d := v.day; d != nil {
		if d.Day != b.Day {
			return fmt.Errorf("day %d stands before a block of day %d", d.Day, b.Day)
		}
		if km := v.holding.Weight(b.Day); d.Weight != km {
			return fmt.Errorf("weight of day %d is %d km, should be %d km, the sum of the account's credits that count", d.Day, d.Weight, km)
		}
		path = &d.Path
	}
	v.day = nil
	return v.holding.Day(b.Day, reward.Root{Hash: b.Root, Sum: b.Weight, Count: b.Count}, path)
}

// close checks what all depends on: that a quorum stands for the newest block, and that it is the last.
func (v *verifier) close(c *Close) error {
	if !v.chain.Begun() || v.day != nil || v.redeemed > 0 || ledger.PayloadHash(ledger.TypeBlock, v.sealed.Payload) != v.chain.Hash {
		return fmt.Errorf("it ends before the block of drop %d, its newest", v.newest.Drop)
	}
	if err := ledger.VerifyQuorum(v.chain.On(v.newest.Day), v.id, ledger.TypeBlock, &v.sealed); err != nil {
		return fmt.Errorf("newest block, of drop %d: %w", v.newest.Drop, err)
	}
	if c.Milli != v.holding.Milli {
		return fmt.Errorf("balance is %s stones, should be %s", stones(c.Milli), stones(v.holding.Milli))
	}
	if c.Crystals != uint64(v.holding.Crystals) {
		return fmt.Errorf("balance is %d crystals, should be %d", c.Crystals, v.holding.Crystals)
	}
	v.closed = true
	return nil
}

func (v *verifier) finish() {
	p := &v.report
	p.Program, p.LogKey = v.id, v.program.LogKey
	p.From, p.To, p.Blocks, p.Entries = v.from, v.newest.Drop, v.chain.Blocks(), v.entries
	p.Size, p.LogRoot = v.newest.Size, v.newest.LogRoot
	p.Milli, p.Crystals = v.holding.Milli, uint64(v.holding.Crystals)
	for _, g := range v.holding.Goods {
		p.Goods = append(p.Goods, Goods{g.Item, g.Count})
	}
	for _, b := range v.holding.Bindings {
		if !b.Closed {
			p.Cars = append(p.Cars, b.Vehicle)
		}
	}
}
