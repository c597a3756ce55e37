package opening

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"rawstone/pkg/account"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func openings() *Set {
	o := new(Set)
	o.AddAccount("anna", [32]byte{1})
	o.AddAccount("ben", [32]byte{2})
	o.AddCredit(7, ledger.CreditOpening{Salt: [32]byte{3}, Account: "anna", ECU: wire.KeyID{4}, ToSeq: 1 << 63, Kind: terms.KindMileage})
	o.AddBinding(3, ledger.BindingOpening{Salt: [32]byte{5}, Vehicle: "CAR1", Account: "anna", ECU: wire.PublicKey{6}, Head: wire.Head{Seq: 8, Day: 9}})
	o.AddHandover(9, ledger.HandoverOpening{Salt: [32]byte{6}, ECU: wire.KeyID{4}, Cut: 1<<63 + 1, Revoked: true})
	o.AddChange(10, account.ChangeOpening{Salt: [32]byte{7}, Account: "anna", Activated: 4})
	o.AddGrant(11, account.GrantOpening{Salt: [32]byte{8}, Account: "anna", Task: "survey"})
	o.AddRequest(12, account.RequestOpening{Salt: [32]byte{9}, Account: "anna", Request: []byte{1}})
	o.AddErased(13)
	o.AddErased(14)
	o.AddErasedLeaf(6, reward.Leaf{Pseudonym: wire.Hash{2}, Weight: 1 << 40})
	o.AddErasedLeaf(6, reward.Leaf{Pseudonym: wire.Hash{1}, Weight: 7})
	o.AddErasedKey(ledger.ErasedKey{Mark: ledger.KeyMark(wire.KeyID{4}), Since: 15, Cut: 1<<63 + 1, Revoked: true})
	o.AddErasedKey(ledger.ErasedKey{Mark: ledger.KeyMark(wire.KeyID{5}), Since: 16, Cut: 17})
	o.AddErasedLeaf(5, reward.Leaf{Pseudonym: wire.Hash{1}, Weight: 8})
	return o
}

// TestOldOpenings reads a file from before there were hand-overs and accounts' own entries, which is also how one without any is written.
func TestOldOpenings(t *testing.T) {
	o := openings()
	o.handed, o.changes, o.grants, o.requests, o.erased, o.leaves, o.keys = nil, nil, nil, nil, nil, nil, nil
	var text bytes.Buffer
	if err := o.Write(&text); err != nil || strings.Contains(text.String(), "handovers") || strings.Contains(text.String(), "grants") || strings.Contains(text.String(), "erased") {
		t.Fatalf("%v: %s", err, text.String())
	}
	if _, err := Read(&text); err != nil {
		t.Error(err)
	}
}

