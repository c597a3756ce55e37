package audit

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/ledger"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/wire"
)

// TestWitness replaces one of three validators from the next day on. Until then the old ones cosign, from then on the new ones, and nobody
// else; the change is in the chain of policies.
func TestWitness(t *testing.T) {
	w := newWorld(t, 3, 2)
	w.bind("anna")
	w.credit("anna", 40, 2)
	w.until(ledger.TypeBlock, 3) // on day 3
	before := w.replay.documents.Chain()
	old := w.validators
	fresh := w.validator("fresh.example")
	next := []*ledger.ValidatorKey{old[0], fresh, old[2]}
	evil, _ := newKey(t)
	w.refuse(t,
		lie{"change for today", true, func() *ledger.Entry { return w.sealWitness(w.witness(1, 3, next...)) }, "witness change is from day 3, should be after the log's day 3"},
		lie{"change for yesterday", true, func() *ledger.Entry { return w.sealWitness(w.witness(1, 2, next...)) }, "should be after the log's day 3"},
		lie{"flipped bit", true, func() *ledger.Entry {
			b, err := ledger.SealWitness(w.root, w.witness(1, 4, next...))
			w.must(err)
			b[len(b)-1] ^= 1
			return w.entry(ledger.TypeWitness, b)
		}, "cannot"},
		lie{"change by a policy key", true, func() *ledger.Entry {
			b, err := ledger.SealWitness(w.policy, w.witness(1, 4, next...))
			w.must(err)
			return w.entry(ledger.TypeWitness, b)
		}, "may not sign"},
		lie{"change by nobody", true, func() *ledger.Entry {
			b, err := ledger.SealWitness(evil, w.witness(1, 4, next...))
			w.must(err)
			return w.entry(ledger.TypeWitness, b)
		}, "may not sign"},
		lie{"another program's change", true, func() *ledger.Entry {
			c := w.witness(1, 4, next...)
			c.Program = wire.Hash{1}
			return w.sealWitness(c)
		}, "another program"},
		lie{"key of small order", true, func() *ledger.Entry {
			c := w.witness(1, 4, next...)
			c.Validators[1].VRF = [32]byte{1}
			return w.sealWitness(c)
		}, "VRF key is a point of small order"},
		lie{"key that is no point", true, func() *ledger.Entry {
			c := w.witness(1, 4, next...)
			c.Validators[1].VRF = [32]byte{2}
			return w.sealWitness(c)
		}, "VRF key is not a point"},
		lie{"one party twice", true, func() *ledger.Entry { return w.sealWitness(w.witness(1, 4, old[0], old[0], old[2])) }, "one party would count as two"},
		lie{"fewer than the quorum", true, func() *ledger.Entry { return w.sealWitness(w.witness(1, 4, old[0])) }, "cannot be met"},
	)
	e := w.sealWitness(w.witness(1, 4, next...))
	w.accept(e)
	if got, want := w.replay.documents.Chain(), ledger.ChainPolicy(before, e.Body); got != want || got == before {
		t.Errorf("policies are chained to %s, want %s", got, want)
	}
	if p := w.replay.Current(); p.Validators[1] != old[1].Public() {
		t.Error("the new validators serve at once")
	}
	w.refuse(t,
		lie{"serial again", true, func() *ledger.Entry { return w.sealWitness(w.witness(1, 5, next...)) }, "witness change has serial 1, should be above 1"},
		lie{"overtaking change", true, func() *ledger.Entry { return w.sealWitness(w.witness(2, 4, next...)) }, "witness change is from day 4, should be after day 4"},
	)
	// refused has the keys given make the entry that is due, which both replays refuse; then the right ones make it.
	refused := func(wrong, right []*ledger.ValidatorKey, signers []byte, want string) {
		t.Helper()
		w.validators = right
		typ, b := w.due()
		w.validators = wrong
		e := w.seal(typ, b, signers...)
		for _, r := range []*Replay{w.replay, w.public} {
			if err := r.Apply(e); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v: got %v, want %s", typ, err, want)
			}
		}
		w.validators = right
		w.accept(w.seal(typ, b, signers...))
	}
	for range 2 { // the last blocks of day 3
		refused(next, old, []byte{0, 1}, "cosignature of validator validator1.example does not match")
	}
	w.until(ledger.TypeBlock, 5)
	w.meet()
	refused(next, old, []byte{1, 2}, "cosignature of validator validator1.example does not match")
	if d := w.replay.Due(); d.Day != 4 || w.replay.Current().Validators[1] != fresh.Public() {
		t.Fatalf("due is %+v, of %+v", d, w.replay.Current().Validators)
	}
	for range 3 { // leaves, day and the first block of day 4
		refused(old, next, []byte{0, 1}, "cosignature of validator fresh.example does not match")
	}
	// Nor does the old one's proof make a seed, while the new one's does.
	alpha := w.replay.Alpha()
	if _, err := w.replay.NextBlock([]ledger.Proof{old[0].Prove(0, alpha), old[1].Prove(1, alpha), old[2].Prove(2, alpha)}, nil); err == nil || !strings.Contains(err.Error(), "VRF proof of validator fresh.example") {
		t.Errorf("the old validator's proof: %v", err)
	}
	w.block()
	// A set may not grow so far that two quorums fit into it; it may shrink, and indices are into the day's list.
	w.refuse(t, lie{"two quorums", true, func() *ledger.Entry {
		return w.sealWitness(w.witness(2, 6, append(next[:3:3], w.validator("fourth.example"))...))
	}, "of 4 validators two groups of 2 could each make a block final"})
	w.accept(w.sealWitness(w.witness(2, 6, next[1:]...)))
	for w.replay.Due().Day < 6 {
		w.block()
	}
	l := w.nextLeaves()
	if len(w.replay.Current().Validators) != 2 {
		t.Fatalf("validators are %+v", w.replay.Current().Validators)
	}
	l.Validators = []byte{0, 1}
	payload, err := ledger.EncodePayload(l)
	w.must(err)
	if err := w.replay.Check(ledger.TypeLeaves, payload); err != nil {
		t.Error(err)
	}
	if r := w.replay.Report(); r.Changes != 2 || len(w.replay.Changes()) != 2 {
		t.Errorf("report is %+v", r)
	}
	if p, _ := w.replay.Program(); p.Validators[1] != old[1].Public() {
		t.Error("the program document has changed")
	}
}

