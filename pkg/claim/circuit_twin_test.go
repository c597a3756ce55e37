package claim

import (
	"math"
	"math/big"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"pgregory.net/rapid"

	"rawstone/pkg/wire"
)

// holds is the predicate of claim/v1 over any field elements, in plain integers and without bits: what the circuit must accept, also
// where no Opening and no Statement can go. in are the circuit's inputs in its order.
func holds(in fr.Vector) bool {
	from, to := in[numPublic:numPublic+wire.NumCounters], in[numPublic+wire.NumCounters+1:numPublic+2*wire.NumCounters+1]
	if commitElements([wire.NumCounters]fr.Element(from), in[numPublic+wire.NumCounters]) != in[0] ||
		commitElements([wire.NumCounters]fr.Element(to), in[numPublic+2*wire.NumCounters+1]) != in[1] {
		return false
	}
	fits := func(v *big.Int, bits int) bool { return v.Mod(v, fr.Modulus()).BitLen() <= bits }
	growth := make([]*big.Int, wire.NumCounters)
	for j := range growth {
		a, b := integer(from[j]), integer(to[j])
		growth[j] = new(big.Int).Sub(b, a)
		if !fits(a, 32) || !fits(b, 32) || !fits(growth[j], 32) {
			return false
		}
	}
	for i := range wire.RowsPerStatement {
		row := in[2+i*(wire.NumCounters+1):][:wire.NumCounters+1]
		slack := new(big.Int).Neg(integer(row[wire.NumCounters]))
		for j, g := range growth {
			slack.Add(slack, new(big.Int).Mul(integer(row[j]), g))
		}
		if !fits(slack, 66) {
			return false
		}
	}
	return true
}

func integer(e fr.Element) *big.Int { return e.BigInt(new(big.Int)) }

// small returns the element as a signed integer, when it is one of 64 bits.
func small(e fr.Element) (int64, bool) {
	v := integer(e)
	if v.Cmp(new(big.Int).Rsh(fr.Modulus(), 1)) > 0 {
		v.Sub(v, fr.Modulus())
	}
	return v.Int64(), v.IsInt64()
}

// statement returns what the twin sees of an assignment, and which parts of it a Statement and two Openings can hold.
func (a assignment) statement() (s Statement, from, to wire.Opening, public, counters, salts bool) {
	in := a.inputs()
	s.From, s.To = in[0].Bytes(), in[1].Bytes()
	public, counters, salts = true, true, true
	for i, r := range a.rows {
		for j, e := range r.a {
			v, ok := small(e)
			public = public && ok && v == int64(int32(v))
			s.Rows[i].A[j] = int32(v)
		}
		v, ok := small(r.b)
		public = public && ok
		s.Rows[i].B = v
	}
	for _, part := range []struct {
		counters [wire.NumCounters]fr.Element
		salt     fr.Element
		opening  *wire.Opening
	}{{a.from, a.fromSalt, &from}, {a.to, a.toSalt, &to}} {
		for j, e := range part.counters {
			v, ok := small(e)
			counters = counters && ok && v == int64(uint32(v))
			part.opening.Counters[j] = uint32(v)
		}
		b := part.salt.Bytes()
		salts = salts && b[0] == 0
		copy(part.opening.Salt[:], b[1:])
	}
	return s, from, to, public, counters, salts
}

// drawElement draws a field element from both sides of every edge, and any.
func drawElement(t *rapid.T, label string) (e fr.Element) {
	shift := rapid.SampledFrom([]uint{0, 1, 31, 32, 33, 62, 63, 64, 65, 66, 67, 128, 224, 248, 253}).Draw(t, label+" bits")
	e.SetBigInt(new(big.Int).Lsh(big.NewInt(1), shift))
	d := signed(rapid.Int64Range(-2, 2).Draw(t, label+" distance"))
	e.Add(&e, &d)
	switch rapid.IntRange(0, 5).Draw(t, label+" form") {
	case 0:
		e.Neg(&e)
	case 1:
		e.Inverse(&e) // a fraction, which would do as a "bit" of weight 2^n
	case 2:
		e.SetBytes(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, label))
	}
	return e
}