func TestOpenings(t *testing.T) {
	o := openings()
	var text bytes.Buffer
	if err := o.Write(&text); err != nil {
		t.Fatal(err)
	}
	again, err := Read(bytes.NewReader(text.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	c, ok := again.Credit(7)
	if want, _ := o.Credit(7); !ok || c != want {
		t.Errorf("credit is %+v, want %+v", c, want)
	}
	b, ok := again.Binding(3)
	if want, _ := o.Binding(3); !ok || b != want {
		t.Errorf("binding is %+v, want %+v", b, want)
	}
	h, ok := again.Handover(9)
	if want, _ := o.Handover(9); !ok || h != want || !h.Revoked {
		t.Errorf("hand-over is %+v, want %+v", h, want)
	}
	for n, got := range map[uint64]any{10: first(again.Change(10)), 11: first(again.Grant(11)), 12: first(again.Request(12))} {
		want := map[uint64]any{10: first(o.Change(10)), 11: first(o.Grant(11)), 12: first(o.Request(12))}[n]
		if got == nil || !reflect.DeepEqual(got, want) {
			t.Errorf("opening %d is %+v, want %+v", n, got, want)
		}
	}
	for _, n := range []uint64{3, 7, 9} {
		if first(again.Change(n)) != nil || first(again.Grant(n)) != nil || first(again.Request(n)) != nil {
			t.Errorf("opening %d is read as another kind's", n)
		}
	}
	if _, ok := again.Handover(3); ok {
		t.Error("a hand-over that is not there is opened")
	}
	if s, ok := again.Secret("ben"); !ok || s != [32]byte{2} {
		t.Errorf("secret is %x", s)
	}
	if _, ok := again.Credit(8); ok {
		t.Error("a credit that is not there is opened")
	}
	if _, ok := again.Binding(7); ok {
		t.Error("a binding that is not there is opened")
	}
	if _, ok := again.Secret("chen"); ok {
		t.Error("an account that is not there is opened")
	}
	if again.Erased(12) || !again.Erased(13) || !again.Erased(14) || again.Erased(15) {
		t.Error("other entries are erased than were")
	}
	want := []reward.Leaf{{Pseudonym: wire.Hash{1}, Weight: 7}, {Pseudonym: wire.Hash{2}, Weight: 1 << 40}}
	if got := again.ErasedLeaves(6); !reflect.DeepEqual(got, want) || len(again.ErasedLeaves(5)) != 1 || again.ErasedLeaves(7) != nil {
		t.Errorf("erased leaves are %+v, want %+v", got, want)
	}
	for _, id := range []wire.KeyID{{4}, {5}, {6}} {
		got, ok := again.ErasedKey(id)
		if want, is := o.ErasedKey(id); got != want || ok != is || ok == (id == wire.KeyID{6}) {
			t.Errorf("erased key %s is %+v, want %+v", id, got, want)
		}
	}
	good := text.String()
	mark, other := marked(5), marked(4)
	for name, bad := range map[string]string{
		"trailing text":       good + "{}",
		"unknown key":         strings.Replace(good, `"accounts"`, `"owners"`, 1),
		"short secret":        strings.Replace(good, `"secret": "01`, `"secret": "`, 1),
		"account twice":       strings.Replace(good, `"ben"`, `"anna"`, 1),
		"credit in pieces":    strings.Replace(good, `"opening": "a5`, `"opening": "a6`, 1),
		"hand-over in pieces": strings.Replace(good, `"opening": "a400582006`, `"opening": "a500582006`, 1),
		"erased twice":        strings.Replace(good, "13,", "13,\n   13,", 1),
		"erased leaf twice":   strings.Replace(good, `"weight": 7`, `"weight": 7}, {"day": 6, "pseudonym": "01`+strings.Repeat("00", 31)+`", "weight": 7`, 1),
		"erased key twice":    strings.Replace(good, mark, other, 1),
		"short mark":          strings.Replace(good, mark, "00", 1),
		"weightless leaf":     strings.Replace(good, `"weight": 7`, `"weight": 0`, 1),
		"short leaf":          strings.Replace(good, `"pseudonym": "01`, `"pseudonym": "`, 1),
		"number twice": strings.Replace(good, `"credits": [`, `"credits": [`+good[strings.Index(good, `{
   "number": 7`):strings.Index(good, `],
 "bindings"`)]+",", 1),
	} {
		if bad == good {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := Read(strings.NewReader(bad)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// first returns an opening, nil when there is none.
func first(opening any, ok bool) any {
	if !ok {
		return nil
	}
	return opening
}

func FuzzRead(f *testing.F) {
	var text bytes.Buffer
	if err := openings().Write(&text); err != nil {
		f.Fatal(err)
	}
	f.Add(text.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		var one, two bytes.Buffer
		if err := o.Write(&one); err != nil {
			t.Fatal(err)
		}
		again, err := Read(bytes.NewReader(one.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Write(&two); err != nil || !bytes.Equal(one.Bytes(), two.Bytes()) {
			t.Errorf("openings change when they are written and read: %v", err)
		}
	})
}

// marked is how a file has the mark of a key.
func marked(key byte) string {
	m := ledger.KeyMark(wire.KeyID{key})
	return hex.EncodeToString(m[:])
}
