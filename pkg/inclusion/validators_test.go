package inclusion

import (
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"testing"

	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

// set returns three validators; set 0 is the program's own.
func set(n int) (keys []*ledger.ValidatorKey) {
	for i := range 3 {
		name := fmt.Sprintf("validator-%d", 10*n+i)
		c, v := vectortest.Hash(name+" cosign"), vectortest.Hash(name+" vrf")
		keys = append(keys, must(ledger.ParseValidatorKey(pem.EncodeToMemory(&pem.Block{
			Type: "RAWSTONE VALIDATOR KEY", Headers: map[string]string{"Name": name}, Bytes: slices.Concat(c[:], v[:]),
		}))))
	}
	return keys
}

func change(serial uint16, from uint32, keys []*ledger.ValidatorKey) *ledger.Witness {
	c := &ledger.Witness{Version: wire.Version, Serial: serial, FromDay: from}
	for _, k := range keys {
		c.Validators = append(c.Validators, k.Public())
	}
	return c
}

// TestHeard holds answers under blocks of several days, by several sets of validators, to what a car has heard: set 1 is in force from
// day 20 on and set 2 from day 30 on.
func TestHeard(t *testing.T) {
	one, two := change(1, 20, set(1)), change(2, 30, set(2))
	type verdict string
	const good, undecided, bad verdict = "good", "undecided", "false"
	for _, c := range []struct {
		changes  []*ledger.Witness
		heard    uint32
		day      uint32 // of the answer's block
		by       int
		mistaken bool // that the block covers what was promised
		want     verdict
	}{
		{nil, 0, 0, 0, false, good},
		{nil, 10, 10, 0, false, good},
		{nil, 10, 11, 0, false, good},
		{nil, 10, 9, 0, false, good},
		{nil, 10, 10, 1, false, bad},
		{nil, 10, 11, 1, false, undecided},
		{nil, 10, 25, 1, false, undecided}, // until the car hears
		{nil, 0, 25, 1, false, undecided},  // it has heard nothing yet
		{nil, 10, 25, 0, true, bad},        // whoever the validators are now, these stood for it

		{[]*ledger.Witness{one}, 19, 19, 0, false, good}, // heard ahead
		{[]*ledger.Witness{one}, 19, 19, 1, false, bad},
		{[]*ledger.Witness{one}, 19, 20, 1, false, good},
		{[]*ledger.Witness{one}, 19, 20, 0, false, undecided},
		{[]*ledger.Witness{one}, 20, 20, 1, false, good},
		{[]*ledger.Witness{one}, 20, 20, 0, false, bad}, // old keys
		{[]*ledger.Witness{one}, 25, 21, 0, false, bad},
		{[]*ledger.Witness{one}, 25, 19, 0, false, undecided}, // old keys, dated back
		{[]*ledger.Witness{one}, 25, 19, 1, false, undecided},
		{[]*ledger.Witness{one}, 25, 0, 0, false, undecided},
		{[]*ledger.Witness{one}, 25, 30, 0, false, undecided},
		{[]*ledger.Witness{one}, 25, 30, 2, false, undecided},

		{[]*ledger.Witness{one, two}, 25, 29, 1, false, good},
		{[]*ledger.Witness{one, two}, 25, 30, 2, false, good},
		{[]*ledger.Witness{one, two}, 30, 30, 2, false, good},
		{[]*ledger.Witness{one, two}, 30, 30, 1, false, bad},
		{[]*ledger.Witness{one, two}, 30, 30, 0, false, bad},
		{[]*ledger.Witness{one, two}, 30, 29, 1, false, undecided},
		{[]*ledger.Witness{two}, 30, 19, 0, false, undecided}, // the first change was left out
		{[]*ledger.Witness{two}, 30, 29, 0, false, undecided},
		{[]*ledger.Witness{two}, 30, 31, 2, true, bad},
	} {
		w := newWorld(t)
		w.validators = set(c.by)
		b := w.block(11)
		b.Day = c.day
		a := w.answer(11)
		a.Block = w.cosign(b, 0, 2)
		want := w.promised()
		if c.mistaken {
			want.ToSeq++
		}
		drop, err := a.Verify(w.program, w.id, Heard{Changes: c.changes, Day: c.heard}, want)
		got := good
		switch {
		case errors.Is(err, ErrUndecided):
			got = undecided
		case err != nil:
			got = bad
		case drop != 7:
			t.Errorf("%+v: drop %d", c, drop)
		}
		if got != c.want {
			t.Errorf("changes %d, heard on day %d, block of day %d by set %d: %s (%v), want %s", len(c.changes), c.heard, c.day, c.by, got, err, c.want)
		}
	}
}

// TestFalseStaysFalse: what is no proof whoever the validators are is evidence, also where the car has heard nothing.
func TestFalseStaysFalse(t *testing.T) {
	w := newWorld(t)
	for name, attack := range map[string]func(a *Answer){
		"another program's block": func(a *Answer) { b := w.block(11); b.Program[0] ^= 1; a.Block = w.cosign(b, 0, 1) },
		"no block":                func(a *Answer) { a.Block = nil },
		"a block cut short":       func(a *Answer) { a.Block = a.Block[:len(a.Block)-1] },
		"fewer km":                func(a *Answer) { a.Credits[0] = w.item(1, 5, terms.KindMileage, 11) },
		"one credit left out":     func(a *Answer) { a.Credits = a.Credits[:1] },
	} {
		a := w.answer(11)
		attack(a)
		if _, err := a.Verify(w.program, w.id, Heard{}, w.promised()); err == nil || errors.Is(err, ErrUndecided) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
