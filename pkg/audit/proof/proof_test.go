package proof

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"rawstone/pkg/claim"
	"rawstone/pkg/ledger"
	"rawstone/pkg/opening"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const feature = "feature/eco"

// life is a key's: two kinds by one claim, a span from the head's number alone, a forfeit, a kind proven later for an old span, a
// hand-over, a claim before the cut that comes after it, and another binding. Its proofs are made once.
type life struct {
	ecu *ecu
	// The spans: 1 to 3, 3 to 4, 6 to 8 (which forfeits), 1 to 3 again for another kind, 8 to 9 after the cut at 9, and 10 to 12.
	first, second, forfeit, again, late, other *wire.Claim
}

var lives = sync.OnceValue(func() (made struct {
	world *world
	life  life
}) {
	w := &made.world
	*w = newWorld(fatal{})
	(*w).documents()
	e := (*w).ecu()
	s := make([]wire.Snapshot, 13)
	for i := range s {
		s[i] = e.at(uint64(i), uint32(10+i), uint32(30*i))
	}
	l := life{ecu: e}
	l.first = e.claim(s[1], s[3], asked{1, 1, terms.KindMileage}, asked{2, 0, terms.KindSafe})
	l.second = e.claim(s[3], s[4], asked{1, 1, terms.KindMileage})
	l.second.From = wire.Origin{Seq: 3}
	l.forfeit = e.claim(s[6], s[8], asked{1, 0, terms.KindMileage})
	l.forfeit.Forfeit = true
	l.again = e.claim(s[1], s[3], asked{1, 0, terms.KindMileage}, asked{3, 0, feature})
	l.late = e.claim(s[8], s[9], asked{1, 1, terms.KindMileage})
	l.other = e.claim(s[10], s[12], asked{1, 1, terms.KindMileage})
	made.life = l
	return made
})

// fatal stands in for a test where what is made is shared by all of them.
type fatal struct{ testing.TB }

func (fatal) Helper()           {}
func (fatal) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

func (w *world) documents() {
	w.terms(1, terms.KindMileage, 0)
	w.terms(2, terms.KindSafe, 0)
	w.terms(3, feature, 0)
}

// The numbers of the entries of a life.
const (
	atBinding = 4 + iota
	atFirst
	atSafe
	atSecond
	atForfeit
	atAgain
	atHandover
	atLate
	atOther = atLate + 2
)

// lived returns a log of the life that was made once, to which change may do something before its credits are logged.
func lived(t *testing.T, change ...func(*life)) *world {
	t.Helper()
	made := lives()
	w := *made.world
	w.t, w.openings, w.items = t, new(opening.Set), slices.Clone(w.items)
	l := made.life
	for _, c := range []**wire.Claim{&l.first, &l.second, &l.forfeit, &l.again, &l.late, &l.other} {
		again := **c
		again.Proofs = slices.Clone(again.Proofs)
		*c = &again
	}
	for _, f := range change {
		f(&l)
	}
	begin, _ := made.life.first.From.Snapshot()
	w.bind(l.ecu.pub, begin)
	w.credit(l.first, terms.KindMileage, 20, w.bytes(l.first))
	w.credit(l.first, terms.KindSafe, 0, w.bytes(l.first))
	w.credit(l.second, terms.KindMileage, 20, w.bytes(l.second))
	w.credit(l.forfeit, terms.KindMileage, 10, w.bytes(l.forfeit))
	w.credit(l.again, feature, 0, w.bytes(l.first), w.bytes(l.again))
	w.handOver(l.ecu.pub, 9, false)
	w.credit(l.late, terms.KindMileage, 20, w.bytes(l.late))
	begin, _ = made.life.other.From.Snapshot()
	w.bind(l.ecu.pub, begin)
	w.credit(l.other, terms.KindMileage, 20, w.bytes(l.other))
	return &w
}

// same compares what two checkers know.
func same(t *testing.T, what string, a, b *Checker) {
	t.Helper()
	opt := cmp.Options{cmp.AllowUnexported(state{}, key{}, segment{}, span{}, wire.Row{}), cmpopts.EquateEmpty(), cmpopts.EquateComparable()}
	if d := cmp.Diff(a.state, b.state, opt...); d != "" {
		t.Errorf("%s: %s", what, d)
	}
}

