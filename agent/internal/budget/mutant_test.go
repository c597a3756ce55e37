package budget

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"rawstone/agent/internal/budget/internal/anchor"
	"rawstone/agent/internal/budget/internal/chain"
	"rawstone/agent/internal/budget/internal/charge"
)

// mutant is an agent or a ledger that does one thing wrong.
type mutant struct {
	name string
	// start is done to the files before a ledger is opened.
	start func(t *testing.T, w *world)
	// retry is done instead of giving an epoch up that was charged and has no bytes.
	retry func(t *testing.T, w *world, l *Ledger, m Mechanism)
	// early draws before the charge, lazy leaves the anchor's sync out.
	early, lazy bool
}

// TestCrashesCatchMutants: what the campaign would not notice, it would not prove.
func TestCrashesCatchMutants(t *testing.T) {
	for _, m := range []struct {
		mutant
		want string
	}{
		{mutant{name: "refunded budget", start: refund}, "refunded"},
		{mutant{name: "noise drawn again on retry", retry: drawAgain}, "was drawn 2 times"},
		{mutant{name: "noise drawn before the charge", early: true}, "was drawn and the ledger ends at"},
		{mutant{name: "charge not synced", lazy: true}, ""},
		{mutant{name: "draws forgotten", start: forget}, "was drawn and the ledger ends at 0"},
	} {
		t.Run(m.name, func(t *testing.T) {
			wrong := crashes(t, 500, 2, m.mutant, map[string]int{})
			if !strings.Contains(strings.Join(wrong, "\n"), m.want) || len(wrong) == 0 {
				t.Errorf("not caught: %q", wrong)
			}
			t.Logf("caught: %q", wrong)
		})
	}
}

// refund gives back what was charged for a report that never left.
func refund(t *testing.T, w *world) {
	a, err := anchor.Open(w.p.anchor(), charge.Charge{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var last, before charge.Charge
	err = chain.Walk(w.p.db, func(_ []byte, c charge.Charge) bool {
		before, last = last, c
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, found, err := chain.Stored(w.p.db, last.Epoch); found || err != nil || len(w.sent[last.Epoch]) > 0 || last.Index == 0 {
		return
	}
	rewrite(t, w.p.db, chain.Key(last.Epoch), nil)
	if err := os.Remove(w.p.anchor()); err != nil {
		t.Fatal(err)
	}
	b, err := anchor.Open(w.p.anchor(), charge.Charge{})
	if err != nil {
		t.Fatal(err)
	}
	if before.Index > 0 {
		err = b.Set(before)
	}
	if err := errors.Join(err, b.Close()); err != nil {
		t.Fatal(err)
	}
}

// forget begins anew with every start.
func forget(t *testing.T, w *world) {
	if err := errors.Join(w.p.db.DropAll(), os.RemoveAll(w.p.anchor())); err != nil {
		t.Fatal(err)
	}
}

// drawAgain makes a permit of its own for a charge that lost its draw.
func drawAgain(t *testing.T, w *world, l *Ledger, m Mechanism) {
	c, found, err := chain.Read(l.db, l.last.Epoch)
	if err != nil || !found {
		return
	}
	permit := &Permit{ledger: l, charge: c}
	values, err := permit.Release(m, []int64{1, 2})
	if err == nil {
		err = l.Store(t.Context(), permit, fmt.Append(nil, values))
	}
	if err == nil {
		w.send(c.Epoch, fmt.Append(nil, values))
	}
}
