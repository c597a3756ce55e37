package claim

import (
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"pgregory.net/rapid"

	"rawstone/pkg/wire"
)

// circuitAccepts is what the prover's side of the circuit says, with the bounds that are checked outside of it.
func circuitAccepts(t testing.TB, s Statement, from, to wire.Opening) bool {
	t.Helper()
	w, err := s.witness(from, to)
	if err != nil {
		return false
	}
	return system(t).IsSolved(w) == nil
}

// TestTwin compares the native twin with the circuit on statements near every edge.
func TestTwin(t *testing.T) {
	counter := rapid.OneOf(rapid.SampledFrom([]uint32{0, 1, math.MaxInt32, 1 << 31, math.MaxUint32 - 1, math.MaxUint32}), rapid.Uint32())
	coefficient := rapid.OneOf(rapid.SampledFrom([]int32{0, 1, -1, math.MaxInt32, math.MinInt32}), rapid.Int32())
	bound := rapid.OneOf(rapid.SampledFrom([]int64{
		0, 1, -1, wire.MaxRowBound, -wire.MaxRowBound, wire.MaxRowBound + 1, -wire.MaxRowBound - 1, math.MaxInt64, math.MinInt64,
	}), rapid.Int64())
	opening := rapid.Custom(func(t *rapid.T) (o wire.Opening) {
		for j := range o.Counters {
			o.Counters[j] = counter.Draw(t, "counter")
		}
		for i := range o.Salt {
			o.Salt[i] = rapid.Byte().Draw(t, "salt")
		}
		return o
	})
	accepted, refused := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		from, to := opening.Draw(rt, "from"), opening.Draw(rt, "to")
		if rapid.IntRange(0, 7).Draw(rt, "order") > 0 {
			for j := range to.Counters {
				from.Counters[j], to.Counters[j] = min(from.Counters[j], to.Counters[j]), max(from.Counters[j], to.Counters[j])
			}
		}
		s := Statement{From: Commit(from), To: Commit(to)}
		for i := range s.Rows {
			for j := range s.Rows[i].A {
				s.Rows[i].A[j] = coefficient.Draw(rt, "coefficient")
			}
			s.Rows[i].B = bound.Draw(rt, "bound")
			// Most random rows fail by far; bring most of these to the edge, as far as a bound can.
			if rapid.IntRange(0, 7).Draw(rt, "edge") > 0 {
				sum := slack(wire.Row{A: s.Rows[i].A}, from.Counters, to.Counters)
				if sum.Sign() < 0 && !sum.IsInt64() {
					for j := range s.Rows[i].A {
						s.Rows[i].A[j] = max(s.Rows[i].A[j], -s.Rows[i].A[j]-1)
					}
					sum = slack(wire.Row{A: s.Rows[i].A}, from.Counters, to.Counters)
				}
				b := int64(wire.MaxRowBound)
				if sum.IsInt64() {
					b = max(-wire.MaxRowBound, min(wire.MaxRowBound, sum.Int64()))
				}
				s.Rows[i].B = b - int64(rapid.SampledFrom([]int{-1, 0, 0, 0, 0, 0, 0, 1, 2, 1000}).Draw(rt, "distance"))
			}
		}
		switch rapid.IntRange(0, 15).Draw(rt, "commitments") {
		case 0:
			s.From, s.To = s.To, s.From
		case 1:
			s.From[rapid.IntRange(1, 31).Draw(rt, "at")] ^= 1
		case 2:
			s.To[rapid.IntRange(1, 31).Draw(rt, "at")] ^= 1
		case 3:
			s.To = plusModulus(s.To)
		}
		err := s.Check(from, to)
		if circuit := circuitAccepts(t, s, from, to); (err == nil) != circuit {
			rt.Fatalf("twin says %v, circuit accepts: %v", err, circuit)
		}
		if err == nil {
			accepted++
		} else {
			refused++
		}
	})
	if accepted == 0 || refused == 0 {
		t.Errorf("%d statements accepted and %d refused: the comparison is one-sided", accepted, refused)
	}
}