func TestCheck(t *testing.T) {
	w := lived(t)
	whole := w.checker()
	if err := whole.Check(t.Context(), w.items); err != nil {
		t.Fatal(err)
	}
	if whole.Next() != w.next() {
		t.Errorf("the next entry is %d, want %d", whole.Next(), w.next())
	}
	single := w.checker()
	for i := range w.items {
		if err := single.Check(t.Context(), w.items[i:i+1]); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "entry by entry", whole, single)
	replayed := w.checker()
	if err := replayed.Replay(w.items); err != nil {
		t.Fatal(err)
	}
	same(t, "replayed", whole, replayed)
	short := lived(t, func(l *life) { l.again.From = wire.Origin{Seq: 1} })
	if err := short.checker().Check(t.Context(), short.items); err != nil {
		t.Errorf("a span repeated from its number alone: %v", err)
	}
}

// TestPrepare takes in the first entries of what was prepared, and goes on.
func TestPrepare(t *testing.T) {
	w := lived(t)
	whole := w.checker()
	if err := whole.Replay(w.items); err != nil {
		t.Fatal(err)
	}
	for n := atFirst; n <= len(w.items); n++ {
		c := w.checker()
		if err := c.Replay(w.items[:atFirst]); err != nil {
			t.Fatal(err)
		}
		commit, err := c.Prepare(t.Context(), w.items[atFirst:])
		if err != nil {
			t.Fatal(err)
		}
		if c.Next() != atFirst {
			t.Fatalf("what was prepared was taken in: the next entry is %d", c.Next())
		}
		commit(n - atFirst)
		some := w.checker()
		if err := some.Replay(w.items[:n]); err != nil {
			t.Fatal(err)
		}
		same(t, fmt.Sprintf("the first %d", n), some, c)
		if err := c.Replay(w.items[n:]); err != nil {
			t.Fatal(err)
		}
		same(t, fmt.Sprintf("all after the first %d", n), whole, c)
	}
}

