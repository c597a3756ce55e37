// Package record reads from a ledger's entries what a yearly publication is made of: the documents in the order in which they were logged,
// and how far the blocks have come.
//
// It checks each document's signature, order and notice, the order of the blocks, and the cosignatures of the last one. It refuses any of
// them that a replay would refuse for these reasons; everything else that a replay checks is package audit's.
package record

import (
	"errors"
	"fmt"

	"rawstone/pkg/ledger"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A Document is a signed one with where it stands in the log: the number of its entry, and the log's day by then.
type Document[T any] struct {
	Doc   T
	Entry uint64
	Day   uint32
}

// A Record is what a log's entries say. Take takes them in their order.
type Record struct {
	// Root is the pinned public key of the program root.
	Root wire.PublicKey
	// Program is nil before the first entry; ID is its identifier, Period the year.
	Program *terms.Program
	ID      wire.Hash
	Period  Period
	// Charter is the last one, nil before it. The others are all that were logged.
	Charter   *Document[*terms.Charter]
	Policies  []Document[*terms.Policy]
	Offers    []Document[*cultivation.Offers]
	Witnesses []Document[*ledger.Witness]
	// Block is the last one, nil before it, and Height the number of drops with weight so far.
	Block  *ledger.Block
	Height uint64

	year int
	next uint64        // drop
	last *ledger.Entry // of Block
	// heights are the known ones at the drops with which the months begin.
	heights map[uint64]uint64
}

// New returns the record of a year before the first entry.
func New(root wire.PublicKey, year int) *Record {
	return &Record{Root: root, year: year, heights: make(map[uint64]uint64)}
}

// List returns the documents alone.
func List[T any](documents []Document[T]) (out []T) {
	for _, d := range documents {
		out = append(out, d.Doc)
	}
	return out
}

// today is the log's day: that of the next drop.
func (r *Record) today() uint32 { return r.Program.Timing.Day(r.Program.Timing.DropTime(r.next)) }

// Take takes in the next entry. The error names it.
func (r *Record) Take(e *ledger.Entry) error {
	err := r.document(e)
	if year, ok := errors.AsType[yearError](err); ok {
		return year.error // no fault of the entry
	}
	if err != nil {
		return fmt.Errorf("cannot announce entry %d, of type %v: %w", e.Number, e.Type, err)
	}
	return nil
}

// Finish checks that there was a program, and that a quorum of the last block's day stands for it.
func (r *Record) Finish() error {
	if r.Program == nil {
		return errors.New("cannot announce: the ledger holds no program")
	}
	if r.last == nil {
		return nil
	}
	then := ledger.On(r.Program, List(r.Witnesses), r.Block.Day)
	if _, err := ledger.OpenBlock(then, r.ID, r.last.Body); err != nil {
		return fmt.Errorf("cannot announce entry %d, the last block: %w", r.last.Number, err)
	}
	return nil
}

// document takes in an entry that says something about the year.
func (r *Record) document(e *ledger.Entry) (err error) {
	if r.Program == nil {
		return r.begin(e)
	}
	switch e.Type {
	case ledger.TypeProgram:
		return errors.New("it is a second program document")
	case ledger.TypeCharter:
		c, _, err := terms.OpenCharter(r.Program, r.ID, e.Body)
		if err != nil {
			return err
		}
		if r.Charter != nil && c.Serial <= r.Charter.Doc.Serial {
			return fmt.Errorf("its serial %d is not above %d", c.Serial, r.Charter.Doc.Serial)
		}
		r.Charter = &Document[*terms.Charter]{c, e.Number, r.today()}
	case ledger.TypePolicy:
		p, err := terms.OpenPolicy(r.Program.Policy, r.ID, e.Body)
		if err != nil {
			return err
		}
		if n := len(r.Policies); n > 0 && p.Serial <= r.Policies[n-1].Doc.Serial {
			return fmt.Errorf("its serial %d is not above %d", p.Serial, r.Policies[n-1].Doc.Serial)
		}
		if r.Charter == nil {
			return errors.New("it stands before any charter")
		}
		if err := r.Charter.Doc.Covers(p); err != nil {
			return err
		}
		r.Policies = append(r.Policies, Document[*terms.Policy]{p, e.Number, r.today()})
	case ledger.TypeOffers:
		o, err := cultivation.OpenOffers(r.Program.Policy, r.ID, e.Body)
		if err != nil {
			return err
		}
		if n := len(r.Offers); n > 0 && o.Serial <= r.Offers[n-1].Doc.Serial {
			return fmt.Errorf("its serial %d is not above %d", o.Serial, r.Offers[n-1].Doc.Serial)
		}
		if first := uint64(r.today()) + cultivation.NoticeDays; uint64(o.FromDay) < first {
			return fmt.Errorf("it takes effect on day %d, logged on day %d: want day %d or later", o.FromDay, r.today(), first)
		}
		r.Offers = append(r.Offers, Document[*cultivation.Offers]{o, e.Number, r.today()})
	case ledger.TypeWitness:
		w, err := ledger.OpenWitness(r.Root, r.Program, r.ID, e.Body)
		if err != nil {
			return err
		}
		if n := len(r.Witnesses); n > 0 && (w.Serial <= r.Witnesses[n-1].Doc.Serial || w.FromDay <= r.Witnesses[n-1].Doc.FromDay) {
			return fmt.Errorf("its serial %d and day %d are not both above those of the change before", w.Serial, w.FromDay)
		}
		if w.FromDay <= r.today() {
			return fmt.Errorf("it takes effect on day %d, logged on day %d: want a later day", w.FromDay, r.today())
		}
		r.Witnesses = append(r.Witnesses, Document[*ledger.Witness]{w, e.Number, r.today()})
	case ledger.TypeBlock:
		return r.drop(e)
	}
	return nil
}

// begin takes in the program.
func (r *Record) begin(e *ledger.Entry) error {
	if e.Type != ledger.TypeProgram {
		return errors.New("it should be the program document")
	}
	p, id, err := terms.OpenProgram(r.Root, e.Body)
	if err != nil {
		return err
	}
	if r.Period, err = newPeriod(p.Timing, r.year); err != nil {
		return err
	}
	r.Program, r.ID = p, id
	return nil
}

// drop takes in a block.
func (r *Record) drop(e *ledger.Entry) error {
	s, err := e.Sealed()
	if err != nil {
		return err
	}
	b, err := ledger.DecodeBlock(s.Payload)
	if err != nil {
		return err
	}
	if b.Drop != r.next || b.Height != r.Height {
		return fmt.Errorf("it is of drop %d at height %d, should be of drop %d at height %d", b.Drop, b.Height, r.next, r.Height)
	}
	if r.Period.begins(b.Drop) {
		r.heights[b.Drop] = b.Height
	}
	r.Block, r.last = b, e
	r.next++
	if b.Weight > 0 {
		r.Height++
	}
	return nil
}

// HeightAt returns the lowest height that a drop can have: the one it had, or the log's own for one that is still to come.
func (r *Record) HeightAt(drop uint64) uint64 {
	if h, ok := r.heights[drop]; ok {
		return h
	}
	return r.Height
}