// TestNewOffersAndChanges holds that offers and changes are documents: logged once whoever signed them, and refused together when they
// may not follow.
func TestNewOffersAndChanges(t *testing.T) {
	w := newWorld(t, 1, 1)
	program := ledger.Entry{Type: ledger.TypeProgram, Body: w.entries[0].Body}
	policy := ledger.Entry{Type: ledger.TypePolicy, Body: w.entries[2].Body}
	offers := func(serial uint16, from uint32) ledger.Entry {
		return ledger.Entry{Type: ledger.TypeOffers, Body: w.sealOffers(w.offers(serial, from)).Body}
	}
	fresh := w.validator("fresh.example")
	change := func(serial uint16, from uint32) ledger.Entry {
		return ledger.Entry{Type: ledger.TypeWitness, Body: w.sealWitness(w.witness(serial, from, fresh)).Body}
	}
	w.accept(w.sealOffers(w.offers(1, 16)))
	w.accept(w.sealWitness(w.witness(1, 3, fresh)))
	for _, c := range []struct {
		name    string
		list    []ledger.Entry
		lacking []int
		want    string
	}{
		{"signed again", []ledger.Entry{program, policy, offers(1, 16), change(1, 3)}, nil, ""},
		{"successors", []ledger.Entry{program, policy, offers(2, 16), change(2, 4), offers(3, 20), change(5, 6)}, []int{2, 3, 4, 5}, ""},
		{"left out", []ledger.Entry{program, policy}, nil, ""},
		{"offers too early", []ledger.Entry{program, policy, offers(2, 15)}, nil, "cannot log document 3, offers: offers are in force from day 15, should be from day 16"},
		{"offers' serial", []ledger.Entry{offers(1, 17)}, nil, "offers have serial 1, should be above 1"},
		{"change for today", []ledger.Entry{change(2, 2)}, nil, "witness change is from day 2, should be after day 3"},
		{"changes on one day", []ledger.Entry{change(2, 5), change(3, 5)}, nil, "cannot log document 2, a witness: witness change is from day 5, should be after day 5"},
		{"change's serial", []ledger.Entry{change(2, 5), change(2, 6)}, nil, "witness change has serial 2, should be above 2"},
	} {
		lacking, _, err := w.replay.NewDocuments(c.list)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		var want []ledger.Entry
		for _, i := range c.lacking {
			want = append(want, c.list[i])
		}
		if diff := cmp.Diff(want, lacking); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
	// What helps is said by what is wrong.
	for _, c := range []struct {
		list []ledger.Entry
		want string
	}{
		{[]ledger.Entry{program, offers(2, 15)}, "cannot log x: offers are in force from day 15, should be from day 16 or later, 14 days after the log's day; build them again with --from-day 16 or later"},
		{[]ledger.Entry{program, change(2, 3)}, "build the change again with --from-day 4 or later"},
		{[]ledger.Entry{program, offers(1, 17)}, "build a changed one again with a higher serial"},
		{[]ledger.Entry{program, {Type: ledger.TypePolicy, Body: []byte{1}}}, "give a changed one a higher serial"},
	} {
		_, _, err := w.replay.NewDocuments(c.list)
		r, ok := errors.AsType[*Refusal](err)
		if !ok || r.Place != 1 || !strings.HasSuffix(r.Advice("x"), c.want) || r.Advice("") != err.Error()+"; "+r.Remedy {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
	// What is logged stays known when its days have begun, and nothing was changed by asking.
	again := []ledger.Entry{program, policy, offers(1, 16), change(1, 3)}
	w.jump(20)
	if lacking, absent, err := w.replay.NewDocuments(again); err != nil || len(lacking) != 0 || len(absent) != 0 {
		t.Errorf("lacking %v, absent %v, %v", lacking, absent, err)
	}
	if got := w.replay.Offers(); len(got) != 1 || got[0].FromDay != 16 || cultivation.InForce(got, 20) != got[0] || len(w.replay.Changes()) != 1 {
		t.Errorf("offers are %+v", got)
	}
	empty, err := NewReplay(w.rootKey(), nil)
	w.must(err)
	list := []ledger.Entry{program, {Type: ledger.TypeCharter, Body: w.entries[1].Body}, policy, offers(1, 16), change(1, 3)}
	if lacking, _, err := empty.NewDocuments(list); err != nil || len(lacking) != 5 {
		t.Errorf("at a first start %d are new, %v", len(lacking), err)
	}
	if _, _, err := empty.NewDocuments([]ledger.Entry{offers(1, 16)}); err == nil || !strings.Contains(err.Error(), "should follow the program document") {
		t.Error(err)
	}
}
