package claim

import (
	"bytes"
	"fmt"
	"math/big"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr/poseidon2"
	constraint "github.com/consensys/gnark/constraint/bn254"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/std/hash"
	gadget "github.com/consensys/gnark/std/hash/poseidon2"

	"rawstone/pkg/wire"
)

// A dropping API is gnark's with one constraint of the circuit left out: call number drop of those that Define makes.
type dropping struct {
	frontend.API
	drop, calls int
}

func (d *dropping) dropped() bool {
	d.calls++
	return d.calls-1 == d.drop
}

func (d *dropping) AssertIsEqual(a, b frontend.Variable) {
	if !d.dropped() {
		d.API.AssertIsEqual(a, b)
	}
}

func (d *dropping) ToBinary(v frontend.Variable, n ...int) []frontend.Variable {
	if d.dropped() {
		return nil
	}
	return d.API.ToBinary(v, n...)
}

// A mutant is the circuit without one of its constraints.
type mutant struct {
	C     circuit
	drop  int
	calls *int
}

func (m *mutant) Define(api frontend.API) error {
	d := &dropping{API: api, drop: m.drop}
	err := m.C.Define(d)
	*m.calls = d.calls
	return err
}

// TestEveryConstraintIsNeeded leaves each constraint of the circuit out in turn. The forged witness that belongs to it must pass
// without it, and fail with it: so each constraint is there, and nothing else does its work.
func TestEveryConstraintIsNeeded(t *testing.T) {
	minusOne := signed(-1)
	type forgery struct {
		name  string
		build func(*assignment)
	}
	forgeries := []forgery{
		{"earlier counters are not the committed ones", func(a *assignment) {
			c := commitElements([wire.NumCounters]fr.Element{fr.NewElement(9)}, a.fromSalt)
			a.fromShown = &c
		}},
		{"later counters are not the committed ones", func(a *assignment) {
			c := commitElements(a.to, fr.NewElement(9)) // another salt
			a.toShown = &c
		}},
	}
	for j, name := range wire.CounterNames() {
		forgeries = append(forgeries,
			forgery{"earlier " + name + " is -1", func(a *assignment) { a.from[j] = minusOne; a.to[j].SetZero() }},
			forgery{"later " + name + " is 2^32", func(a *assignment) { a.from[j].SetUint64(1<<32 - 1); a.to[j].SetUint64(1 << 32) }},
			forgery{name + " decreases by 1", func(a *assignment) { a.from[j].SetUint64(8); a.to[j].SetUint64(7) }},
		)
	}
	for i := range wire.RowsPerStatement {
		forgeries = append(forgeries, forgery{fmt.Sprintf("slack of row %d is -1", i), func(a *assignment) { a.rows[i].b.SetOne() }})
	}

	whole := system(t)
	if err := whole.IsSolved(assignment{}.witness(t)); err != nil {
		t.Fatalf("the honest witness of zeros: %v", err)
	}
	for drop, f := range forgeries {
		t.Run(f.name, func(t *testing.T) {
			var a assignment
			f.build(&a)
			w := a.witness(t)
			if err := whole.IsSolved(w); err == nil {
				t.Error("the whole circuit accepts")
			}
			var calls int
			without, err := compile(&mutant{drop: drop, calls: &calls})
			if err != nil {
				t.Fatal(err)
			}
			if calls != len(forgeries) {
				t.Fatalf("the circuit has %d constraints of this kind, and %d forgeries are tried", calls, len(forgeries))
			}
			if err := without.IsSolved(w); err != nil {
				t.Errorf("the circuit without the constraint refuses too, so that this forgery does not test it: %v", err)
			}
		})
	}
}

// A variant is the circuit written once more, with the parts that a dropped call cannot take away as knobs. Its zero knobs are the
// circuit itself: TestVariantIsTheCircuit compares what both compile to, so that the copy cannot drift.
type variant struct {
	CFrom frontend.Variable                 `gnark:",public"`
	CTo   frontend.Variable                 `gnark:",public"`
	Rows  [wire.RowsPerStatement]circuitRow `gnark:",public"`
	From  circuitOpening
	To    circuitOpening

	knobs knobs
}