// TestLies changes one thing each: the entry's number and what is wrong are named, and nothing is taken in.
func TestLies(t *testing.T) {
	flip := func(b []byte) { b[5] ^= 1 }
	for _, lie := range []struct {
		name   string
		life   func(*life)
		log    func(*world)
		number int
		want   string
	}{
		{"a proof changed", func(l *life) { l.second.Proofs[0].Proof = l.first.Proofs[0].Proof }, nil, atSecond, "does not prove the statement"},
		{"a proof of another tier", func(l *life) { l.late.Proofs[0].Tier = 0 }, func(w *world) { w.km(atLate, 10) }, atLate, "does not prove the statement"},
		{"a bad proof of the second kind", func(l *life) { l.first.Proofs[1].Proof = l.first.Proofs[0].Proof }, nil, atSafe, "does not prove the statement"},
		{"proof bytes that are no points", func(l *life) { flip(l.second.Proofs[0].Proof[:]) }, nil, atSecond, "cannot verify proof"},
		{"the end's signature changed", func(l *life) { flip(l.second.To.Signature[:]) }, nil, atSecond, "snapshot 4: cannot verify snapshot"},
		{"the begin's signature changed", func(l *life) { flip(clone(&l.forfeit.From.Signature)) }, nil, atForfeit, "snapshot 6: cannot verify snapshot"},
		{"the head's signature changed", func(l *life) { flip(clone(&l.first.From.Signature)) }, nil, atFirst, "snapshot 1: cannot verify snapshot"},
		{"the head's signature of zeros", func(l *life) { l.first.From.Signature = make([]byte, 64) }, nil, atFirst, "snapshot 1: cannot verify snapshot"},
		{"the head's signature under another begin", func(l *life) { l.forfeit.From.Signature = slices.Clone(l.second.To.Signature[:]) }, nil, atForfeit, "snapshot 6: cannot verify snapshot"},
		{"a later head's signature changed", func(l *life) { flip(clone(&l.late.From.Signature)) }, nil, atLate, "snapshot 8: cannot verify snapshot"},
		{"the claim of a span repeated with another signature", func(l *life) { flip(l.again.To.Signature[:]) }, nil, atAgain, "snapshot 3: cannot verify snapshot"},
		{"the begin on another day", func(l *life) { l.late.From.Day-- }, nil, atLate, "it begins at snapshot 8, should begin at the head, 8"},
		{"a begin behind the head's number", func(l *life) { l.late.From.Seq = 7 }, nil, atLate, "it begins at snapshot 7, should begin at the head, 8"},
		{"a number that is not the head's", func(l *life) { l.second.From.Seq = 2 }, nil, atSecond, "it begins with snapshot 2 and does not carry it, the head is snapshot 3"},
		{"a gap", func(l *life) { l.forfeit.Forfeit = false }, nil, atForfeit, "it begins at snapshot 6 and forfeits nothing, should begin at the head, 4"},
		{"another span up to the same end", func(l *life) { l.again.From.Day-- }, func(w *world) { w.items[atAgain].Claims = w.items[atAgain].Claims[1:] }, atAgain, "it covers another span"},
		{"an end on the day of the head", func(l *life) { l.second.To.Day = 13 }, nil, atSecond, "it ends on day 13, should end after day 13"},
		{"a claim that ends elsewhere", nil, func(w *world) { w.items[atSecond].Claims = w.items[atForfeit].Claims }, atSecond, "ends at snapshot 8, the credit of key"},
		{"another key's claim", func(l *life) { l.first.ECU[0] ^= 1 }, func(w *world) { w.reopen(atFirst, func(o *ledger.CreditOpening) {}) }, atFirst, "was never bound"},
		{"another key in the opening", nil, func(w *world) { w.reopen(atFirst, func(o *ledger.CreditOpening) { o.ECU[0] ^= 1 }) }, atFirst, "the credit of key"},
		{"kilometres more", nil, func(w *world) { w.km(atFirst, 21) }, atFirst, "it earns 20 km by policy 1, tier 1, the credit is 21 km"},
		{"kilometres less", nil, func(w *world) { w.km(atFirst, 19) }, atFirst, "it earns 20 km by policy 1, tier 1, the credit is 19 km"},
		{"a kind not proven", nil, func(w *world) { w.reopen(atSecond, func(o *ledger.CreditOpening) { o.Kind = terms.KindSafe }) }, atSecond, `it proves nothing of kind "safe"`},
		{"a tier that is none", func(l *life) { l.second.Proofs[0].Tier = 3 }, nil, atSecond, "policy 1 has no tier 3"},
		{"a policy not logged", func(l *life) { l.second.Proofs[0].Policy = 9 }, nil, atSecond, `it proves nothing of kind "mileage" under a policy that was logged before`},
		{"no claim", nil, func(w *world) { w.items[atLate].Claims = nil }, atLate, "no claim stands behind it"},
		{"too many claims", nil, func(w *world) { w.items[atLate].Claims = make([][]byte, MaxClaims+1) }, atLate, "17 given, want 1 to 16"},
		{"no bytes of a claim", nil, func(w *world) { w.items[atLate].Claims = [][]byte{{0x17}} }, atLate, "no claim's size"},
		{"another opening", nil, func(w *world) {
			o, _ := w.openings.Credit(atLate)
			o.Salt[0]++
			w.openings.AddCredit(atLate, o)
		}, atLate, "credit's opening is not that of the entry"},
		{"another key bound", nil, func(w *world) {
			o, _ := w.openings.Binding(atBinding)
			o.ECU[1] ^= 1
			w.openings.AddBinding(atBinding, o)
		}, atBinding, "binding's opening is not that of the entry"},
		{"a binding's head that nobody signed", nil, func(w *world) { w.rebind(atBinding, func(o *ledger.BindingOpening) { o.Signature = wire.Signature{} }) }, atBinding,
			"binding's head, snapshot 1, comes without its key's signature"},
		{"a binding's head invented", func(l *life) { l.first.From = wire.Origin{Seq: 1} }, func(w *world) {
			w.items = w.items[:atFirst+1]
			w.rebind(atBinding, func(o *ledger.BindingOpening) { o.Head = wire.Head{Seq: 1, Day: 2} })
		}, atBinding, "binding's head: snapshot 1: cannot verify"},
		{"a binding's head on an earlier day", nil, func(w *world) {
			w.items = w.items[:atFirst]
			w.rebind(atBinding, func(o *ledger.BindingOpening) { o.Head.Day-- })
		}, atBinding, "binding's head: snapshot 1: cannot verify"},
		{"a binding's head of an earlier number", nil, func(w *world) {
			w.items = w.items[:atFirst]
			w.rebind(atBinding, func(o *ledger.BindingOpening) { o.Head.Seq-- })
		}, atBinding, "binding's head: snapshot 0: cannot verify"},
		{"a binding's signature under another key", nil, func(w *world) {
			w.items = w.items[:atFirst]
			w.rebind(atBinding, func(o *ledger.BindingOpening) { _, o.ECU = newKey(w.t) })
		}, atBinding, "binding's head: snapshot 1: cannot verify"},
		{"a later binding's head that nobody signed", nil, func(w *world) { w.rebind(atOther-1, func(o *ledger.BindingOpening) { o.Signature = wire.Signature{} }) }, atOther - 1,
			"binding's head, snapshot 10, comes without its key's signature"},
		{"a later binding's head almost where the one before ended", nil, func(w *world) {
			w.rebind(atOther-1, func(o *ledger.BindingOpening) {
				o.Head, o.Signature = lives().life.late.To.Head(), wire.Signature{}
				o.Head.Day++
			})
		}, atOther - 1, "binding's head, snapshot 9, comes without its key's signature"},
		{"another cut", nil, func(w *world) {
			o, _ := w.openings.Handover(atHandover)
			o.Cut++
			w.openings.AddHandover(atHandover, o)
		}, atHandover, "hand-over's opening is not that of the entry"},
		{"an end behind the cut", nil, func(w *world) { w.cut(8, false) }, atLate, "it ends at snapshot 9, should end at or before 8"},
		{"a revoked key", nil, func(w *world) { w.cut(9, true) }, atLate, "is revoked"},
		{"a claim with another type", nil, func(w *world) { w.items[atHandover].Claims = w.items[atLate].Claims }, atHandover, "it is of type hand-over and comes with a claim"},
		{"a number left out", nil, func(w *world) { w.items = slices.Delete(w.items, atSafe, atSafe+1) }, atSafe + 1, "its number should be 6"},
		{"a second program document", nil, func(w *world) {
			w.items[1] = Item{Entry: &ledger.Entry{Number: 1, Type: ledger.TypeProgram, Body: w.items[0].Entry.Body}}
		}, 1, "the first entry and no other"},
		{"a policy of a strange key", nil, func(w *world) { w.items[1].Entry = &ledger.Entry{Number: 1, Type: ledger.TypePolicy, Body: strange(w)} }, 1, "may not sign this"},
		{"a policy with a lower serial", nil, func(w *world) {
			w.items[2].Entry = &ledger.Entry{Number: 2, Type: ledger.TypePolicy, Body: w.items[1].Entry.Body}
		}, 2, "policy has serial 1"},
	} {
		t.Run(lie.name, func(t *testing.T) {
			change := lie.life
			if change == nil {
				change = func(*life) {}
			}
			w := lived(t, change)
			if lie.log != nil {
				lie.log(w)
			}
			c := w.checker()
			err := c.Check(t.Context(), w.items)
			if want := fmt.Sprintf("cannot accept entry %d: ", lie.number); err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), lie.want) {
				t.Errorf("the error is %v, want %s… %s", err, want, lie.want)
			}
			if c.Next() != 0 {
				t.Errorf("a refused batch was taken in up to entry %d", c.Next())
			}
			// The entries before it are right, and what was refused leaves nothing behind.
			if err := c.Check(t.Context(), w.items[:min(lie.number, 6)]); err != nil && lie.number != atSafe+1 {
				t.Error(err)
			}
		})
	}
}

