package claim

import (
	"bytes"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr/poseidon2"
	"github.com/consensys/gnark/backend/witness"
	constraints "github.com/consensys/gnark/constraint"
	constraint "github.com/consensys/gnark/constraint/bn254"
	"github.com/consensys/gnark/constraint/solver"
	"github.com/consensys/gnark/std/math/bits"
	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/wire"
)

var compiled = sync.OnceValues(func() (*constraint.R1CS, error) { return compile(new(circuit)) })

func system(t testing.TB) *constraint.R1CS {
	t.Helper()
	s, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestCircuitSize fails whenever the circuit changes size: every key, policy and lock in the field is bound to it.
func TestCircuitSize(t *testing.T) {
	s := system(t)
	if got := s.GetNbConstraints(); got != 1735 {
		t.Errorf("%d constraints, want 1735", got)
	}
	if s.GetNbConstraints() > 2000 {
		t.Error("more than 2,000 constraints: no key may be made for such a circuit")
	}
	internal, secret, public := s.GetNbVariables()
	if internal != 1708 || secret != 16 || public != 35 {
		t.Errorf("%d internal, %d secret and %d public wires, want 1708, 16 and 35 (with the constant one)", internal, secret, public)
	}
	if got := len(s.CommitmentInfo.(constraints.Groth16Commitments)); got != 0 {
		t.Errorf("%d Groth16 commitments: proofs would not be 128 bytes", got)
	}
}

// TestCircuitInputs fixes the names and the order of the inputs: publicInputs, Prove and every other implementation follow it.
func TestCircuitInputs(t *testing.T) {
	public := []string{"1", "CFrom", "CTo"}
	for i := range 4 {
		for j := range 7 {
			public = append(public, fmt.Sprintf("Rows_%d_A_%d", i, j))
		}
		public = append(public, fmt.Sprintf("Rows_%d_B", i))
	}
	var secret []string
	for _, opening := range []string{"From", "To"} {
		for j := range 7 {
			secret = append(secret, fmt.Sprintf("%s_Counters_%d", opening, j))
		}
		secret = append(secret, opening+"_Salt")
	}
	s := system(t)
	if d := cmp.Diff(public, s.Public); d != "" {
		t.Errorf("public inputs (-want +got):\n%s", d)
	}
	if d := cmp.Diff(secret, s.Secret); d != "" {
		t.Errorf("secret inputs (-want +got):\n%s", d)
	}
}

// TestCircuitIsReproducible holds the compiled circuit to its hash: anybody can compile it and compare with a lock. A change of the
// circuit, or of gnark, that moves the hash voids every key and policy made for it, so it needs a new name and not a new hash here.
func TestCircuitIsReproducible(t *testing.T) {
	const want = "d0d612c27571b33628b032910c6b1405d0e596cdfa68fd4f80c24f9089bc856c"
	again, err := compile(new(circuit))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*constraint.R1CS{system(t), again} {
		var b bytes.Buffer
		if _, err := s.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		if got := wire.ID(b.Bytes()).String(); got != want {
			t.Errorf("circuit's hash is %s, want %s", got, want)
		}
	}
}

// An assignment is the circuit's inputs as field elements, so that it can hold what no Opening can.
type assignment struct {
	rows               [wire.RowsPerStatement]rowElements
	from, to           [wire.NumCounters]fr.Element
	fromSalt, toSalt   fr.Element
	fromShown, toShown *fr.Element // commitments that do not match the openings
}

type rowElements struct {
	a [wire.NumCounters]fr.Element
	b fr.Element
}

// commitElements is Commit without the bounds of an Opening.
func commitElements(counters [wire.NumCounters]fr.Element, salt fr.Element) (c fr.Element) {
	var packed fr.Element
	shift := fr.NewElement(1 << 32)
	for _, e := range counters {
		packed.Mul(&packed, &shift)
		packed.Add(&packed, &e)
	}
	h := poseidon2.NewMerkleDamgardHasher()
	for _, e := range []fr.Element{tag(), packed, salt} {
		b := e.Bytes()
		h.Write(b[:])
	}
	c.SetBytes(h.Sum(nil))
	return c
}

// inputs returns the circuit's inputs in its order: public ones first, without the constant one.
func (a assignment) inputs() fr.Vector {
	cFrom, cTo := commitElements(a.from, a.fromSalt), commitElements(a.to, a.toSalt)
	if a.fromShown != nil {
		cFrom = *a.fromShown
	}
	if a.toShown != nil {
		cTo = *a.toShown
	}
	v := fr.Vector{cFrom, cTo}
	for _, r := range a.rows {
		v = append(append(v, r.a[:]...), r.b)
	}
	v = append(append(v, a.from[:]...), a.fromSalt)
	return append(append(v, a.to[:]...), a.toSalt)
}

func (a assignment) witness(t testing.TB) witness.Witness {
	t.Helper()
	inputs := a.inputs()
	values := make(chan any, len(inputs))
	for _, e := range inputs {
		values <- e
	}
	close(values)
	w, err := witness.New(ecc.BN254.ScalarField())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Fill(numPublic, numSecret, values); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestCircuitBounds walks the edges of every range, also where no Opening or Row can go.
func TestCircuitBounds(t *testing.T) {
	power := func(n uint) (e fr.Element) {
		e.SetBigInt(new(big.Int).Lsh(big.NewInt(1), n))
		return e
	}
	below := func(e fr.Element) fr.Element {
		one := fr.One()
		e.Sub(&e, &one)
		return e
	}
	negative := func(e fr.Element) fr.Element { return *e.Neg(&e) }
	for _, c := range []struct {
		name  string
		want  bool
		build func(*assignment)
	}{
		{"counters of 2^32-1", true, func(a *assignment) { a.from[3] = below(power(32)); a.to[3] = a.from[3] }},
		{"growth of 2^32-1", true, func(a *assignment) { a.to[6] = below(power(32)) }},
		{"growth of 2^32", false, func(a *assignment) { a.to[6] = power(32) }},
		{"both counters of 2^32", false, func(a *assignment) { a.from[0] = power(32); a.to[0] = power(32) }},
		{"packing that carries", false, func(a *assignment) { a.from[1] = power(32); a.to[1] = power(32) }},
		{"slack of 2^66-1", true, func(a *assignment) { a.rows[3].b = negative(below(power(66))) }},
		{"slack of 2^66", false, func(a *assignment) { a.rows[3].b = negative(power(66)) }},
		{"slack of minus 2^66", false, func(a *assignment) { a.rows[3].b = power(66) }},
		{"salt of 2^248", true, func(a *assignment) { a.fromSalt = power(248) }},
		{"commitments swapped", false, func(a *assignment) {
			a.to[0].SetOne()
			x, y := commitElements(a.from, a.fromSalt), commitElements(a.to, a.toSalt)
			a.fromShown, a.toShown = &y, &x
		}},
	} {
		var a assignment
		c.build(&a)
		if err := system(t).IsSolved(a.witness(t)); (err == nil) != c.want {
			t.Errorf("%s: accepted %v, want %v (%v)", c.name, err == nil, c.want, err)
		}
	}
}

// TestBitsAreBits plays a prover that computes the decompositions its own way: a first "bit" of the whole value.
func TestBitsAreBits(t *testing.T) {
	var options []solver.Option
	for _, h := range bits.GetHints() {
		if strings.HasSuffix(solver.GetHintName(h), "nBits") {
			options = append(options, solver.OverrideHint(solver.GetHintID(h), func(_ *big.Int, in, out []*big.Int) error {
				for i := range out {
					out[i].SetUint64(0)
				}
				out[0].Set(in[0])
				return nil
			}))
		}
	}
	if len(options) != 1 {
		t.Fatalf("%d hints found, want 1", len(options))
	}
	var honest, forged assignment
	honest.to[0].SetOne()
	if err := system(t).IsSolved(honest.witness(t), options...); err != nil {
		t.Fatalf("values of one bit are their own first bit: %v", err)
	}
	forged.rows[0].b.SetOne() // slack -1
	if err := system(t).IsSolved(forged.witness(t), options...); err == nil {
		t.Error("a digit that is no bit is accepted")
	}
}
