package claim

import (
	"fmt"
	"slices"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	groth16 "github.com/consensys/gnark/backend/groth16/bn254"
	"pgregory.net/rapid"

	"rawstone/pkg/claim/internal/batch"
	"rawstone/pkg/wire"
)

// oracle is one item's verdict by gnark's verifier.
func oracle(v *Verifier, item Item) bool {
	public, err := item.Statement.publicInputs()
	if err != nil {
		return false
	}
	p, err := decodeProof(item.Proof)
	return err == nil && groth16.Verify(p, v.key, public) == nil
}

// compare fails the test where a batch's verdicts are not the oracle's or its errors not those of single verification.
func compare(t interface {
	Errorf(string, ...any)
	Helper()
}, v *Verifier, items []Item) {
	t.Helper()
	errs := v.VerifyBatch(items)
	if len(errs) != len(items) {
		t.Errorf("%d errors for %d items", len(errs), len(items))
		return
	}
	for i, item := range items {
		if want := oracle(v, item); (errs[i] == nil) != want {
			t.Errorf("item %d of %d: %v, the oracle says %v", i, len(items), errs[i], want)
		}
		if want := v.Verify(item.Statement, item.Proof); fmt.Sprint(errs[i]) != fmt.Sprint(want) {
			t.Errorf("item %d of %d: %v, alone %v", i, len(items), errs[i], want)
		}
	}
}

// goodItems returns proofs of a few statements.
func goodItems(t testing.TB) []Item {
	t.Helper()
	p := openProver(t)
	var items []Item
	for i := range 4 {
		s, from, to := week()
		to.Counters[wire.OdometerM] += uint32(i)
		to.Salt[0] ^= byte(i)
		s.To = Commit(to)
		s.Rows[0].B += int64(i)
		proof, err := p.Prove(s, from, to)
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, Item{s, proof})
	}
	return items
}

// altered returns ways to make a good item another; only those that end in "good" leave it good.
func altered(t testing.TB, v *Verifier) map[string]func(Item) Item {
	points := func(alter func(p *groth16.Proof)) func(Item) Item {
		return func(i Item) Item {
			p, err := decodeProof(i.Proof)
			if err != nil {
				t.Fatal(err)
			}
			alter(p)
			i.Proof = encodeProof(p)
			return i
		}
	}
	bytes := func(at int, b []byte) func(Item) Item {
		return func(i Item) Item {
			copy(i.Proof[at:], b)
			return i
		}
	}
	statement := func(alter func(s *Statement)) func(Item) Item {
		return func(i Item) Item {
			alter(&i.Statement)
			return i
		}
	}
	_, _, g1, g2 := bn254.Generators()
	outside := outsideSubgroup(t)
	off := offCurve(t)
	return map[string]func(Item) Item{
		"untouched, good":       func(i Item) Item { return i },
		"re-randomised, good":   func(i Item) Item { i.Proof = rerandomised(t, v, i.Proof, 5, 7); return i },
		"A and B negated, good": points(func(p *groth16.Proof) { p.Ar.Neg(&p.Ar); p.Bs.Neg(&p.Bs) }),
		"A negated":             points(func(p *groth16.Proof) { p.Ar.Neg(&p.Ar) }),
		"B negated":             points(func(p *groth16.Proof) { p.Bs.Neg(&p.Bs) }),
		"C negated":             points(func(p *groth16.Proof) { p.Krs.Neg(&p.Krs) }),
		"A moved":               points(func(p *groth16.Proof) { p.Ar.Add(&p.Ar, &g1) }),
		"B moved":               points(func(p *groth16.Proof) { p.Bs.Add(&p.Bs, &g2) }),
		"C moved":               points(func(p *groth16.Proof) { p.Krs.Add(&p.Krs, &g1) }),
		"B outside":             bytes(endA, outside[:]),
		"A off the curve":       bytes(0, off[:]),
		"zeros":                 bytes(0, make([]byte, 128)),
		"all bits set":          bytes(0, slices.Repeat([]byte{0xff}, 128)),
		"bound":                 statement(func(s *Statement) { s.Rows[0].B++ }),
		"coefficient":           statement(func(s *Statement) { s.Rows[3].A[6]-- }),
		"bound out of range":    statement(func(s *Statement) { s.Rows[0].B = wire.MaxRowBound + 1 }),
		"commitment":            statement(func(s *Statement) { s.From[31] ^= 1 }),
		"commitment too high":   statement(func(s *Statement) { s.To = wire.Commitment(slices.Repeat([]byte{0xff}, 32)) }),
		"commitments swapped":   statement(func(s *Statement) { s.From, s.To = s.To, s.From }),
	}
}

func TestVerifyBatchIsTheOracle(t *testing.T) {
	v, good := openVerifier(t), goodItems(t)
	ways := altered(t, v)
	names := make([]string, 0, len(ways))
	for name := range ways {
		names = append(names, name)
	}
	slices.Sort(names)
	compare(t, v, nil)
	compare(t, v, good)
	for _, name := range names { // alone, and among others
		items := slices.Clone(good)
		items[2] = ways[name](items[2])
		compare(t, v, items[2:3])
		compare(t, v, items)
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{2, 3, 5, 9, 17}).Draw(t, "n")
		share := rapid.IntRange(0, 3).Draw(t, "altered of three")
		items := make([]Item, n)
		for i := range items {
			items[i] = rapid.SampledFrom(good).Draw(t, "item")
			if rapid.IntRange(1, 3).Draw(t, "alter") <= share {
				items[i] = ways[rapid.SampledFrom(names).Draw(t, "way")](items[i])
			}
		}
		compare(t, v, items)
	})
}

