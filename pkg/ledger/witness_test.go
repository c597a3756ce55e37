package ledger

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func signer(t testing.TB) (*ecdsa.PrivateKey, wire.PublicKey) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, err := wire.NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k, p
}

// program returns a valid program of four validators, quorum three, and the root's key.
func program(t testing.TB) (*ecdsa.PrivateKey, wire.PublicKey, *terms.Program) {
	t.Helper()
	root, pub := signer(t)
	_, p := set(t, 4, 3)
	p.Version, p.Name, p.Environment, p.Timing = wire.Version, "test", wire.Development, terms.Timing{DayS: 40, DropS: 10}
	p.Receipt, p.Policy, p.Board, p.BoardQuorum, p.LogKey = wire.KeySet{pub}, wire.KeySet{pub}, wire.KeySet{pub}, 1, "log"
	return root, pub, p
}

func change(t testing.TB, n int) *Witness {
	t.Helper()
	_, p := set(t, n, 3)
	return &Witness{Version: wire.Version, Program: wire.Hash{7}, Serial: 1, FromDay: 5, Validators: p.Validators}
}

func TestOpenWitness(t *testing.T) {
	root, pub, p := program(t)
	seal := func(w *Witness) []byte {
		t.Helper()
		b, err := SealWitness(root, w)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	right := change(t, 3)
	got, err := OpenWitness(pub, p, wire.Hash{7}, seal(right))
	if diff := cmp.Diff(right, got); err != nil || diff != "" {
		t.Fatal(err, diff)
	}
	for _, c := range []struct {
		name string
		lie  func(w *Witness)
		want string
	}{
		{"another program", func(w *Witness) { w.Program = wire.Hash{8} }, "another program"},
		{"quorum", func(w *Witness) { w.Validators = w.Validators[:2] }, "cannot be met"},
		{"nobody", func(w *Witness) { w.Validators = nil }, "cannot be met"},
		{"too many", func(w *Witness) { w.Validators = change(t, 17).Validators }, "cannot be met"},
		{"one name twice", func(w *Witness) { w.Validators[1].Name = w.Validators[0].Name }, "one party would count as two"},
		{"one key twice", func(w *Witness) { w.Validators[1].Key = w.Validators[0].Key }, "one party would count as two"},
		{"one VRF key twice", func(w *Witness) { w.Validators[1].VRF = w.Validators[0].VRF }, "one party would count as two"},
		{"no name", func(w *Witness) { w.Validators[1].Name = "" }, "name"},
		{"small order", func(w *Witness) { w.Validators[1].VRF = [32]byte{1} }, "small order"},
		{"not canonical", func(w *Witness) {
			for i := range w.Validators[1].VRF {
				w.Validators[1].VRF[i] = 0xff
			}
		}, "not a canonical point"},
	} {
		w := change(t, 3)
		c.lie(w)
		if _, err := OpenWitness(pub, p, wire.Hash{7}, seal(w)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
	for name, lie := range map[string]func(w *Witness){
		"version": func(w *Witness) { w.Version++ }, "serial": func(w *Witness) { w.Serial = 0 }, "program": func(w *Witness) { w.Program = wire.Hash{} },
		"day 0": func(w *Witness) { w.FromDay = 0 }, "day": func(w *Witness) { w.FromDay = terms.MaxDay + 1 },
	} {
		w := change(t, 3)
		lie(w)
		if _, err := SealWitness(root, w); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	_, other := signer(t)
	if _, err := OpenWitness(other, p, wire.Hash{7}, seal(right)); err == nil {
		t.Error("a change is accepted under another root")
	}
}

// TestOn holds who serves on each day.
func TestOn(t *testing.T) {
	_, _, p := program(t)
	a, b := change(t, 3), change(t, 5)
	b.Serial, b.FromDay = 2, 9
	changes := []*Witness{a, b}
	for _, c := range []struct {
		day  uint32
		want []terms.Validator
	}{{0, p.Validators}, {4, p.Validators}, {5, a.Validators}, {8, a.Validators}, {9, b.Validators}, {1 << 31, b.Validators}} {
		got := On(p, changes, c.day)
		if diff := cmp.Diff(c.want, got.Validators); diff != "" || got.Quorum != p.Quorum || got.Timing != p.Timing {
			t.Errorf("day %d: %s", c.day, diff)
		}
	}
	if On(p, nil, 9) != p || len(p.Validators) != 4 {
		t.Error("the program itself has changed")
	}
}

// FuzzWitness feeds the decoder behind the signature; what it accepts must encode to the same bytes.
func FuzzWitness(f *testing.F) {
	root, pub, p := program(f)
	w := change(f, 3)
	b, err := wire.Marshal(w)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	if b, err = SealWitness(root, w); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		got := new(Witness)
		if wire.Unmarshal(b, got, maxWitnessLen) == nil {
			if again, err := wire.Marshal(got); err != nil || !bytes.Equal(again, b) {
				t.Errorf("%x is accepted and encodes to %x, %v", b, again, err)
			}
		}
		if got, err := OpenWitness(pub, p, wire.Hash{7}, b); err == nil && !cmp.Equal(got, w) {
			t.Errorf("%+v is accepted, which nobody signed", got)
		}
	})
}
