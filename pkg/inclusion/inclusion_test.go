package inclusion

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func TestVerify(t *testing.T) {
	w := newWorld(t)
	for size := 7; size <= len(w.entries); size++ {
		b := must(w.answer(size).Encode())
		a := must(Decode(b))
		if drop, err := a.Verify(w.program, w.id, Heard{}, w.promised()); err != nil || drop != 7 {
			t.Errorf("a tree of %d: drop %d, %v", size, drop, err)
		}
	}
	// The collector may prove more than the receipt promises: a kind that was credited later.
	want := w.promised()
	want.Credits, want.Kinds = want.Credits[:1], want.Kinds[:1]
	if _, err := w.answer(9).Verify(w.program, w.id, Heard{}, want); err != nil {
		t.Error(err)
	}
	want.Kinds = []string{""} // the car has forgotten the policy
	if _, err := w.answer(9).Verify(w.program, w.id, Heard{}, want); err != nil {
		t.Error(err)
	}
}

// TestAttacks makes a good answer false in one way each. Every attacker holds what a collector holds: everything but the keys of the quorum.
func TestAttacks(t *testing.T) {
	w := newWorld(t)
	sealed := func(b []byte) *ledger.Sealed { return must((&ledger.Entry{Type: ledger.TypeBlock, Body: b}).Sealed()) }
	const notPromised = "is not the credit of 40 km under policy 1 from day 22 on"
	for name, c := range map[string]struct {
		attack func(a *Answer)
		want   string
	}{
		"proof of another entry":         {func(a *Answer) { a.Credits[0].Path = w.path(5, 11) }, notPromised},
		"number of another entry":        {func(a *Answer) { a.Credits[0].Number = 5 }, notPromised},
		"credit with fewer km":           {func(a *Answer) { a.Credits[0] = w.item(1, 5, terms.KindMileage, 11) }, notPromised},
		"credit of an earlier snapshot":  {func(a *Answer) { a.Credits[0] = w.item(1, 7, terms.KindMileage, 11) }, notPromised},
		"another car's credit":           {func(a *Answer) { a.Credits[0] = w.item(1, 8, terms.KindMileage, 11) }, notPromised},
		"credit that counts later":       {func(a *Answer) { a.Credits[0] = w.item(1, 9, terms.KindMileage, 11) }, notPromised},
		"opening of another kind":        {func(a *Answer) { a.Credits = []Credit{w.item(1, 10, terms.KindSafe, 11)} }, "of another kind"},
		"kind that the entry has not":    {func(a *Answer) { a.Credits[0] = w.item(1, 10, terms.KindMileage, 11) }, notPromised},
		"another salt":                   {func(a *Answer) { a.Credits[0].Salt[0] ^= 1 }, notPromised},
		"another account":                {func(a *Answer) { a.Credits[0].Account = "x" }, notPromised},
		"empty path":                     {func(a *Answer) { a.Credits[0].Path = nil }, notPromised},
		"longer path":                    {func(a *Answer) { a.Credits[0].Path = append(a.Credits[0].Path, wire.Hash{}) }, notPromised},
		"path in another tree":           {func(a *Answer) { a.Credits[0].Path = w.path(4, 9) }, notPromised},
		"no kilometres in a second kind": {func(a *Answer) { a.Credits[1] = w.item(3, 10, terms.KindSafe, 11) }, "is not the credit of 0 km under policy 3"},
		"one credit left out":            {func(a *Answer) { a.Credits = a.Credits[:1] }, "the credit under policy 3 is not in it"},
		"all credits left out":           {func(a *Answer) { a.Credits = nil }, "0 credits"},
		"one credit twice":               {func(a *Answer) { a.Credits[1] = a.Credits[0]; a.Credits[1].Policy = 3 }, "two credits of kind"},
		"credits in the wrong order":     {func(a *Answer) { slices.Reverse(a.Credits) }, "ascending order of policies"},
		"entry after the block":          {func(a *Answer) { a.Block = w.cosign(w.block(4), 0, 1) }, "covers 4 entries"},
		"version 2":                      {func(a *Answer) { a.Version = 2 }, "version 2"},
		"no block":                       {func(a *Answer) { a.Block = nil }, "cannot decode"},
		"block not cosigned":             {func(a *Answer) { a.Block = w.cosign(w.block(11)) }, "at least 2"},
		"quorum missing":                 {func(a *Answer) { a.Block = w.cosign(w.block(11), 1) }, "at least 2"},
		"one validator counted twice":    {func(a *Answer) { a.Block = w.cosign(w.block(11), 1, 1) }, "ascending"},
		"block with a trailing byte":     {func(a *Answer) { a.Block = append(a.Block, 0) }, "extraneous data"},
		"forged cosignature": {func(a *Answer) {
			s := sealed(a.Block)
			s.Cosignatures[1].Signature[9] ^= 1
			a.Block = must(s.Encode())
		}, "does not match"},
		"tree changed under the cosignatures": {func(a *Answer) {
			s, b := sealed(a.Block), w.block(11)
			b.Size = 12
			s.Payload = must(ledger.EncodePayload(b))
			a.Block = must(s.Encode())
		}, "does not match"},
		"cosigned as another type of entry": {func(a *Answer) {
			s := sealed(a.Block)
			for i, c := range s.Cosignatures {
				s.Cosignatures[i] = w.validators[c.Validator].Cosign(c.Validator, w.id, ledger.TypeDay, s.Payload)
			}
			a.Block = must(s.Encode())
		}, "does not match"},
		"another program's block": {func(a *Answer) {
			b := w.block(11)
			b.Program[0] ^= 1
			a.Block = w.cosign(b, 0, 1) // by the same validators, who serve both programs
		}, "does not match"},
		"another program's block, cosigned for this one": {func(a *Answer) {
			b := w.block(11)
			b.Program[0] ^= 1
			payload := must(ledger.EncodePayload(b))
			s := ledger.Sealed{Payload: payload}
			for i := range uint8(2) {
				s.Cosignatures = append(s.Cosignatures, w.validators[i].Cosign(i, w.id, ledger.TypeBlock, payload))
			}
			a.Block = must(s.Encode())
		}, "belongs to another program"},
	} {
		a := w.answer(11)
		if _, err := a.Verify(w.program, w.id, Heard{}, w.promised()); err != nil {
			t.Fatal(err)
		}
		c.attack(a)
		if _, err := a.Verify(w.program, w.id, Heard{}, w.promised()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
	for name, change := range map[string]func(*Promised){
		"another ECU key":             func(p *Promised) { p.ECU[0] ^= 1 },
		"another snapshot":            func(p *Promised) { p.ToSeq++ },
		"more kilometres":             func(p *Promised) { p.Credits[0].Km++ },
		"an earlier day":              func(p *Promised) { p.Credits[0].Effective-- },
		"another policy":              func(p *Promised) { p.Credits[0].Policy = 2 },
		"the same policy twice":       func(p *Promised) { p.Credits[1] = p.Credits[0]; p.Kinds[1] = p.Kinds[0] },
		"a kind that is not credited": func(p *Promised) { p.Kinds[0] = "feature/x" },
		"kinds of fewer":              func(p *Promised) { p.Kinds = p.Kinds[:1] },
		"nothing":                     func(p *Promised) { *p = Promised{} },
	} {
		want := w.promised()
		change(&want)
		if _, err := w.answer(11).Verify(w.program, w.id, Heard{}, want); err == nil {
			t.Errorf("promised %s: accepted", name)
		}
	}
}

func TestBounds(t *testing.T) {
	w := newWorld(t)
	good := w.answer(11)
	for name, spoil := range map[string]func(a *Answer){
		"nine credits": func(a *Answer) {
			for i := range 8 {
				a.Credits = append(a.Credits, Credit{Policy: uint16(10 + i), Kind: string(rune('a' + i))})
			}
		},
		"long path":    func(a *Answer) { a.Credits[0].Path = make([]wire.Hash, maxPath+1) },
		"long account": func(a *Answer) { a.Credits[0].Account = strings.Repeat("a", maxAccount+1) },
		"long kind":    func(a *Answer) { a.Credits[0].Kind = strings.Repeat("a", maxKind+1) },
		"large block":  func(a *Answer) { a.Block = make([]byte, MaxLen) },
	} {
		a := *good
		a.Credits = slices.Clone(good.Credits)
		spoil(&a)
		if _, err := a.Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
		if _, err := Decode(must(codec.Encode(&a))); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
}

func TestProblem(t *testing.T) {
	p := Problem{Title: "Not Found", Status: 404, Detail: "not yet", Reason: ReasonNotYet}
	got, err := DecodeProblem([]byte(`{"title":"Not Found","status":404,"detail":"not yet","reason":"not_yet"}`))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(p, *got); d != "" {
		t.Error(d)
	}
	for _, text := range []string{"", "{}", `{"detail":"x"}`, `{"detail":"x","reason":"moon"}`, `{"reason":"not_yet"}`, strings.Repeat(" ", MaxLen+1)} {
		if _, err := DecodeProblem([]byte(text)); err == nil {
			t.Errorf("%.20q: accepted", text)
		}
	}
}

func FuzzDecode(f *testing.F) {
	w := newWorld(f)
	good := must(w.answer(11).Encode())
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := Decode(b)
		if err != nil {
			return
		}
		if again, err := a.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x is accepted and encoded as %x, %v", b, again, err)
		}
		if _, err := a.Verify(w.program, w.id, Heard{}, Promised{ECU: w.ecu, ToSeq: toSeq + 1, Credits: []wire.Credit{{Policy: 1, Km: 40, Effective: 22}}, Kinds: []string{""}}); err == nil {
			t.Error("a credit that was never logged is proven")
		}
	})
}
