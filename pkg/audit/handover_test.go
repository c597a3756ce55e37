package audit

import (
	"strings"
	"testing"

	"rawstone/pkg/ledger"
	"rawstone/pkg/wire"
)

// handOver returns the entry of a hand-over of an account's key.
func (a *author) handOver(account string, cut uint64, revoked bool) *ledger.Entry {
	o := ledger.HandoverOpening{Salt: [32]byte{3}, ECU: a.ecus[account].ID(), Cut: cut, Revoked: revoked}
	blind, err := o.Blind()
	a.must(err)
	a.openings.AddHandover(a.replay.Next(), o)
	return a.entry(ledger.TypeHandover, a.encode(ledger.Handover{Blind: blind}))
}

// bindAgain returns the entry that binds an account's key, which is another account's from then on.
func (a *author) bindAgain(account, to string, head uint64) *ledger.Entry {
	o := ledger.BindingOpening{Salt: [32]byte{4}, Vehicle: "NEW" + to, Account: to, ECU: a.ecus[account], Head: wire.Head{Seq: head}}
	blind, err := o.Blind()
	a.must(err)
	a.openings.AddBinding(a.replay.Next(), o)
	return a.entry(ledger.TypeBinding, a.encode(ledger.Binding{Blind: blind}))
}

// to returns the entry of a credit of an account whose key's snapshot it ends at.
func (a *author) to(account, key string, seq uint64) *ledger.Entry {
	o := a.opening(account)
	o.ECU, o.ToSeq = a.ecus[key].ID(), seq
	return a.creditEntry(o, 40, 3)
}