// knobs turn a variant into a mutant. The fields that are indices hold the index plus one; 0 leaves the circuit alone.
type knobs struct {
	noTag, noSalt, swapSalts, reversed, saltFirst bool
	unpacked, doubled                             int // a counter left out of the packing; one packed in place of its neighbour

	fromBits, toBits, growthBits [wire.NumCounters]int // further bits of a range check
	slackBits                    [wire.RowsPerStatement]int

	backwards, absolute, noBound, plusBound bool // growth from later to earlier; none; bounds not subtracted, or added
	coefficient                             int  // a counter left out of the slack
	firstRowOnly                            bool // every slack is that of row 0
}

func (v *variant) Define(api frontend.API) error {
	h, err := gadget.New(api)
	if err != nil {
		return err
	}
	k := v.knobs
	fromSalt, toSalt := v.From.Salt, v.To.Salt
	if k.swapSalts {
		fromSalt, toSalt = toSalt, fromSalt
	}
	api.AssertIsEqual(k.commit(api, h, v.From.Counters, fromSalt), v.CFrom)
	api.AssertIsEqual(k.commit(api, h, v.To.Counters, toSalt), v.CTo)

	var growth [wire.NumCounters]frontend.Variable
	for j := range growth {
		api.ToBinary(v.From.Counters[j], counterBits+k.fromBits[j])
		api.ToBinary(v.To.Counters[j], counterBits+k.toBits[j])
		growth[j] = api.Sub(v.To.Counters[j], v.From.Counters[j])
		switch {
		case k.backwards:
			growth[j] = api.Neg(growth[j])
		case k.absolute:
			growth[j] = v.To.Counters[j]
		}
		api.ToBinary(growth[j], counterBits+k.growthBits[j])
	}
	for i, r := range v.Rows {
		if k.firstRowOnly {
			r = v.Rows[0]
		}
		slack := api.Neg(r.B)
		switch {
		case k.noBound:
			slack = frontend.Variable(0)
		case k.plusBound:
			slack = r.B
		}
		for j, a := range r.A {
			if j != k.coefficient-1 {
				slack = api.Add(slack, api.Mul(a, growth[j]))
			}
		}
		api.ToBinary(slack, slackBits+k.slackBits[i])
	}
	return nil
}

// order returns the indices of the counters as the packing takes them.
func (k knobs) order() (order []int) {
	for j := range wire.NumCounters {
		if k.reversed {
			j = wire.NumCounters - 1 - j
		}
		switch j {
		case k.unpacked - 1:
			continue
		case k.doubled - 1:
			j = (j + 1) % wire.NumCounters
		}
		order = append(order, j)
	}
	return order
}

// arrange returns the elements under the hash.
func arrange[T any](k knobs, tag, packed, salt T) (elements []T) {
	if !k.noTag {
		elements = append(elements, tag)
	}
	switch {
	case k.noSalt:
		return append(elements, packed)
	case k.saltFirst:
		return append(elements, salt, packed)
	}
	return append(elements, packed, salt)
}

func (k knobs) commit(api frontend.API, h hash.FieldHasher, c [wire.NumCounters]frontend.Variable, salt frontend.Variable) frontend.Variable {
	packed := frontend.Variable(0)
	for _, j := range k.order() {
		packed = api.Add(api.Mul(packed, uint64(1)<<counterBits), c[j])
	}
	h.Reset()
	h.Write(arrange(k, frontend.Variable(new(big.Int).SetBytes([]byte(tagText))), packed, salt)...)
	return h.Sum()
}

// forge is commit over elements.
func (k knobs) forge(c [wire.NumCounters]fr.Element, salt fr.Element) (e fr.Element) {
	var packed fr.Element
	shift := fr.NewElement(1 << counterBits)
	for _, j := range k.order() {
		packed.Mul(&packed, &shift)
		packed.Add(&packed, &c[j])
	}
	h := poseidon2.NewMerkleDamgardHasher()
	for _, e := range arrange(k, tag(), packed, salt) {
		b := e.Bytes()
		h.Write(b[:])
	}
	e.SetBytes(h.Sum(nil))
	return e
}

