package statement

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/ledger"
	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

// vectors is testdata/statement.json; the README beside it says what the fields are.
type vectors struct {
	Comment    string            `json:"comment"`
	Root       vectortest.Octets `json:"root_key"`
	Account    string            `json:"account"`
	Statements []statementVector `json:"statements"`
	Refused    []refusedVector   `json:"refused"`
}

type statementVector struct {
	What     string            `json:"what"`
	Goes     bool              `json:"goes_on"`
	Bytes    vectortest.Octets `json:"bytes"`
	Milli    uint64            `json:"milli_stones"`
	Crystals uint64            `json:"crystals"`
	Days     []dayVector       `json:"days"`
}

type dayVector struct {
	Day    uint32 `json:"day"`
	Km     uint64 `json:"km"`
	Weight uint64 `json:"weight"`
	Total  uint64 `json:"total"`
	Units  uint64 `json:"units"`
}

type refusedVector struct {
	Why   string            `json:"why"`
	Bytes vectortest.Octets `json:"bytes"`
}

func vectorOf(t *testing.T, w *world, what string, records []*Record, from *State) (statementVector, *State) {
	t.Helper()
	report, state, err := w.verify(records, from)
	if err != nil {
		t.Fatal(err)
	}
	v := statementVector{What: what, Goes: from != nil, Bytes: encode(records), Milli: report.Milli, Crystals: report.Crystals}
	for _, r := range report.Days {
		v.Days = append(v.Days, dayVector{r.Day, r.Km, r.Weight, r.Total, r.Units})
	}
	return v, state
}

func makeVectors(t *testing.T) vectors {
	t.Helper()
	w := newWorld(t, timing)
	root := public(w.root)
	v := vectors{Comment: "Statements of version 1 (pkg/statement/statement.cddl) and what they show. See README.md.", Root: root[:], Account: anna}
	w.document(ledger.TypePolicy, []byte("policy"))
	w.others(3, 12)
	w.block()
	w.bind()
	w.change(0)
	w.credit(40)
	w.blocks(3)
	w.credit(7)
	w.blocks(2)
	first, state := vectorOf(t, w, "whole, from drop 0", w.statement(0, false), nil)
	based, _ := vectorOf(t, w, "whole, from the first block that covers an entry of the account", w.statement(1, true), nil)
	good := w.statement(0, false)
	w.others(2, 5)
	w.blocks(2)
	after, _ := vectorOf(t, w, "what is newer than the first statement", w.statement(state.Next(), false), state)
	v.Statements = []statementVector{first, based, after}
	refused := func(why string, forge func([]*Record) []*Record) {
		v.Refused = append(v.Refused, refusedVector{why, encode(forge(slices.Clone(good)))})
	}
	refused("a block left out", func(r []*Record) []*Record { i := find(r, 2, isBlock); return slices.Delete(r, i, i+1) })
	refused("a credit left out", func(r []*Record) []*Record {
		i := find(r, 0, isEntry(ledger.TypeCredit))
		return slices.Delete(r, i, i+1)
	})
	refused("a share of one unit less", func(r []*Record) []*Record {
		i := find(r, 5, isBlock)
		r[i] = &Record{Block: &Block{r[i].Block.Payload, r[i].Block.Units - 1}}
		return r
	})
	refused("a balance of one milli-stone less", func(r []*Record) []*Record {
		r[len(r)-1] = &Record{Close: &Close{r[len(r)-1].Close.Milli - 1, 0}}
		return r
	})
	refused("a false seed", func(r []*Record) []*Record {
		i := find(r, 5, isBlock)
		r[i] = &Record{Block: &Block{reblock(r[i].Block.Payload, func(b *ledger.Block) { b.Seed[0] ^= 1 }), r[i].Block.Units}}
		return r
	})
	whole := encode(good)
	v.Refused = append(v.Refused, refusedVector{"the end is missing", whole[:len(whole)-1]},
		refusedVector{"a length that is not in shortest form", append(vectortest.Octets{twoBytes, 0, 4, 0xa1, 6, 0xa0, 0}, whole...)})
	return v
}

// TestStatementVectors holds the stored vectors to what this package makes of their inputs, and verifies the stored bytes.
func TestStatementVectors(t *testing.T) {
	path := filepath.Join("testdata", "statement.json")
	if vectortest.Update() {
		vectortest.Write(t, path, makeVectors(t))
	}
	var stored vectors
	vectortest.Read(t, path, &stored)
	if d := cmp.Diff(stored, makeVectors(t)); d != "" {
		t.Errorf("vectors differ (-stored +made):\n%s", d)
	}

	// From here on nothing but the stored inputs and bytes.
	var first *State
	for i, v := range stored.Statements {
		c := Config{Root: wire.PublicKey(stored.Root), Account: stored.Account}
		if v.Goes {
			c.State = first
		}
		report, state, err := Verify(bytes.NewReader(v.Bytes), c)
		if err != nil {
			t.Fatalf("%s: %v", v.What, err)
		}
		if i == 0 {
			first = state
		}
		if report.Milli != v.Milli || report.Crystals != v.Crystals || len(report.Days) != len(v.Days) {
			t.Errorf("%s: %+v", v.What, report)
		}
	}
	for _, v := range stored.Refused {
		if _, _, err := Verify(bytes.NewReader(v.Bytes), Config{Root: wire.PublicKey(stored.Root), Account: stored.Account}); err == nil {
			t.Errorf("%s: accepted", v.Why)
		} else {
			t.Logf("%s: %v", v.Why, err)
		}
	}
}

// FuzzVerify: no input panics.
func FuzzVerify(f *testing.F) {
	w := newWorld(f, timing)
	w.bind()
	w.credit(40)
	w.blocks(2)
	f.Add(encode(w.statement(0, false)))
	root := public(w.root)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = Verify(bytes.NewReader(b), Config{Root: root, Account: anna})
	})
}

// FuzzReader: what a Reader takes is written again as it was.
func FuzzReader(f *testing.F) {
	w := newWorld(f, timing)
	w.document(ledger.TypePolicy, []byte("policy"))
	w.bind()
	w.credit(40)
	w.others(2, 12)
	w.blocks(5)
	for _, r := range w.statement(0, false) {
		f.Add(encode([]*Record{r}))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b))
		var again bytes.Buffer
		out := NewWriter(&again)
		for {
			rec, err := r.Next()
			if err != nil {
				break
			}
			if err := out.Write(rec); err != nil {
				t.Fatal(err)
			}
		}
		if err := out.Flush(); err != nil || !bytes.HasPrefix(b, again.Bytes()) {
			t.Errorf("read %x, wrote %x, %v", b, again.Bytes(), err)
		}
	})
}

// FuzzDecodeState: what is taken is encoded as it was.
func FuzzDecodeState(f *testing.F) {
	w := newWorld(f, timing)
	w.bind()
	w.credit(40)
	w.block()
	_, state, err := w.verify(w.statement(0, false), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(must(state.Encode()))
	records := w.statement(state.Next(), false)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeState(b)
		if err != nil {
			return
		}
		if again, err := s.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("read %x, wrote %x, %v", b, again, err)
		}
		_, _, _ = w.verify(records, s)
	})
}