// drawAssignment draws an honest assignment near the edges and then spoils none, one or some of its parts.
func drawAssignment(t *rapid.T) (a assignment) {
	counter := rapid.OneOf(rapid.SampledFrom([]uint32{0, 1, 1 << 31, math.MaxUint32 - 1, math.MaxUint32}), rapid.Uint32())
	coefficient := rapid.OneOf(rapid.SampledFrom([]int32{0, 1, -1, math.MaxInt32, math.MinInt32}),
		rapid.Int32(), rapid.Int32Range(-1000, 1000), rapid.Int32Range(-1000, 1000), rapid.Int32Range(-1000, 1000))
	for j := range a.from {
		x, y := counter.Draw(t, "counter"), counter.Draw(t, "counter")
		a.from[j].SetUint64(uint64(min(x, y)))
		a.to[j].SetUint64(uint64(max(x, y)))
	}
	a.fromSalt.SetBytes(rapid.SliceOfN(rapid.Byte(), 31, 31).Draw(t, "salt"))
	a.toSalt.SetBytes(rapid.SliceOfN(rapid.Byte(), 31, 31).Draw(t, "salt"))
	for i := range a.rows {
		for j := range a.rows[i].a {
			a.rows[i].a[j] = signed(int64(coefficient.Draw(t, "coefficient")))
		}
	}
	spoils := rapid.SampledFrom([]int{0, 0, 0, 1, 1, 1, 2, 5}).Draw(t, "spoils")
	for range spoils {
		j, i := rapid.IntRange(0, wire.NumCounters-1).Draw(t, "counter"), rapid.IntRange(0, wire.RowsPerStatement-1).Draw(t, "row")
		switch rapid.IntRange(0, 6).Draw(t, "spoil") {
		case 0:
			a.from[j] = drawElement(t, "from")
		case 1:
			a.to[j] = drawElement(t, "to")
		case 2: // both, so that the growth is honest
			var growth fr.Element
			growth.Sub(&a.to[j], &a.from[j])
			a.from[j] = drawElement(t, "both")
			a.to[j].Add(&a.from[j], &growth)
		case 3: // decreasing, mostly by little
			d := signed(int64(rapid.SampledFrom([]uint32{1, 2, math.MaxUint32}).Draw(t, "decrease")))
			a.to[j].Sub(&a.from[j], &d)
		case 4:
			a.rows[i].a[j] = drawElement(t, "coefficient")
		case 5:
			a.toSalt = drawElement(t, "salt")
		case 6: // one counter more and its neighbour 2^32 less: the same packing
			one, digit := fr.One(), fr.NewElement(1<<32)
			if j > 0 {
				a.to[j-1].Add(&a.to[j-1], &one)
				a.to[j].Sub(&a.to[j], &digit)
			}
		}
	}
	// Bounds last, so that each slack is what it shall be.
	for i := range a.rows {
		want := fr.NewElement(rapid.Uint64Range(0, 1<<40).Draw(t, "slack"))
		switch rapid.IntRange(0, 63).Draw(t, "slack kind") {
		case 0:
			want = signed(-1)
		case 1:
			want = drawElement(t, "slack")
		case 2, 3, 4, 5, 6, 7, 8, 9:
			want.SetZero()
		case 10:
			want.SetBigInt(new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 66), big.NewInt(1)))
		}
		var sum fr.Element
		for j := range a.from {
			var growth fr.Element
			growth.Sub(&a.to[j], &a.from[j])
			growth.Mul(&growth, &a.rows[i].a[j])
			sum.Add(&sum, &growth)
		}
		a.rows[i].b.Sub(&sum, &want)
	}
	switch rapid.IntRange(0, 15).Draw(t, "commitments") {
	case 0:
		x, y := commitElements(a.from, a.fromSalt), commitElements(a.to, a.toSalt)
		a.fromShown, a.toShown = &y, &x
	case 1:
		e := drawElement(t, "commitment")
		a.fromShown = &e
	case 2:
		e := drawElement(t, "commitment")
		a.toShown = &e
	}
	return a
}

// TestTwinOverTheField compares, on assignments of any field elements, the circuit with the predicate in plain integers, and with
// Statement.Check as far as its types reach.
func TestTwinOverTheField(t *testing.T) {
	s := system(t)
	var accepted, refused, checked, beyond int
	for range 5 {
		rapid.Check(t, func(rt *rapid.T) {
			a := drawAssignment(rt)
			got := s.IsSolved(a.witness(t)) == nil
			if want := holds(a.inputs()); got != want {
				rt.Fatalf("circuit accepts: %v, the predicate: %v", got, want)
			}
			if got {
				accepted++
			} else {
				refused++
			}
			statement, from, to, public, counters, salts := a.statement()
			switch {
			case !public || statement.validate() != nil: // no verifier builds such inputs
			case counters && salts:
				checked++
				if err := statement.Check(from, to); (err == nil) != got {
					rt.Fatalf("circuit accepts: %v, twin says %v", got, err)
				}
			case !counters:
				beyond++
				if got {
					rt.Fatal("circuit accepts a counter that is none")
				}
			}
		})
	}
	if accepted == 0 || refused == 0 || checked == 0 || beyond == 0 {
		t.Errorf("%d accepted, %d refused, %d within the twin's types, %d beyond: the comparison is one-sided", accepted, refused, checked, beyond)
	}
	t.Logf("%d accepted, %d refused, %d within the twin's types, %d beyond", accepted, refused, checked, beyond)
}