// TestVerifyBatchErrorsThatCancel holds pairs of bad proofs whose errors cancel where every proof has the same weight.
func TestVerifyBatchErrorsThatCancel(t *testing.T) {
	v, good := openVerifier(t), goodItems(t)
	_, _, g1, _ := bn254.Generators()
	points := func(alter func(p, q *groth16.Proof)) []Item {
		items := slices.Clone(good)
		p, err := decodeProof(items[1].Proof)
		if err != nil {
			t.Fatal(err)
		}
		q, err := decodeProof(items[2].Proof)
		if err != nil {
			t.Fatal(err)
		}
		alter(p, q)
		items[1].Proof, items[2].Proof = encodeProof(p), encodeProof(q)
		return items
	}
	statements := slices.Clone(good)
	statements[1].Statement.Rows[0].B++
	statements[2].Statement.Rows[0].B--
	halves := slices.Clone(good)
	halves[1].Statement, halves[2].Statement = good[2].Statement, good[1].Statement
	for name, items := range map[string][]Item{
		"proofs swapped": halves,
		"bounds":         statements,
		"C swapped":      points(func(p, q *groth16.Proof) { p.Krs, q.Krs = q.Krs, p.Krs }),
		"C moved apart":  points(func(p, q *groth16.Proof) { p.Krs.Add(&p.Krs, &g1); q.Krs.Sub(&q.Krs, &g1) }),
		"A moved apart": points(func(p, q *groth16.Proof) { // both under one B
			p.Bs = q.Bs
			p.Ar.Add(&p.Ar, &g1)
			q.Ar.Sub(&q.Ar, &g1)
		}),
	} {
		errs := v.VerifyBatch(items)
		for i, want := range []bool{true, false, false, true} {
			if (errs[i] == nil) != want {
				t.Errorf("%s: item %d: %v", name, i, errs[i])
			}
		}
		compare(t, v, items)
	}
}

// TestVerifyBatchSearch places bad items where a search meets them differently, across the parts and chunks of a batch.
func TestVerifyBatchSearch(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of proofs")
	}
	v, good := openVerifier(t), goodItems(t)
	ways := altered(t, v)
	clean := make([]Item, 1100)
	for i := range clean {
		clean[i] = good[i%len(good)] // identical ones among them
	}
	for _, bad := range []map[int]string{
		{},
		{0: "C moved"},
		{63: "B outside", 64: "bound"},
		{127: "B outside", 130: "zeros", 1023: "C moved", 1024: "C negated", 1099: "A moved"},
	} {
		items := slices.Clone(clean)
		for i, way := range bad {
			items[i] = ways[way](items[i])
		}
		for i, err := range v.VerifyBatch(items) {
			if _, isBad := bad[i]; (err == nil) == isBad {
				t.Errorf("bad %v: item %d: %v", bad, i, err)
			}
		}
	}
	all := slices.Clone(clean[:70])
	for i := range all {
		all[i] = ways["bound"](all[i])
	}
	for i, err := range v.VerifyBatch(all) {
		if err == nil {
			t.Errorf("all bad: item %d passes", i)
		}
	}
}

// TestVerifyBatchAsksLittle counts single verifications: none for good proofs nor for points outside G2, one for a bad proof.
func TestVerifyBatchAsksLittle(t *testing.T) {
	v, good := openVerifier(t), goodItems(t)
	ways := altered(t, v)
	for way, want := range map[string]int{"untouched, good": 0, "B outside": 0, "bound": 1} {
		items := slices.Repeat(good, 20) // more than one part
		items[70] = ways[way](items[70])
		proofs := make([]batch.Proof, len(items))
		for i, item := range items {
			var err error
			if proofs[i], err = item.decode(); err != nil {
				t.Fatal(err)
			}
		}
		asked := 0
		ok := v.batch.Verify(proofs, func(i int) bool {
			asked++
			return oracle(v, items[i])
		})
		if asked != want {
			t.Errorf("%s: %d single verifications, want %d", way, asked, want)
		}
		for i := range ok {
			if bad := i == 70 && way != "untouched, good"; ok[i] == bad {
				t.Errorf("%s: item %d: %v", way, i, ok[i])
			}
		}
	}
}

// FuzzVerifyBatch puts bytes that nobody honest made between two good items.
func FuzzVerifyBatch(f *testing.F) {
	v := openVerifier(f)
	s, proof := goodProof(f)
	g := generators()
	outside := outsideSubgroup(f)
	f.Add(proof[:], s.From[:], int64(40_000))
	f.Add(g[:], s.From[:], int64(40_000))
	f.Add(slices.Concat(proof[:endA], outside[:], proof[endB:]), s.From[:], int64(-1)<<63)
	f.Fuzz(func(t *testing.T, proofBytes, from []byte, bound int64) {
		item := Item{Statement: s}
		copy(item.Proof[:], proofBytes)
		copy(item.Statement.From[:], from)
		item.Statement.Rows[0].B = bound
		compare(t, v, []Item{{s, proof}, item, {s, proof}})
	})
}