func compileVariant(t testing.TB, k knobs) *constraint.R1CS {
	t.Helper()
	s, err := compile(&variant{knobs: k})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestVariantIsTheCircuit holds the copy to the original, byte by byte of what they compile to.
func TestVariantIsTheCircuit(t *testing.T) {
	var want, got bytes.Buffer
	if _, err := system(t).WriteTo(&want); err != nil {
		t.Fatal(err)
	}
	if _, err := compileVariant(t, knobs{}).WriteTo(&got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want.Bytes(), got.Bytes()) {
		t.Errorf("the variant compiles to %s, the circuit to %s: change both", wire.ID(got.Bytes()), wire.ID(want.Bytes()))
	}
}

// TestEveryMutantIsKilled is the list of mutants. Each accepts a witness that the circuit refuses.
func TestEveryMutantIsKilled(t *testing.T) {
	type mutation struct {
		name  string
		knobs knobs
		build func(*assignment)
	}
	driven := func(a *assignment) { // different counters and salts everywhere
		for j := range a.from {
			a.from[j].SetUint64(uint64(10 + j))
			a.to[j].SetUint64(uint64(30 + 2*j))
		}
		a.fromSalt.SetUint64(1)
		a.toSalt.SetUint64(2)
	}
	mutations := []mutation{
		{"hash without the tag", knobs{noTag: true}, driven},
		{"hash without the salt", knobs{noSalt: true}, driven},
		{"salts exchanged", knobs{swapSalts: true}, driven},
		{"salt before the counters", knobs{saltFirst: true}, driven},
		{"counters packed from the last", knobs{reversed: true}, driven},
		{"growth from later to earlier", knobs{backwards: true}, func(a *assignment) { a.from[2].SetOne() }},
		{"later counters for growth", knobs{absolute: true}, func(a *assignment) {
			a.from[0].SetUint64(5)
			a.to[0].SetUint64(5)
			a.rows[0].a[0].SetOne()
			a.rows[0].b.SetOne()
		}},
		{"bound not subtracted", knobs{noBound: true}, func(a *assignment) { a.rows[1].b.SetOne() }},
		{"bound added", knobs{plusBound: true}, func(a *assignment) { a.rows[2].b.SetOne() }},
		{"first row for every row", knobs{firstRowOnly: true}, func(a *assignment) { a.rows[3].b.SetOne() }},
	}
	for j, name := range wire.CounterNames() {
		with := func(set func(*knobs)) (k knobs) { set(&k); return k }
		mutations = append(mutations,
			mutation{name + " not packed", knobs{unpacked: j + 1}, driven},
			mutation{name + " replaced in the packing", knobs{doubled: j + 1}, driven},
			mutation{name + " not in the slack", knobs{coefficient: j + 1}, func(a *assignment) {
				a.to[j].SetOne()
				a.rows[0].a[j] = signed(-1)
			}},
			mutation{"earlier " + name + " of 33 bits", with(func(k *knobs) { k.fromBits[j], k.toBits[j] = 1, 1 }), func(a *assignment) {
				a.from[j].SetUint64(1 << 32)
				a.to[j].SetUint64(1 << 32)
			}},
			mutation{"later " + name + " of 33 bits", with(func(k *knobs) { k.toBits[j] = 1 }), func(a *assignment) {
				a.from[j].SetUint64(1)
				a.to[j].SetUint64(1 << 32)
			}},
			mutation{"growth of " + name + " of 254 bits", with(func(k *knobs) { k.growthBits[j] = 254 - counterBits }), func(a *assignment) {
				a.from[j].SetUint64(2)
				a.to[j].SetUint64(1)
			}},
		)
	}
	for i := range wire.RowsPerStatement {
		var wide, field knobs
		wide.slackBits[i], field.slackBits[i] = 1, 254-slackBits
		mutations = append(mutations,
			mutation{fmt.Sprintf("slack of row %d of 67 bits", i), wide, func(a *assignment) {
				b := new(big.Int).Lsh(big.NewInt(-1), slackBits)
				a.rows[i].b.SetBigInt(b)
			}},
			mutation{fmt.Sprintf("slack of row %d of 254 bits", i), field, func(a *assignment) { a.rows[i].b.SetOne() }},
		)
	}
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			var a assignment
			m.build(&a)
			fromSalt, toSalt := a.fromSalt, a.toSalt
			if m.knobs.swapSalts {
				fromSalt, toSalt = toSalt, fromSalt
			}
			from, to := m.knobs.forge(a.from, fromSalt), m.knobs.forge(a.to, toSalt)
			a.fromShown, a.toShown = &from, &to
			w := a.witness(t)
			if err := system(t).IsSolved(w); err == nil {
				t.Error("the circuit accepts")
			}
			if err := compileVariant(t, m.knobs).IsSolved(w); err != nil {
				t.Errorf("the mutant refuses too, so that this witness does not test it: %v", err)
			}
			if holds(a.inputs()) {
				t.Error("the predicate in plain integers accepts")
			}
		})
	}
}