// plusModulus returns the second spelling of a commitment.
func plusModulus(c wire.Commitment) (d wire.Commitment) {
	n := new(big.Int).SetBytes(c[:])
	n.Add(n, fr.Modulus()).FillBytes(d[:])
	return d
}

// TestTwinAtExtremes walks the largest and smallest slacks that bounds allow.
func TestTwinAtExtremes(t *testing.T) {
	var from, to wire.Opening
	for j := range to.Counters {
		to.Counters[j] = math.MaxUint32
	}
	base := Statement{From: Commit(from), To: Commit(to)}
	row := func(a int32, b int64) Statement {
		s := base
		for j := range s.Rows[2].A {
			s.Rows[2].A[j] = a
		}
		s.Rows[2].B = b
		return s
	}
	for _, c := range []struct {
		name string
		s    Statement
		want bool
	}{
		{"no rows", base, true},
		{"largest slack", row(math.MaxInt32, -wire.MaxRowBound), true},
		{"smallest slack", row(math.MinInt32, wire.MaxRowBound), false},
		{"all coefficients least", row(math.MinInt32, -wire.MaxRowBound), false},
		{"slack 0", row(1, 7*math.MaxUint32), true},
		{"slack -1", row(1, 7*math.MaxUint32+1), false},
		{"slack 0 of a negative row", row(-1, -7*math.MaxUint32), true},
		{"slack -1 of a negative row", row(-1, -7*math.MaxUint32+1), false},
		{"bound above 2^62", row(math.MaxInt32, wire.MaxRowBound+1), false},
		{"bound below -2^62", row(0, -wire.MaxRowBound-1), false},
		{"least bound of all", row(0, math.MinInt64), false},
	} {
		if err := c.s.Check(from, to); (err == nil) != c.want {
			t.Errorf("%s: twin says %v, want accepted %v", c.name, err, c.want)
		}
		if got := circuitAccepts(t, c.s, from, to); got != c.want {
			t.Errorf("%s: circuit accepts %v, want %v", c.name, got, c.want)
		}
	}
}

// TestVerifyRefusesStatements refuses what the circuit does not bound, whatever the proof.
func TestVerifyRefusesStatements(t *testing.T) {
	p, v := openProver(t), openVerifier(t)
	s, from, to := week()
	proof, err := p.Prove(s, from, to)
	if err != nil {
		t.Fatal(err)
	}
	for name, alter := range map[string]func(*Statement){
		"earlier commitment plus the modulus": func(s *Statement) { s.From = plusModulus(s.From) },
		"later commitment plus the modulus":   func(s *Statement) { s.To = plusModulus(s.To) },
		"bound beyond 2^62":                   func(s *Statement) { s.Rows[3].B = wire.MaxRowBound + 1 },
	} {
		other := s
		alter(&other)
		if err := v.Verify(other, proof); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if err := other.Check(from, to); err == nil {
			t.Errorf("%s: the twin accepts", name)
		}
	}
}

// TestCheckNamesNoValues keeps counters out of errors, which end in logs.
func TestCheckNamesNoValues(t *testing.T) {
	s, from, to := week()
	for want, alter := range map[string]func(*Statement, *wire.Opening, *wire.Opening){
		"cannot hold statement: the earlier opening does not match its commitment": func(_ *Statement, from, _ *wire.Opening) { from.Salt[0]++ },
		"cannot hold statement: the later opening does not match its commitment":   func(_ *Statement, _, to *wire.Opening) { to.Counters[0]-- },
		"cannot hold statement: counter odometer_m decreases": func(s *Statement, from, _ *wire.Opening) {
			from.Counters[0] = 158_961_901
			s.From = Commit(*from)
		},
		"cannot hold statement: row 0 is not satisfied": func(s *Statement, _, _ *wire.Opening) { s.Rows[0].B = 51_301 },
	} {
		s, from, to := s, from, to
		alter(&s, &from, &to)
		err := s.Check(from, to)
		if err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
		if err != nil && strings.Contains(err.Error(), "1589") {
			t.Errorf("error names a counter's value: %v", err)
		}
	}
}
