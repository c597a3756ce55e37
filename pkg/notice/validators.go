package notice

import (
	"fmt"
	"slices"

	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// peek returns the notice's block, for which nobody stands yet.
func (n *Notice) peek() (*ledger.Block, error) {
	sealed, err := (&ledger.Entry{Type: ledger.TypeBlock, Body: n.Block}).Sealed()
	if err != nil {
		return nil, err
	}
	return ledger.DecodeBlock(sealed.Payload)
}

// addChange takes a change of validators that was logged after those before it.
func (o *Opened) addChange(w *ledger.Witness) error {
	if k := len(o.Changes); k > 0 {
		if last := o.Changes[k-1]; w.Serial <= last.Serial || w.FromDay <= last.FromDay {
			return fmt.Errorf("change of validators %d from day %d on comes after change %d from day %d on", w.Serial, w.FromDay, last.Serial, last.FromDay)
		}
	}
	o.Changes = append(o.Changes, w)
	return nil
}

// verify checks that the validators of the block's day stand for it.
func (o *Opened) verify(body []byte, p *terms.Program, program wire.Hash) error {
	if len(o.Changes) > 0 {
		if day := dropDay(p.Timing, o.Drop); o.Day != day {
			return fmt.Errorf("its block of drop %d says that it is of day %d, and the drop is of day %d", o.Drop, o.Day, day)
		}
	}
	_, err := ledger.OpenBlock(ledger.On(p, o.Changes, o.Day), program, body)
	return err
}

// dropDay returns the program day of a drop, terms.MaxDay where it is later than that. DayS and DropS of a program are above 0.
func dropDay(t terms.Timing, drop uint64) uint32 {
	if drop > terms.MaxDay*uint64(t.DayS/t.DropS) {
		return terms.MaxDay
	}
	return min(t.Day(t.DropTime(drop)), terms.MaxDay)
}

// begun returns the index of the last change that has begun by a day, or -1.
func begun(changes []*ledger.Witness, day uint32) int {
	for i := len(changes) - 1; i >= 0; i-- {
		if changes[i].FromDay <= day {
			return i
		}
	}
	return -1
}

// After says why o, which is of a later block than another notice that was accepted, keeps back or contradicts a change of validators
// that the other one gave; nil where it does not. A change may be gone only when a later one has begun by o's day.
func (o *Opened) After(before *Opened) error {
	last := begun(o.Changes, o.Day)
	for _, known := range before.Changes {
		i, ok := slices.BinarySearchFunc(o.Changes, known.Serial, func(w *ledger.Witness, serial uint16) int { return int(w.Serial) - int(serial) })
		switch {
		case ok && (o.Changes[i].FromDay != known.FromDay || !slices.Equal(o.Changes[i].Validators, known.Validators)):
			return fmt.Errorf("cannot accept notice: its change of validators %d is another one than was heard of before", known.Serial)
		case !ok && (last < 0 || o.Changes[last].Serial < known.Serial):
			return fmt.Errorf("cannot accept notice: it keeps back change of validators %d from day %d on", known.Serial, known.FromDay)
		}
	}
	return nil
}

// Refutes reports whether an accepted notice was forged under the keys of validators that had been replaced: o gives a change that had
// begun by the day of the other's drop and that the other does not know of, although it would have had to be logged before.
func (o *Opened) Refutes(other *Opened, t terms.Timing) bool {
	if len(o.Changes) == 0 {
		return false
	}
	day := dropDay(t, other.Drop)
	i, j := begun(o.Changes, day), begun(other.Changes, day)
	return i >= 0 && (j < 0 || o.Changes[i].Serial > other.Changes[j].Serial)
}