func clone(b *[]byte) []byte { *b = slices.Clone(*b); return *b }

// km changes what a credit is worth.
func (w *world) km(number int, km uint32) {
	c, err := w.items[number].Entry.Credit()
	w.must(err)
	c.Km = km
	w.items[number].Entry.Body = w.encode(c)
}

// reopen changes a credit's opening and its blind.
func (w *world) reopen(number int, change func(*ledger.CreditOpening)) {
	o, _ := w.openings.Credit(uint64(number))
	change(&o)
	w.openings.AddCredit(uint64(number), o)
	c, err := w.items[number].Entry.Credit()
	w.must(err)
	c.Blind, err = o.Blind()
	w.must(err)
	w.items[number].Entry.Body = w.encode(c)
}

// rebind changes a binding's opening and its blind.
func (w *world) rebind(number int, change func(*ledger.BindingOpening)) {
	o, _ := w.openings.Binding(uint64(number))
	change(&o)
	w.openings.AddBinding(uint64(number), o)
	blind, err := o.Blind()
	w.must(err)
	w.items[number].Entry.Body = w.encode(ledger.Binding{Blind: blind})
}

// TestCutAtHead binds a key again where it was credited last, or bound first: that head was verified, and its opening need bring no signature. One
// that it brings is not believed.
func TestCutAtHead(t *testing.T) {
	l := lives().life
	begin, _ := l.first.From.Snapshot()
	false4 := l.second.To
	false4.Signature[5] ^= 1
	for _, c := range []struct {
		name     string
		credited bool
		head     wire.Snapshot // without a signature the opening has none
		from     wire.Origin   // of the claim that follows
		want     string
	}{
		{"credited", true, wire.Snapshot{}, wire.Origin{Seq: 4}, ""},
		{"credited, begin signed", true, wire.Snapshot{}, wire.NewOrigin(l.second.To), ""},
		{"credited, signed", true, l.second.To, wire.Origin{Seq: 4}, ""},
		{"credited, signature false", true, false4, wire.NewOrigin(false4), "entry 9: credit's claim: snapshot 4: cannot verify"},
		{"never credited", false, wire.Snapshot{}, wire.Origin{Seq: 1}, ""},
		{"never credited, another begin", false, wire.Snapshot{}, wire.NewOrigin(false4), "it begins at snapshot 4 and forfeits nothing, should begin at the head, 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := *lives().world
			w.t, w.openings, w.items = t, new(opening.Set), slices.Clone(w.items)
			w.bind(l.ecu.pub, begin)
			at := begin
			if c.credited {
				at = l.second.To
				w.credit(l.first, terms.KindMileage, 20, w.bytes(l.first))
				w.credit(l.second, terms.KindMileage, 20, w.bytes(l.second))
			}
			w.handOver(l.ecu.pub, at.Seq, false)
			at.Signature = c.head.Signature
			w.bind(l.ecu.pub, at)
			next := *l.forfeit
			next.From, next.Forfeit = c.from, false
			w.credit(&next, terms.KindMileage, 10, w.bytes(&next))
			for _, pieces := range []int{1, len(w.items)} { // in one batch and entry by entry
				checker := w.checker()
				checker.cfg.Verifier = func(*terms.Program, *terms.Policy) (Verifier, error) { return believer{}, nil }
				var err error
				for items := range slices.Chunk(w.items, (len(w.items)+pieces-1)/pieces) {
					if err = checker.Check(t.Context(), items); err != nil {
						break
					}
				}
				if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("the error is %v, want %q", err, c.want)
				}
			}
		})
	}
}

