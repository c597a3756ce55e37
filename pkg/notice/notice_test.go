package notice

import (
	"bytes"
	"crypto"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

func serials(policies []*terms.Policy) (out []uint16) {
	for _, p := range policies {
		out = append(out, p.Serial)
	}
	return out
}

func TestOpen(t *testing.T) {
	w := newWorld(t)
	log := w.log()
	for left, want := range [][]uint16{{1, 2, 3, 4}, {1, 2, 3, 4}, {2, 3, 4}, {3, 4}, {4}, nil} {
		b, err := w.notice(left, log...).Encode()
		if err != nil {
			t.Fatal(err)
		}
		n, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		o, err := n.Open(w.root, w.program, w.id)
		if err != nil {
			t.Errorf("without the first %d documents: %v", left, err)
			continue
		}
		if d := cmp.Diff(want, serials(o.Policies)); d != "" || o.Drop != 7 || o.Day != 21 {
			t.Errorf("without the first %d documents: drop %d, day %d, policies (-want +got):\n%s", left, o.Drop, o.Day, d)
		}
	}
	// A charter that was logged between policies is checked and given over.
	later := append(slices.Clone(log), w.charter(2), w.seal(w.policy(9, terms.KindSafe, 40, 50)))
	if o, err := w.notice(1, later...).Open(w.root, w.program, w.id); err != nil || len(o.Policies) != 5 {
		t.Errorf("a charter between policies: %v", err)
	}
}

// TestAttacks makes a good notice false in one way each. Every attacker here holds what a collector holds: everything but the keys of
// the quorum, the board and the policies.
func TestAttacks(t *testing.T) {
	w := newWorld(t)
	log := w.log()
	const unchained = "not those that its block stands on"
	for name, c := range map[string]struct {
		attack func(n *Notice)
		want   string
	}{
		"policy not in the log": {func(n *Notice) {
			n.Documents = append(n.Documents, w.seal(w.policy(5, terms.KindSafe, 40, 99)))
		}, unchained},
		"policy not in the log, in place of another": {func(n *Notice) {
			n.Documents[1] = w.seal(w.policy(2, terms.KindSafe, 10, 98))
		}, unchained},
		"stop switch left out":        {func(n *Notice) { n.Documents = slices.Delete(n.Documents, 2, 3) }, unchained},
		"newest policy left out":      {func(n *Notice) { n.Documents = n.Documents[:len(n.Documents)-1] }, unchained},
		"all left out":                {func(n *Notice) { n.Documents = nil }, unchained},
		"oldest left out unchained":   {func(n *Notice) { n.Documents = n.Documents[1:] }, unchained},
		"chain of what is left lost":  {func(n *Notice) { n.Before = wire.Hash{} }, unchained},
		"stop switch by its hash":     {func(n *Notice) { id := wire.ID(n.Documents[2]); n.Documents[2] = id[:] }, unchained},
		"stop and what it stops hid":  {func(n *Notice) { n.Before, n.Documents = chain(log[:4]...), log[1:2] }, unchained},
		"reordered documents":         {func(n *Notice) { n.Documents[0], n.Documents[1] = n.Documents[1], n.Documents[0] }, unchained},
		"same document twice":         {func(n *Notice) { n.Documents = append(n.Documents, n.Documents[3]) }, unchained},
		"charter changed":             {func(n *Notice) { n.Before = chain(w.charter(2)) }, unchained},
		"no block":                    {func(n *Notice) { n.Block = nil }, "no block"},
		"version 2":                   {func(n *Notice) { n.Version = 2 }, "version 2"},
		"quorum missing":              {func(n *Notice) { n.Block = w.cosign(w.block(chain(log...)), 1) }, "at least 2"},
		"no cosignature":              {func(n *Notice) { n.Block = w.cosign(w.block(chain(log...))) }, "at least 2"},
		"one validator counted twice": {func(n *Notice) { n.Block = w.cosign(w.block(chain(log...)), 1, 1) }, "ascending"},
		"block with a trailing byte":  {func(n *Notice) { n.Block = append(n.Block, 0) }, "extraneous data"},
		"forged cosignature": {func(n *Notice) {
			s := opened(n.Block)
			s.Cosignatures[1].Signature[9] ^= 1
			n.Block = must(s.Encode())
		}, "does not match"},
		"forged cosignature beyond the quorum": {func(n *Notice) {
			s := opened(w.cosign(w.block(chain(log...)), 0, 1, 2))
			s.Cosignatures[2].Signature[9] ^= 1
			n.Block = must(s.Encode())
		}, "does not match"},
		"block changed under its cosignatures": {func(n *Notice) {
			s := opened(n.Block)
			n.Documents = n.Documents[:2] // the stop goes, and the chain with it
			s.Payload = must(ledger.EncodePayload(w.block(chain(log[:3]...))))
			n.Block = must(s.Encode())
		}, "does not match"},
		"cosigned as another type of entry": {func(n *Notice) {
			s := opened(n.Block)
			for i, c := range s.Cosignatures {
				s.Cosignatures[i] = w.validators[c.Validator].Cosign(c.Validator, w.id, ledger.TypeDay, s.Payload)
			}
			n.Block = must(s.Encode())
		}, "does not match"},
		"another program's block": {func(n *Notice) {
			b := w.block(chain(log...))
			b.Program[0] ^= 1
			n.Block = w.cosign(b, 0, 1) // by the same validators, who serve both programs
		}, "does not match"},
		"another program's block, cosigned for this one": {func(n *Notice) {
			b := w.block(chain(log...))
			b.Program[0] ^= 1
			payload := must(ledger.EncodePayload(b))
			s := ledger.Sealed{Payload: payload}
			for i := range uint8(2) {
				s.Cosignatures = append(s.Cosignatures, w.validators[i].Cosign(i, w.id, ledger.TypeBlock, payload))
			}
			n.Block = must(s.Encode())
		}, "belongs to another program"},
	} {
		n := w.notice(1, log...)
		n.Documents = slices.Clone(n.Documents)
		if _, err := n.Open(w.root, w.program, w.id); err != nil {
			t.Fatal(err)
		}
		c.attack(n)
		if _, err := n.Open(w.root, w.program, w.id); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

func opened(block []byte) *ledger.Sealed {
	return must((&ledger.Entry{Type: ledger.TypeBlock, Body: block}).Sealed())
}

// TestLoggedWrongly are logs that a quorum should never have cosigned.
func TestLoggedWrongly(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	other.id[0] ^= 1
	foreign := w.policy(5, terms.KindSafe, 40, 99)
	wrongKey := must(terms.SealPolicy(vectortest.Key(t, "receipt"), foreign))
	good := w.log()
	charter, _, err := terms.OpenCharter(w.program, w.id, w.charter(2))
	oneBoardKey := must(terms.SealCharter([]crypto.Signer{vectortest.Key(t, "board-2")}, must(charter, err)))
	for name, c := range map[string]struct {
		documents [][]byte
		want      string
	}{
		"policy signed by a wrong key":    {append(slices.Clone(good), wrongKey), "may not sign this"},
		"policy of another program":       {append(slices.Clone(good), w.seal(other.policy(5, terms.KindSafe, 40, 99))), "another program"},
		"charter of another program":      {append(slices.Clone(good), other.charter(2)), "another program"},
		"charter under one board key":     {append(slices.Clone(good), oneBoardKey), "signed by 1 of the keys"},
		"same policy twice":               {append(slices.Clone(good), good[4]), "policy 4 comes after policy 4"},
		"serials that fall":               {[][]byte{good[0], good[3], good[1]}, "policy 1 comes after policy 3"},
		"a policy that is passed over":    {append(slices.Clone(good[:2]), w.seal(w.policy(5, terms.KindMileage, 5, 30))), "give it a higher serial"},
		"neither a policy nor a charter":  {append(slices.Clone(good), []byte{0x80}), "document 4"},
		"an empty document":               {append(slices.Clone(good), nil), "document 4"},
		"a policy with a trailing byte":   {append(slices.Clone(good), append(w.seal(foreign), 0)), "document 4"},
		"a binding, which is no document": {append(slices.Clone(good), must(codec.Encode(ledger.Binding{}))), "document 4"},
	} {
		if _, err := w.notice(1, c.documents...).Open(w.root, w.program, w.id); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	w := newWorld(t)
	good := must(w.notice(1, w.log()...).Encode())
	spell := func(v any) []byte { return must(codec.Encode(v)) }
	type pair = map[int]any
	for name, b := range map[string][]byte{
		"nothing":               nil,
		"trailing byte":         append(slices.Clone(good), 0),
		"cut short":             good[:len(good)-1],
		"key in a longer form":  slices.Concat([]byte{good[0], 0x18}, good[1:]),
		"version in two bytes":  slices.Concat(good[:2], []byte{0x18, 1}, good[3:]),
		"unknown key":           spell(pair{0: 1, 1: []byte{1}, 3: [][]byte{}, 4: 1}),
		"version 2":             spell(pair{0: 2, 1: []byte{1}, 3: [][]byte{}}),
		"zeros as a chain":      spell(pair{0: 1, 1: []byte{1}, 2: make([]byte, 32), 3: [][]byte{}}),
		"documents left out":    spell(pair{0: 1, 1: []byte{1}}),
		"256 documents":         spell(pair{0: 1, 1: []byte{1}, 3: make([][]byte, 256)}),
		"oversized":             spell(pair{0: 1, 1: make([]byte, MaxLen), 3: [][]byte{}}),
		"a length of 2^32":      {0xa3, 0, 1, 1, 0x5a, 0xff, 0xff, 0xff, 0xff},
		"2^32 documents":        {0xa3, 0, 1, 1, 0x41, 1, 3, 0x9a, 0xff, 0xff, 0xff, 0xff},
		"indefinite documents":  {0xa3, 0, 1, 1, 0x41, 1, 3, 0x9f, 0xff},
		"text in place of data": spell(pair{0: 1, 1: "x", 3: [][]byte{}}),
	} {
		if n, err := Decode(b); err == nil {
			t.Errorf("%s: accepted as %+v", name, n)
		}
	}
	if _, err := Decode(good); err != nil {
		t.Error(err)
	}
	long := &Notice{Version: Version, Block: make([]byte, MaxLen), Documents: [][]byte{}}
	if _, err := long.Encode(); err == nil {
		t.Error("a notice that nobody may read is encoded")
	}
}

// many returns n policies of a kind, one for each day from 1 on, each with 16 tiers.
func (w *world) many(n int, kind string) (documents [][]byte) {
	for i := range n {
		p := w.policy(uint16(i+1), kind, uint32(i+1), uint32(i+1))
		for km := uint32(10); len(p.Tiers) < 16; km *= 3 {
			row := wire.Row{B: int64(len(p.Tiers)+1) * 5000}
			row.A[wire.OdometerM] = 1
			p.Tiers = append(p.Tiers, terms.Tier{Km: uint32(len(p.Tiers)+1) * 5, Rows: []wire.Row{row}})
		}
		documents = append(documents, w.seal(p))
	}
	return documents
}

func TestNew(t *testing.T) {
	w := newWorld(t)
	log := w.log()
	n, err := New(w.root, w.program, w.id, w.cosign(w.block(chain(log...)), 0, 1, 2), log, 21)
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Documents) != 4 || n.Before != chain(log[0]) {
		t.Errorf("%d documents; the charter before the policies should be left out, and nothing else", len(n.Documents))
	}
	if _, err := n.Open(w.root, w.program, w.id); err != nil {
		t.Error(err)
	}
	// No documents yet: there are blocks before any policy.
	if n, err = New(w.root, w.program, w.id, w.cosign(w.block(wire.Hash{}), 0, 1), nil, 21); err != nil {
		t.Fatal(err)
	}
	if o, err := n.Open(w.root, w.program, w.id); err != nil || len(o.Policies) != 0 {
		t.Errorf("no documents: %+v, %v", o, err)
	}
	if _, err := New(w.root, w.program, w.id, n.Block, [][]byte{must(terms.SealPolicy(vectortest.Key(t, "receipt"), w.policy(1, terms.KindSafe, 1, 2)))}, 1); err == nil {
		t.Error("a policy under a wrong key is taken")
	}
}

// TestNewFits: the oldest policies go until the rest fits, and what decides about today or later stays.
func TestNewFits(t *testing.T) {
	w := newWorld(t)
	log := append([][]byte{w.charter(1)}, w.many(60, terms.KindMileage)...)
	block := w.cosign(w.block(chain(log...)), 0, 1)
	n, err := New(w.root, w.program, w.id, block, log, 55)
	if err != nil {
		t.Fatal(err)
	}
	left := len(log) - len(n.Documents)
	fuller := Notice{Version: Version, Block: block, Before: chain(log[:left-1]...), Documents: log[left-1:]}
	if _, err := fuller.Encode(); err == nil || left < 2 {
		t.Errorf("%d documents are left out, and one less would fit too", left)
	}
	t.Logf("%d of %d policies fit %d bytes", len(n.Documents), len(log)-1, size(t, n))
	if o, err := n.Open(w.root, w.program, w.id); err != nil || o.Policies[len(o.Policies)-1].Serial != 60 {
		t.Error(err)
	}
	// The first that must stay may be the first that fits, and no later one.
	if exact, err := New(w.root, w.program, w.id, block, log, uint32(left)); err != nil || len(exact.Documents) != len(n.Documents) {
		t.Errorf("document %d is the first in force: %v", left, err)
	}
	if _, err := New(w.root, w.program, w.id, block, log, uint32(left-1)); err == nil {
		t.Errorf("document %d is in force and left out", left-1)
	}
	// A policy that lasts, logged before all of them, cannot go; nor can a stop that lasts.
	for name, old := range map[string][]byte{"policy": w.seal(w.policy(0, terms.KindSafe, 1, 1000)), "stop": w.stop(0, terms.KindSafe, 1, 1000)} {
		stuck := slices.Concat([][]byte{log[0], old}, log[1:])
		if n, err := New(w.root, w.program, w.id, block, stuck, 55); err == nil {
			t.Errorf("%s in force is left out: %d of %d documents", name, len(n.Documents), len(stuck))
		} else if !strings.Contains(err.Error(), "document 1 is still in force") {
			t.Error(err)
		}
		// Once a successor has taken over, it can.
		freed := append(stuck, w.seal(w.policy(61, terms.KindSafe, 50, 1000)))
		n, err := New(w.root, w.program, w.id, w.cosign(w.block(chain(freed...)), 0, 1), freed, 55)
		if err != nil {
			t.Errorf("%s with a successor: %v", name, err)
			continue
		}
		if o, err := n.Open(w.root, w.program, w.id); err != nil || o.Policies[0].Serial == 0 {
			t.Errorf("%s with a successor: %v", name, err)
		}
	}
}

// TestManyDocuments: the number of documents is bounded apart from their size.
func TestManyDocuments(t *testing.T) {
	documents := make([][]byte, MaxDocuments)
	n := &Notice{Version: Version, Block: []byte{1}, Documents: documents}
	b, err := n.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(b); err != nil {
		t.Error(err)
	}
	if n.Documents = append(documents, nil); n.Validate() == nil {
		t.Error("too many documents")
	}
}

func TestDecides(t *testing.T) {
	w := newWorld(t)
	at := func(serial uint16, kind string, from, to uint32) *terms.Policy {
		return w.policy(serial, kind, from, to)
	}
	const kind = terms.KindSafe
	for i, c := range []struct {
		p     *terms.Policy
		later []*terms.Policy
		today uint32
		want  bool
	}{
		{at(1, kind, 10, 20), nil, 20, true},
		{at(1, kind, 10, 20), nil, 21, false},
		{at(1, kind, 10, 20), nil, 5, true}, // not yet in force
		{at(1, kind, 10, 20), []*terms.Policy{at(2, kind, 15, 99)}, 14, true},
		{at(1, kind, 10, 20), []*terms.Policy{at(2, kind, 15, 99)}, 15, false},
		{at(1, kind, 10, 20), []*terms.Policy{at(2, terms.KindMileage, 15, 99)}, 15, true},
		{at(1, kind, 10, 20), []*terms.Policy{at(2, kind, 15, 19)}, 15, true}, // again on day 20
		{at(1, kind, 10, 20), []*terms.Policy{at(3, kind, 18, 30), at(2, kind, 12, 17)}, 12, false},
		{at(1, kind, 10, 20), []*terms.Policy{at(3, kind, 12, 17), at(2, kind, 18, 30)}, 12, false},
		{at(1, kind, 10, 20), []*terms.Policy{at(3, kind, 19, 30), at(2, kind, 12, 17)}, 12, true}, // on day 18
		{at(1, kind, 10, 20), []*terms.Policy{at(2, kind, 10, 30)}, 5, false},                      // not on any day to come
		{at(1, kind, 10, terms.MaxDay), []*terms.Policy{at(2, kind, 12, terms.MaxDay)}, 12, false},
	} {
		if got := decides(c.p, c.later, c.today); got != c.want {
			t.Errorf("case %d: %t", i, got)
		}
	}
}

// TestDecodeAllocates checks that hostile lengths do not make memory.
func TestDecodeAllocates(t *testing.T) {
	hostile := [][]byte{
		{0xa3, 0, 1, 1, 0x5a, 0x7f, 0xff, 0xff, 0xff}, {0xa3, 0, 1, 1, 0x41, 1, 3, 0x98, 0xff}, bytes.Repeat([]byte{0x81}, MaxLen),
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, b := range hostile {
		if _, err := Decode(b); err == nil {
			t.Errorf("%x accepted", b[:9])
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes allocated", n)
	}
}

// FuzzDecode: what is accepted encodes to the same bytes; opening it never panics and never succeeds under keys that did not sign it.
func FuzzDecode(f *testing.F) {
	w := newWorld(f)
	log := w.log()
	f.Add(must(w.notice(0, log...).Encode()))
	f.Add(must(w.notice(3, log...).Encode()))
	f.Add([]byte{0xa3, 0, 1, 1, 0x41, 1, 3, 0x80})
	known := make(map[string]bool)
	for left := range len(log) + 1 {
		known[fmt.Sprint(w.notice(left, log...))] = true
	}
	for day := range uint32(12) {
		n := w.on(day, set(inForce(day)), 0, w.changes()...)
		known[fmt.Sprint(n)] = true
		f.Add(must(n.Encode()))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := Decode(b)
		if err != nil {
			return
		}
		again, err := n.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("encodes to %x, %v", again, err)
		}
		if _, err := n.Open(w.root, w.program, w.id); err == nil && !known[fmt.Sprint(n)] {
			t.Error("a notice that nobody made is accepted")
		}
	})
}
