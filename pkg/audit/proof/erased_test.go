package proof

import (
	"strings"
	"testing"

	"rawstone/pkg/ledger"
	"rawstone/pkg/opening"
)

// TestErased checks a log whose first owner was erased, the car being another's now: what is left is proven as before, and nothing goes unproven that is
// not said to be erased.
func TestErased(t *testing.T) {
	w := lived(t)
	left := new(opening.Set)
	for i := range w.items {
		n := uint64(i)
		if b, ok := w.openings.Binding(n); ok && n > atLate {
			left.AddBinding(n, b)
		}
		if c, ok := w.openings.Credit(n); ok && n > atLate {
			left.AddCredit(n, c)
		}
	}
	w.openings = left
	kept := w.items[atFirst].Claims
	for i := atBinding; i <= atLate; i++ {
		w.items[i].Claims = nil
	}
	refused := func(want string) {
		t.Helper()
		if err := w.checker().Check(t.Context(), w.items); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	refused("cannot accept entry 4: binding has no opening")
	for n := uint64(atBinding); n < atLate; n++ {
		left.AddErased(n)
	}
	refused("credit has no opening")
	left.AddErased(atLate)
	c := w.checker()
	if err := c.Check(t.Context(), w.items); err != nil || c.Next() != w.next() {
		t.Fatalf("%v, next %d", err, c.Next())
	}
	left.AddErased(atOther) // what is there is looked at, whatever is said
	other := w.items[atOther].Claims
	w.items[atOther].Claims = nil
	refused(ErrNoClaim.Error())
	w.items[atOther].Claims = other
	w.items[atFirst].Claims = kept
	refused("comes with a claim")
	if w.items[atOther].Entry.Type != ledger.TypeCredit {
		t.Fatal("the last entry is no credit")
	}
}