// TestRefusedHandovers holds what ends with a hand-over. A stranger, who sees blinds alone, accepts what is well-formed.
func TestRefusedHandovers(t *testing.T) {
	_, stranger := newKey(t)
	for _, c := range []struct {
		name string
		make func(*author) *ledger.Entry
		want string
	}{
		{"revoked key", func(a *author) *ledger.Entry {
			// A revoked key earns nothing from the moment its revocation is logged.
			a.append(a.to("anna", "anna", 50))
			a.append(a.handOver("anna", 50, true))
			return a.to("anna", "anna", 51)
		}, "credit stands after its key"},
		{"further kind of a revoked key's span", func(a *author) *ledger.Entry {
			a.append(a.to("anna", "anna", 50))
			a.append(a.handOver("anna", 50, true))
			return a.to("anna", "anna", 50)
		}, "credit stands after its key"},
		{"revoked key after a hand-over", func(a *author) *ledger.Entry {
			a.append(a.handOver("anna", 60, false))
			a.append(a.handOver("anna", 0, true))
			return a.to("anna", "anna", 51)
		}, "credit stands after its key"},
		{"revoked key's earlier binding", func(a *author) *ledger.Entry {
			a.append(a.handOver("anna", 60, false))
			a.append(a.bindAgain("anna", "ben", 60))
			a.append(a.handOver("anna", 60, true))
			return a.to("anna", "anna", 51)
		}, "credit stands after its key"},
		{"binding of a revoked key", func(a *author) *ledger.Entry {
			a.append(a.handOver("anna", 0, true))
			return a.bindAgain("anna", "ben", 50)
		}, "which is revoked"},
		{"hand-over of a revoked key", func(a *author) *ledger.Entry {
			a.append(a.handOver("anna", 0, true))
			return a.handOver("anna", 0, true)
		}, "which is revoked"},
		{"revocation that gives more", func(a *author) *ledger.Entry {
			a.append(a.handOver("anna", 50, false))
			return a.handOver("anna", 51, true)
		}, "hand-over cuts at snapshot 51, should be at 0, the head of key"},
		{"second hand-over", func(a *author) *ledger.Entry {
			a.append(a.handOver("anna", 50, false))
			return a.handOver("anna", 50, false)
		}, "which has no open binding"},
		{"hand-over before the head", func(a *author) *ledger.Entry {
			a.append(a.to("anna", "anna", 50))
			return a.handOver("anna", 49, false)
		}, "hand-over cuts at snapshot 49, should be at or after 50, the head of key"},
		{"hand-over of nobody's key", func(a *author) *ledger.Entry {
			a.ecus["nobody"] = stranger
			return a.handOver("nobody", 1, false)
		}, "was never bound"},
		{"binding before the cut", func(a *author) *ledger.Entry {
			a.append(a.handOver("anna", 50, false))
			return a.bindAgain("anna", "ben", 49)
		}, "binding begins at snapshot 49, should be at or after 50"},
		{"vehicle with two keys", func(a *author) *ledger.Entry {
			a.append(a.handOver("anna", 50, false))
			a.append(a.bindAgain("anna", "ben", 50))
			return a.bindAgain("ben", "ben", 50)
		}, "which is bound already"},
		{"credit behind the cut", func(a *author) *ledger.Entry {
			a.append(a.handOver("anna", 50, false))
			return a.to("anna", "anna", 51)
		}, "credit ends at snapshot 51, should be at or before 50"},
		{"credit between two bindings", func(a *author) *ledger.Entry {
			a.append(a.handOver("anna", 50, false))
			a.append(a.bindAgain("anna", "ben", 60))
			return a.to("ben", "anna", 60)
		}, `credit is account "ben"'s, should be "anna"'s`},
		{"old account's credit under the new binding", func(a *author) *ledger.Entry {
			a.append(a.handOver("anna", 50, false))
			a.append(a.bindAgain("anna", "ben", 50))
			return a.to("anna", "anna", 51)
		}, `credit is account "anna"'s, should be "ben"'s`},
		{"old span under the new binding", func(a *author) *ledger.Entry {
			a.append(a.to("anna", "anna", 50))
			a.append(a.handOver("anna", 50, false))
			a.append(a.bindAgain("anna", "ben", 50))
			return a.to("ben", "anna", 50)
		}, `credit is account "ben"'s, should be "anna"'s`},
		{"another blind of a hand-over", func(a *author) *ledger.Entry {
			e := a.handOver("anna", 50, false)
			a.openings.AddHandover(e.Number, ledger.HandoverOpening{ECU: a.ecus["anna"].ID(), Cut: 51})
			return e
		}, "hand-over's blind is"},
		{"hand-over without opening", func(a *author) *ledger.Entry {
			return a.entry(ledger.TypeHandover, a.encode(ledger.Handover{}))
		}, "hand-over has no opening"},
		{"garbled hand-over", func(a *author) *ledger.Entry { return a.entry(ledger.TypeHandover, []byte{1}) }, "cannot decode"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAuthor(t, 4, 3)
			a.bind("anna")
			a.bind("ben")
			a.until(ledger.TypeBlock, 0)
			e := c.make(a)
			if err := a.replay.Apply(e); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %s", err, c.want)
			}
			a.append(a.to("ben", "ben", 70)) // and the log goes on
			public, err := NewReplay(a.rootKey(), nil)
			a.must(err)
			for _, e := range a.entries[:len(a.entries)-1] {
				a.must(public.Apply(e))
			}
			if err := public.Apply(e); (err == nil) == strings.Contains(c.want, "decode") {
				t.Errorf("a stranger's answer is %v", err)
			}
		})
	}
}

// TestHandovers takes a key from anna to ben and back; each earns under their own binding, also late.
func TestHandovers(t *testing.T) {
	a := newAuthor(t, 4, 3)
	a.bind("anna")
	a.bind("ben")
	a.until(ledger.TypeBlock, 0)
	a.append(a.to("anna", "anna", 50))
	a.append(a.handOver("anna", 60, false))
	a.append(a.bindAgain("anna", "ben", 60))
	a.append(a.to("ben", "anna", 61))
	a.append(a.to("anna", "anna", 60)) // up to the cut, after the other's first
	a.append(a.handOver("anna", 70, false))
	a.append(a.bindAgain("anna", "anna", 80))
	a.append(a.to("anna", "anna", 90))
	a.append(a.to("ben", "anna", 70))
	a.append(a.handOver("anna", 90, true))
	if err := a.replay.Apply(a.to("anna", "anna", 91)); err == nil {
		t.Error("a revoked key earns")
	}
}