// cut changes the hand-over and its blind.
func (w *world) cut(cut uint64, revoked bool) {
	o, _ := w.openings.Handover(atHandover)
	o.Cut, o.Revoked = cut, revoked
	w.openings.AddHandover(atHandover, o)
	blind, err := o.Blind()
	w.must(err)
	w.items[atHandover].Entry.Body = w.encode(ledger.Handover{Blind: blind})
}

// strange returns a policy that somebody else signed.
func strange(w *world) []byte {
	other := *w
	other.policy, _ = newKey(w.t)
	other.items = nil
	other.terms(1, terms.KindMileage, 0)
	return other.items[0].Entry.Body
}

// TestInForce lets a claim end on a day on which its policy does not begin yet, is succeeded or stopped; who decided before a policy was logged
// could not know it.
func TestInForce(t *testing.T) {
	stop := func(p *terms.Policy) { p.Stop = true }
	for _, c := range []struct {
		name      string
		policies  func(*world)
		effective uint32
		want      string
	}{
		{"in force", func(w *world) {}, 5, ""},
		{"ended", func(w *world) {
			w.items = w.items[:1]
			w.terms(1, terms.KindMileage, 0, func(p *terms.Policy) { p.ToDay = 12 })
		}, 5, "policy 1 is not in force on day 13"},
		{"not begun", func(w *world) { w.items = w.items[:1]; w.terms(1, terms.KindMileage, 14) }, 5, "policy 1 is not in force on day 13"},
		{"succeeded long ago", func(w *world) { w.terms(4, terms.KindMileage, 13) }, 5, "policy 1 is not in force on day 13"},
		{"succeeded just now", func(w *world) { w.terms(4, terms.KindMileage, 13) }, 4, ""},
		{"stopped long ago", func(w *world) { w.terms(4, terms.KindMileage, 13, stop) }, 5, "policy 1 is not in force on day 13"},
		{"stopped since, by the blocks", func(w *world) { w.blocks(2); w.terms(4, terms.KindMileage, 13, stop) }, 5, ""},
		{"stopped before, by the blocks", func(w *world) { w.blocks(1); w.terms(4, terms.KindMileage, 13, stop) }, 5, "policy 1 is not in force on day 13"},
		{"succeeded from the next day", func(w *world) { w.terms(4, terms.KindMileage, 14) }, 5, ""},
		{"another kind stopped", func(w *world) { w.terms(4, terms.KindSafe, 13, stop) }, 5, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			made := lives()
			w := *made.world
			w.t, w.openings, w.items = t, new(opening.Set), slices.Clone(w.items)
			c.policies(&w)
			begin, _ := made.life.first.From.Snapshot()
			w.bind(made.life.ecu.pub, begin)
			w.creditOn(c.effective, made.life.first, terms.KindMileage, 20, w.bytes(made.life.first))
			err := w.checker().Replay(w.items)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("the error is %v, want %q", err, c.want)
			}
		})
	}
}

