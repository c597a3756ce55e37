package notice

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

// vectors is testdata/notice.json; the README beside it says what the fields are.
type vectors struct {
	Comment   string              `json:"comment"`
	Root      vectortest.Octets   `json:"root_key"`
	Program   vectortest.Octets   `json:"program"`
	Documents []vectortest.Octets `json:"documents"`
	Block     vectortest.Octets   `json:"block"`
	Notices   []noticeVector      `json:"notices"`
	Refused   []refusedVector     `json:"refused"`
}

type noticeVector struct {
	Name      string            `json:"name"`
	Cosigners []uint            `json:"cosigners"`
	LeftOut   int               `json:"left_out"`
	Before    vectortest.Octets `json:"before"`
	Bytes     vectortest.Octets `json:"bytes"`
	Drop      uint64            `json:"drop"`
	Day       uint32            `json:"day"`
	Policies  []uint16          `json:"policies"`
}

type refusedVector struct {
	Why   string            `json:"why"`
	Bytes vectortest.Octets `json:"bytes"`
}

func makeVectors(t *testing.T) vectors {
	t.Helper()
	w := newWorld(t)
	log, root := w.log(), public(vectortest.Key(t, "root"))
	block := w.block(chain(log...))
	v := vectors{
		Comment: "Notices of version 1 (pkg/notice/notice.cddl): inputs and their exact bytes. See README.md.",
		Root:    root[:], Program: w.signed, Block: must(ledger.EncodePayload(block)),
	}
	for _, d := range log {
		v.Documents = append(v.Documents, d)
	}
	for _, in := range []noticeVector{
		{Name: "all documents", Cosigners: []uint{0, 2}, Drop: 7, Day: 21, Policies: []uint16{1, 2, 3, 4}},
		{Name: "the charter left out", Cosigners: []uint{0, 1, 2}, LeftOut: 1, Drop: 7, Day: 21, Policies: []uint16{1, 2, 3, 4}},
		{Name: "a stop left out with what it stops", Cosigners: []uint{1, 2}, LeftOut: 4, Drop: 7, Day: 21, Policies: []uint16{4}},
	} {
		before := chain(log[:in.LeftOut]...)
		in.Before = before[:]
		var signers []int
		for _, i := range in.Cosigners {
			signers = append(signers, int(i))
		}
		n := Notice{Version: Version, Block: w.cosign(block, signers...), Before: before, Documents: log[in.LeftOut:]}
		in.Bytes = must(n.Encode())
		v.Notices = append(v.Notices, in)
	}
	refused := func(why string, spoil func(n *Notice)) {
		n := w.notice(1, log...)
		n.Documents = slices.Clone(n.Documents)
		spoil(n)
		v.Refused = append(v.Refused, refusedVector{why, must(n.Encode())})
	}
	refused("the stop left out", func(n *Notice) { n.Documents = slices.Delete(n.Documents, 2, 3) })
	refused("two documents in each other's place", func(n *Notice) { n.Documents[0], n.Documents[1] = n.Documents[1], n.Documents[0] })
	refused("a document twice", func(n *Notice) { n.Documents = append(n.Documents, n.Documents[3]) })
	refused("a policy that is not in the log", func(n *Notice) { n.Documents = append(n.Documents, w.seal(w.policy(5, terms.KindSafe, 40, 99))) })
	refused("no chain before the first document", func(n *Notice) { n.Before = wire.Hash{} })
	refused("one cosignature, where the quorum is two", func(n *Notice) { n.Block = w.cosign(block, 1) })
	refused("cosignatures out of order", func(n *Notice) { n.Block = w.cosign(block, 2, 0) })
	refused("one cosignature twice", func(n *Notice) { n.Block = w.cosign(block, 0, 0) })
	refused("a false cosignature beyond the quorum", func(n *Notice) {
		s := opened(w.cosign(block, 0, 1, 2))
		s.Cosignatures[2].Signature[9] ^= 1
		n.Block = must(s.Encode())
	})
	refused("another program's block", func(n *Notice) {
		b := *block
		b.Program[0] ^= 1
		n.Block = w.cosign(&b, 0, 1)
	})
	wrongKey := must(terms.SealPolicy(vectortest.Key(t, "receipt"), w.policy(5, terms.KindSafe, 40, 99)))
	for _, c := range []struct {
		why  string
		last []byte
	}{
		{"a logged policy under a key that may not sign policies", wrongKey},
		{"the last policy logged twice", log[4]},
	} {
		wrong := append(slices.Clone(log), c.last)
		refused(c.why, func(n *Notice) { *n = *w.notice(1, wrong...) })
	}
	good := v.Notices[0].Bytes
	v.Refused = append(v.Refused,
		refusedVector{"trailing byte", append(slices.Clone(good), 0)},
		refusedVector{"version in two bytes, from byte 2", slices.Concat(good[:2], vectortest.Octets{0x18, 1}, good[3:])},
	)
	return v
}

// TestNoticeVectors holds the stored vectors to what this package makes of their inputs, and opens the stored bytes.
func TestNoticeVectors(t *testing.T) {
	path := filepath.Join("testdata", "notice.json")
	if vectortest.Update() {
		vectortest.Write(t, path, makeVectors(t))
	}
	var want vectors
	vectortest.Read(t, path, &want)
	if d := cmp.Diff(want, makeVectors(t)); d != "" {
		t.Errorf("vectors differ (-stored +made):\n%s", d)
	}

	// From here on nothing but the stored inputs and bytes.
	program, id, err := terms.OpenProgram(wire.PublicKey(want.Root), want.Program)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range want.Notices {
		n, err := Decode(v.Bytes)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if sealed := opened(n.Block); !bytes.Equal(sealed.Payload, want.Block) || len(sealed.Cosignatures) != len(v.Cosigners) {
			t.Errorf("%s: another block", v.Name)
		}
		if !bytes.Equal(n.Before[:], v.Before) {
			t.Errorf("%s: the chain begins with %s", v.Name, n.Before)
		}
		for i, d := range want.Documents[v.LeftOut:] {
			if !bytes.Equal(d, n.Documents[i]) {
				t.Errorf("%s: another document %d", v.Name, i)
			}
		}
		o, err := n.Open(wire.PublicKey(want.Root), program, id)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if d := cmp.Diff(v.Policies, serials(o.Policies)); d != "" || o.Drop != v.Drop || o.Day != v.Day {
			t.Errorf("%s: drop %d, day %d, policies (-want +got):\n%s", v.Name, o.Drop, o.Day, d)
		}
	}
	for _, v := range want.Refused {
		n, err := Decode(v.Bytes)
		if err == nil {
			_, err = n.Open(wire.PublicKey(want.Root), program, id)
		}
		if err == nil {
			t.Errorf("%s: accepted", v.Why)
		} else {
			t.Logf("%s: %v", v.Why, err)
		}
	}
}
