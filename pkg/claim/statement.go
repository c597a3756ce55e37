// Package claim proves in zero knowledge that an ECU's counters grew as a policy asks, and checks such proofs.
//
// The circuit claim/v1 is a Groth16 circuit over BN254. Public are two commitments and four rows; private are the openings of
// both. It proves that both commitments open, that every counter and every growth fits 32 bits, and that no row's slack is
// negative. Statement.Check is the same predicate in plain Go; tests hold the two together.
//
// A verifier builds every public input from a Statement that it assembled itself from snapshots and policy, never from a sender.
// Bounds that the circuit relies on and does not prove (rows, canonical commitments) are checked when the public inputs are built,
// on both sides. A proof is 128 bytes in one accepted spelling; it is malleable all the same (anyone can re-randomise a Groth16
// proof), so nothing may be keyed on its bytes.
//
// The package refuses keys whose SHA-256 is not the wanted one, and it judges neither signatures nor policies nor days. Its errors
// never name a counter's value. Setup knows the trapdoor of the keys it makes: they are for development only.
package claim

import (
	"errors"
	"fmt"
	"math/big"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"

	"rawstone/pkg/wire"
)

const (
	// counterBits bounds counters and their growth.
	counterBits = 32
	// slackBits bounds a row's slack: 7·2³¹·2³² + 2⁶² is below 2⁶⁶, and a negative slack is far above it in the field.
	slackBits = 66
	// numPublic and numSecret are the circuit's inputs: two commitments and the rows; two openings.
	numPublic = 2 + wire.RowsPerStatement*(wire.NumCounters+1)
	numSecret = 2 * (wire.NumCounters + 1)
)

// A Statement is what a proof says in public: the openings of From and To differ by a growth that satisfies every row. A row of
// zeros asks nothing.
type Statement struct {
	From, To wire.Commitment
	Rows     [wire.RowsPerStatement]wire.Row
}

// validate checks what the circuit takes for granted: bounds beyond which a slack could leave its 66 bits.
func (s Statement) validate() error {
	for i, r := range s.Rows {
		if r.B > wire.MaxRowBound || r.B < -wire.MaxRowBound {
			return fmt.Errorf("row %d: bound %d is beyond 2^62", i, r.B)
		}
	}
	return nil
}

// publicInputs returns the circuit's public inputs in its order. A commitment of the modulus or above is refused: it would be a
// second spelling of another one.
func (s Statement) publicInputs() (fr.Vector, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	v := make(fr.Vector, 0, numPublic)
	for _, c := range []wire.Commitment{s.From, s.To} {
		var e fr.Element
		if err := e.SetBytesCanonical(c[:]); err != nil {
			return nil, errors.New("commitment is not a canonical field element")
		}
		v = append(v, e)
	}
	for _, r := range s.Rows {
		for _, a := range r.A {
			v = append(v, signed(int64(a)))
		}
		v = append(v, signed(r.B))
	}
	return v, nil
}

// signed maps a signed integer into the field: −x to the modulus less x.
func signed(x int64) (e fr.Element) {
	e.SetInt64(x)
	return e
}

// Check is the circuit's native twin: it returns nil exactly when a proof of s from the two openings exists, and otherwise says
// what fails first. It computes without overflow.
func (s Statement) Check(from, to wire.Opening) error {
	if err := s.validate(); err != nil {
		return fmt.Errorf("cannot hold statement: %w", err)
	}
	if Commit(from) != s.From {
		return errors.New("cannot hold statement: the earlier opening does not match its commitment")
	}
	if Commit(to) != s.To {
		return errors.New("cannot hold statement: the later opening does not match its commitment")
	}
	for j, name := range wire.CounterNames() {
		if to.Counters[j] < from.Counters[j] {
			return fmt.Errorf("cannot hold statement: counter %s decreases", name)
		}
	}
	for i, r := range s.Rows {
		if slack(r, from.Counters, to.Counters).Sign() < 0 {
			return fmt.Errorf("cannot hold statement: row %d is not satisfied", i)
		}
	}
	return nil
}

// slack returns Σ A[j]·(to[j] − from[j]) − B; no counter may decrease.
func slack(r wire.Row, from, to wire.Counters) *big.Int {
	sum := big.NewInt(-r.B) // |B| ≤ 2⁶²
	for j, a := range r.A {
		growth := int64(to[j] - from[j])
		sum.Add(sum, big.NewInt(int64(a)*growth)) // |a| ≤ 2³¹ and growth < 2³²: the product fits 64 bits
	}
	return sum
}