// blocks logs blocks, whose content is the replay's to judge.
func (w *world) blocks(n int) {
	for range n {
		w.add(ledger.TypeBlock, nil)
	}
}

// TestCap pays at most the policy's cap for each day of the span.
func TestCap(t *testing.T) {
	w := newWorld(t)
	w.terms(1, terms.KindMileage, 0)
	e := w.ecu()
	from, to := e.at(0, 10, 0), e.at(2, 12, 500)
	c := e.claim(from, to, asked{1, 2, terms.KindMileage})
	w.bind(e.pub, from)
	w.credit(c, terms.KindMileage, 200, w.bytes(c))
	if err := w.checker().Check(t.Context(), w.items); err != nil {
		t.Error(err)
	}
	w.km(3, 400)
	if err := w.checker().Check(t.Context(), w.items); err == nil || !strings.Contains(err.Error(), "it earns 200 km by policy 1, tier 2, the credit is 400 km") {
		t.Errorf("a credit above the cap: %v", err)
	}
}

// TestFirstFault names the lowest of several bad credits, whichever worker finds it.
func TestFirstFault(t *testing.T) {
	w := lived(t, func(l *life) {
		l.late.To.Signature[5] ^= 1
		l.second.Proofs[0].Proof = l.first.Proofs[0].Proof
	})
	if err := w.checker().Check(t.Context(), w.items); err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("cannot accept entry %d: ", atSecond)) {
		t.Errorf("the error is %v, want entry %d's", err, atSecond)
	}
}

