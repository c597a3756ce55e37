package inclusion

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/terms"
	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

// vectors is testdata/inclusion.json; the README beside it says what the fields are.
type vectors struct {
	Comment  string              `json:"comment"`
	Root     vectortest.Octets   `json:"root_key"`
	Program  vectortest.Octets   `json:"program"`
	Entries  []vectortest.Octets `json:"entries"`
	ECU      vectortest.Octets   `json:"ecu"`
	ToSeq    uint64              `json:"to_seq"`
	Promised []promisedVector    `json:"promised"`
	Answers  []answerVector      `json:"answers"`
	Refused  []refusedVector     `json:"refused"`
}

type promisedVector struct {
	Policy    uint16 `json:"policy"`
	Kind      string `json:"kind"`
	Km        uint32 `json:"km"`
	Effective uint32 `json:"effective"`
}

type answerVector struct {
	Size  int               `json:"size"`
	Root  vectortest.Octets `json:"root"`
	Bytes vectortest.Octets `json:"bytes"`
}

type refusedVector struct {
	Why   string            `json:"why"`
	Bytes vectortest.Octets `json:"bytes"`
}

func makeVectors(t *testing.T) vectors {
	t.Helper()
	w := newWorld(t)
	root := public(vectortest.Key(t, "root"))
	v := vectors{
		Comment: "Proofs of inclusion of version 1 (pkg/inclusion/inclusion.cddl): inputs and their exact bytes. See README.md.",
		Root:    root[:], Program: w.signed, ECU: w.ecu[:], ToSeq: toSeq,
	}
	for _, e := range w.entries {
		v.Entries = append(v.Entries, e)
	}
	want := w.promised()
	for i, c := range want.Credits {
		v.Promised = append(v.Promised, promisedVector{c.Policy, want.Kinds[i], c.Km, c.Effective})
	}
	for _, size := range []int{7, 8, 11} {
		r := w.root(size)
		v.Answers = append(v.Answers, answerVector{size, r[:], must(w.answer(size).Encode())})
	}
	refused := func(why string, spoil func(a *Answer)) {
		a := w.answer(11)
		spoil(a)
		v.Refused = append(v.Refused, refusedVector{why, must(a.Encode())})
	}
	refused("one kilometre less in the log", func(a *Answer) { a.Credits[0] = w.item(1, 5, terms.KindMileage, 11) })
	refused("a credit of an earlier snapshot", func(a *Answer) { a.Credits[0] = w.item(1, 7, terms.KindMileage, 11) })
	refused("a credit of another ECU key", func(a *Answer) { a.Credits[0] = w.item(1, 8, terms.KindMileage, 11) })
	refused("a credit that counts from a later day", func(a *Answer) { a.Credits[0] = w.item(1, 9, terms.KindMileage, 11) })
	refused("a credit of another kind", func(a *Answer) { a.Credits[0] = w.item(1, 10, "feature/x", 11) })
	refused("the path of another entry", func(a *Answer) { a.Credits[0].Path = w.path(5, 11) })
	refused("one credit left out", func(a *Answer) { a.Credits = a.Credits[1:] })
	refused("one cosignature, where the quorum is two", func(a *Answer) { a.Block = w.cosign(w.block(11), 1) })
	refused("cosignatures out of order", func(a *Answer) { a.Block = w.cosign(w.block(11), 2, 0) })
	refused("a block that was logged before", func(a *Answer) { a.Block = w.cosign(w.block(4), 0, 1) })
	refused("another program's block", func(a *Answer) {
		b := w.block(11)
		b.Program[0] ^= 1
		a.Block = w.cosign(b, 0, 1)
	})
	good := v.Answers[0].Bytes
	v.Refused = append(v.Refused,
		refusedVector{"trailing byte", append(slices.Clone(good), 0)},
		refusedVector{"version in two bytes, from byte 2", slices.Concat(good[:2], vectortest.Octets{0x18, 1}, good[3:])},
	)
	return v
}

// TestInclusionVectors holds the stored vectors to what this package makes of their inputs, and verifies the stored bytes.
func TestInclusionVectors(t *testing.T) {
	path := filepath.Join("testdata", "inclusion.json")
	if vectortest.Update() {
		vectortest.Write(t, path, makeVectors(t))
	}
	var stored vectors
	vectortest.Read(t, path, &stored)
	if d := cmp.Diff(stored, makeVectors(t)); d != "" {
		t.Errorf("vectors differ (-stored +made):\n%s", d)
	}

	// From here on nothing but the stored inputs and bytes.
	program, id, err := terms.OpenProgram(wire.PublicKey(stored.Root), stored.Program)
	if err != nil {
		t.Fatal(err)
	}
	want := Promised{ECU: wire.KeyID(stored.ECU), ToSeq: stored.ToSeq}
	for _, c := range stored.Promised {
		want.Credits, want.Kinds = append(want.Credits, wire.Credit{Policy: c.Policy, Km: c.Km, Effective: c.Effective}), append(want.Kinds, c.Kind)
	}
	verify := func(b []byte) error {
		a, err := Decode(b)
		if err == nil {
			_, err = a.Verify(program, id, Heard{}, want)
		}
		return err
	}
	for _, v := range stored.Answers {
		if err := verify(v.Bytes); err != nil {
			t.Errorf("a tree of %d: %v", v.Size, err)
		}
	}
	for _, v := range stored.Refused {
		if err := verify(v.Bytes); err == nil {
			t.Errorf("%s: accepted", v.Why)
		} else {
			t.Logf("%s: %v", v.Why, err)
		}
	}
}
