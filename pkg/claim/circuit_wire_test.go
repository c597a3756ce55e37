package claim

import (
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	constraints "github.com/consensys/gnark/constraint"
	constraint "github.com/consensys/gnark/constraint/bn254"

	"rawstone/pkg/wire"
)

// linear returns the value of an expression. Wire 0 is the constant one.
func linear(s *constraint.R1CS, e constraints.LinearExpression, wires fr.Vector) (sum fr.Element) {
	for _, term := range e {
		var p fr.Element
		p.Mul(&s.Coefficients[term.CID], &wires[term.VID])
		sum.Add(&sum, &p)
	}
	return sum
}

// A family is what a rank-1 constraint is for, told from its form alone.
type family int

const (
	product  family = iota // x · y == a new wire
	boolean                // (1 − b) · b == 0
	sum                    // Σ 2^i·b_i == a value
	equality               // a hash == a public commitment
)

// A rank1 is a constraint of the compiled circuit with what a forger has to know of it.
type rank1 struct {
	constraints.R1C
	family family
	// group numbers the decomposition that a bit or a sum belongs to, in the order of Define, and the row of a row's products (21 and
	// up, like the row's decomposition). It is -1 for the hashes.
	group int
	// weight is the power of two of a bit.
	weight int
}

// take sorts the circuit's constraints.
func take(t *testing.T, s *constraint.R1CS) []rank1 {
	t.Helper()
	var all []rank1
	groups, bits := 0, map[uint32]int{} // the constraint of each bit
	for k, c := range s.GetR1Cs() {
		r := rank1{R1C: constraints.R1C{L: slices.Clone(c.L), R: slices.Clone(c.R), O: slices.Clone(c.O)}, group: -1}
		output := -1
		if len(c.O) == 1 && c.O[0].CoeffID() == constraints.CoeffIdOne {
			output = c.O[0].WireID()
		}
		_, isBit := bits[c.L[0].VID]
		switch {
		case len(c.O) == 1 && c.O[0].CoeffID() == constraints.CoeffIdZero || len(c.O) == 0:
			r.family = boolean
			bits[c.R[0].VID] = k
		case isBit:
			r.family, r.group = sum, groups
			for i, term := range c.L {
				at := &all[bits[term.VID]]
				at.group, at.weight = groups, i
			}
			groups++
		case output == 1 || output == 2:
			r.family = equality
		case output >= numPublic+1+numSecret:
			r.family = product
			if groups >= 3*wire.NumCounters {
				r.group = groups
			}
		default:
			t.Fatalf("constraint %d is of no known form: %s", k, c.String(s))
		}
		all = append(all, r)
	}
	return all
}

// forge returns all wires for the inputs such that every constraint but number drop holds, as far as that can be.
func forge(s *constraint.R1CS, all []rank1, inputs fr.Vector, drop int) fr.Vector {
	internal, secret, public := s.GetNbVariables()
	wires := make(fr.Vector, internal+secret+public)
	wires[0].SetOne()
	copy(wires[1:], inputs)
	for k, c := range all {
		switch c.family {
		case product:
			x, y := linear(s, c.L, wires), linear(s, c.R, wires)
			out := &wires[c.O[0].VID]
			out.Mul(&x, &y)
			if k == drop {
				one := fr.One()
				out.Add(out, &one)
			}
		case equality:
			if k != drop {
				wires[c.O[0].VID] = linear(s, c.L, wires)
			}
		case sum:
			value := linear(s, c.O, wires)
			digits := integer(value)
			for i, term := range c.L {
				switch {
				case digits.BitLen() <= len(c.L):
					wires[term.VID].SetUint64(uint64(digits.Bit(i)))
				case all[drop].family == boolean && all[drop].group == c.group && all[drop].weight == i:
					var weight fr.Element
					weight.SetBigInt(new(big.Int).Lsh(big.NewInt(1), uint(i)))
					wires[term.VID].Div(&value, &weight)
				}
			}
		}
	}
	return wires
}

// falsehood returns inputs that are false in the part that a constraint guards, and only there.
func falsehood(c rank1) (a assignment) {
	for j := range a.from { // odd and uneven, so that no product has a factor of zero
		a.from[j].SetUint64(uint64(1000 + 7*j))
		a.to[j].SetUint64(uint64(2000 + 9*j))
	}
	a.fromSalt.SetUint64(3)
	a.toSalt.SetUint64(5)
	if c.group < 0 {
		if c.family == equality {
			a.fromShown, a.toShown = new(fr.Element), new(fr.Element)
		}
		return a // a hash: forge moves the commitment
	}
	if i := c.group - 3*wire.NumCounters; i >= 0 {
		a.rows[i].b.SetOne() // slack −1
		return a
	}
	switch j := c.group / 3; c.group % 3 {
	case 0:
		a.from[j] = signed(-1)
		a.to[j].SetZero()
	case 1:
		a.from[j].SetUint64(1<<32 - 1)
		a.to[j].SetUint64(1 << 32)
	case 2:
		a.from[j].SetUint64(8)
		a.to[j].SetUint64(7)
	}
	return a
}

// TestEveryRank1ConstraintIsNeeded goes below TestEveryConstraintIsNeeded, to the system that keys are made for: each of its 1,735
// constraints is left out in turn, and a full set of wires of a false statement must break that one and no other. Whoever proves with
// wires of their own choosing could then prove the false statement without it.
func TestEveryRank1ConstraintIsNeeded(t *testing.T) {
	s := system(t)
	all := take(t, s)
	count := map[family]int{}
	for drop, c := range all {
		count[c.family]++
		wires := forge(s, all, falsehood(c).inputs(), drop)
		if holds(wires[1 : 1+numPublic+numSecret]) {
			t.Errorf("constraint %d (family %d, group %d): the statement is true, which forges nothing", drop, c.family, c.group)
		}
		for k, other := range all {
			x, y, z := linear(s, other.L, wires), linear(s, other.R, wires), linear(s, other.O, wires)
			if x.Mul(&x, &y); x.Equal(&z) == (k == drop) {
				t.Fatalf("without constraint %d (family %d, group %d): constraint %d holds: %v", drop, c.family, c.group, k, x.Equal(&z))
			}
		}
	}
	// Two hashes of two blocks that are not constant, 62 S-boxes of three products each, and 28 products of rows.
	want := map[family]int{product: 2*2*62*3 + 28, boolean: 21*32 + 4*66, sum: 25, equality: 2}
	if fmt.Sprint(count) != fmt.Sprint(want) {
		t.Errorf("constraints by family %v, want %v", count, want)
	}
}