// TestOtherSetup refuses a batch with a policy, and then takes one in which another policy has its serial and other keys.
func TestOtherSetup(t *testing.T) {
	w := lived(t)
	c := w.checker()
	open := c.cfg.Verifier
	c.cfg.Verifier = func(program *terms.Program, policy *terms.Policy) (Verifier, error) {
		if policy.Lock == (wire.Hash{9}) {
			return believer{}, nil
		}
		return open(program, policy)
	}
	other := lived(t, func(l *life) { l.second.Proofs[0].Proof = l.first.Proofs[0].Proof })
	first := *w
	first.items = slices.Clone(w.items[:1])
	first.terms(1, terms.KindMileage, 0, func(p *terms.Policy) { p.Lock = wire.Hash{9} })
	lying := append(slices.Concat(first.items, w.items[2:]), Item{Entry: &ledger.Entry{}})
	if err := c.Check(t.Context(), lying); err == nil || !strings.Contains(err.Error(), "its number should be") {
		t.Fatalf("an entry without its number: %v", err)
	}
	if err := c.Check(t.Context(), other.items); err == nil || !strings.Contains(err.Error(), "does not prove the statement") {
		t.Errorf("a false proof is taken after a batch with another policy of that serial: %v", err)
	}
}

// believer takes every proof for one that holds.
type believer struct{}

func (believer) VerifyBatch(items []claim.Item) []error { return make([]error, len(items)) }

func TestRefusedBatches(t *testing.T) {
	w := lived(t)
	if err := w.checker().Check(t.Context(), make([]Item, MaxItems+1)); err == nil || !strings.Contains(err.Error(), "at most 8192") {
		t.Errorf("a batch too long: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	c := w.checker()
	if err := c.Check(ctx, w.items); !errors.Is(err, gone) || c.Next() != 0 {
		t.Errorf("a batch without time: %v, next %d", err, c.Next())
	}
	w.items[atLate].Claims = nil
	if err := c.Check(t.Context(), w.items); !errors.Is(err, ErrNoClaim) {
		t.Errorf("a missing claim: %v", err)
	}
	for _, bad := range []Config{{}, {Root: w.rootPub}, {Root: w.rootPub, Openings: w.openings}, {Openings: w.openings, Verifier: c.cfg.Verifier}} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v makes a checker", bad)
		}
	}
}

// TestKeys finds verifying keys by the lock that a policy names.
func TestKeys(t *testing.T) {
	k, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	dev := &terms.Program{Environment: wire.Development}
	policy := &terms.Policy{Serial: 7, Lock: k.lock.ID(), VerifyingKey: k.lock.VerifyingKey}
	if v, err := k.open(dev, policy); err != nil || v == nil {
		t.Error(err)
	}
	if _, err := k.open(&terms.Program{Environment: wire.Production}, policy); err == nil || !strings.Contains(err.Error(), "from a development setup") {
		t.Errorf("development keys in production: %v", err)
	}
	for _, other := range []*terms.Policy{{Serial: 7, Lock: wire.Hash{1}, VerifyingKey: k.lock.VerifyingKey}, {Serial: 7, Lock: k.lock.ID()}} {
		if _, err := k.open(dev, other); err == nil || !strings.Contains(err.Error(), "no verifying key for policy 7 in "+k.dir) {
			t.Errorf("keys of another setup: %v", err)
		}
	}
	if _, err := Keys(t.TempDir()); err == nil {
		t.Error("an empty directory holds keys")
	}
	w := lived(t)
	c, err := New(Config{Root: w.rootPub, Openings: w.openings, Verifier: func(*terms.Program, *terms.Policy) (Verifier, error) { return nil, errors.New("no key") }})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(t.Context(), w.items); err == nil || !strings.Contains(err.Error(), "cannot accept entry 5: credit's claim") || !strings.Contains(err.Error(), "no key") {
		t.Errorf("a policy without its key: %v", err)
	}
}

var _ Verifier = (*claim.Verifier)(nil)

// TestEnvironment holds that a validator for production refuses a program for development at its first entry.
func TestEnvironment(t *testing.T) {
	w := newWorld(t)
	for environment, want := range map[wire.Environment]string{
		"": "", wire.Development: "",
		wire.Production: "cannot accept entry 0: the program is for development, and environment in the validator's configuration is production: correct environment",
	} {
		c, err := New(Config{Root: w.rootPub, Openings: w.openings, Environment: environment, Verifier: func(*terms.Program, *terms.Policy) (Verifier, error) { return nil, nil }})
		w.must(err)
		if err := c.Replay(w.items[:1]); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", environment, err)
		}
	}
}
