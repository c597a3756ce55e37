package accounts

import (
	"testing"

	"pgregory.net/rapid"

	"rawstone/pkg/ledger"
	"rawstone/pkg/opening"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const seqs = 10 // snapshots 0 to 9 of each key

// A line is what a model says of one key: for each snapshot, which binding owns it (0 for none) and whether it was credited. It knows
// nothing of segments.
type line struct {
	owner    [seqs]int
	credited [seqs]bool
	last     int // the binding made last, 0 before the first
	from     int
	account  int // the one that the key is bound to, -1 while it is bound to none
	cut      int // of the hand-over that came last
	revoked  bool
}

// head is the last snapshot credited under the binding made last.
func (l *line) head() int {
	for s := seqs - 1; s > l.from; s-- {
		if l.credited[s] && l.owner[s] == l.last {
			return s
		}
	}
	return l.from
}

// TestLawOfSegments binds, hands over, revokes and credits at random, and compares every answer with the model's. From the model it follows
// that nothing is credited twice, that no binding's head moves back and that nothing counts beyond a cut.
func TestLawOfSegments(t *testing.T) {
	accepted := make(map[string]int)
	rapid.Check(t, func(t *rapid.T) {
		open := new(opening.Set)
		a := New(open)
		accounts := []string{"anna", "ben", "chen"}
		for i, name := range accounts {
			open.AddAccount(name, [32]byte{byte(i)})
		}
		keys := []*line{{account: -1}, {account: -1}}
		owners := []int{-1} // the account of each binding
		km := uint64(0)
		steps := rapid.IntRange(1, 40).Draw(t, "steps")
		for number := range uint64(steps) {
			k := rapid.IntRange(0, len(keys)-1).Draw(t, "key")
			l, key := keys[k], wire.PublicKey{byte(k + 1)}
			seq := rapid.IntRange(0, seqs-1).Draw(t, "snapshot")
			who := rapid.IntRange(0, len(accounts)-1).Draw(t, "account")
			what := rapid.SampledFrom([]string{"binding", "hand-over", "revocation", "credit", "credit", "credit"}).Draw(t, "what")
			var commit func()
			var err error
			var want bool
			var then func()
			blinded := func(h wire.Hash, err error) wire.Hash {
				if err != nil {
					t.Fatal(err)
				}
				return h
			}
			switch what {
			case "binding":
				o := ledger.BindingOpening{Vehicle: accounts[who] + "'s", Account: accounts[who], ECU: key, Head: wire.Head{Seq: uint64(seq)}}
				open.AddBinding(number, o)
				commit, err = a.Binding(number, ledger.Binding{Blind: blinded(o.Blind())})
				fitted := false
				for _, other := range keys {
					fitted = fitted || other.account == who
				}
				want = !l.revoked && l.account < 0 && !fitted && (l.last == 0 || seq >= l.cut)
				then = func() {
					l.last, l.from, l.account = len(owners), seq, who
					owners = append(owners, who)
					for s := seq + 1; s < seqs; s++ {
						l.owner[s] = l.last
					}
				}
			case "hand-over", "revocation":
				o := ledger.HandoverOpening{ECU: key.ID(), Cut: uint64(seq), Revoked: what == "revocation"}
				open.AddHandover(number, o)
				commit, err = a.Handover(number, ledger.Handover{Blind: blinded(o.Blind())})
				want = l.last > 0 && !l.revoked && (l.account >= 0 && seq >= l.head() || o.Revoked) && (!o.Revoked || seq == l.head())
				then = func() {
					l.account, l.cut, l.revoked = -1, seq, o.Revoked
					for s := range seqs {
						if s > seq || o.Revoked { // a revoked key earns nothing more
							l.owner[s] = 0
						}
					}
				}
			case "credit":
				o := ledger.CreditOpening{Account: accounts[who], ECU: key.ID(), ToSeq: uint64(seq), Kind: terms.KindMileage}
				open.AddCredit(number, o)
				commit, err = a.Credit(number, ledger.Credit{Blind: blinded(o.Blind()), Km: 1, Effective: 1})
				want = owners[l.owner[seq]] == who
				for s := seq; s < seqs; s++ {
					want = want && !(l.credited[s] && l.owner[s] == l.owner[seq])
				}
				then = func() { l.credited[seq], km = true, km+1 }
			}
			if (err == nil) != want {
				t.Fatalf("%s of key %d, snapshot %d, %s: %v, want accepted %t", what, k, seq, accounts[who], err, want)
			}
			if want {
				commit()
				then()
				accepted[what]++
			}
		}
		for _, days := range a.weights {
			km -= days[1]
		}
		if km != 0 {
			t.Fatalf("weights are off by %d km", int64(km))
		}
	})
	for _, what := range []string{"binding", "hand-over", "revocation", "credit"} {
		if accepted[what] == 0 {
			t.Errorf("no %s was ever accepted", what)
		}
	}
}
