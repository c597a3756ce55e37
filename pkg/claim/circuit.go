package claim

import (
	"errors"
	"fmt"
	"math/big"
	"sync"

	"github.com/consensys/gnark-crypto/ecc"
	constraint "github.com/consensys/gnark/constraint/bn254"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/frontend/cs/r1cs"
	"github.com/consensys/gnark/logger"
	"github.com/consensys/gnark/std/hash"
	"github.com/consensys/gnark/std/hash/poseidon2"

	"rawstone/pkg/wire"
)

// A circuit is claim/v1. The order of its fields is the order of its inputs: publicInputs and Prove follow it.
type circuit struct {
	CFrom frontend.Variable                 `gnark:",public"`
	CTo   frontend.Variable                 `gnark:",public"`
	Rows  [wire.RowsPerStatement]circuitRow `gnark:",public"`
	From  circuitOpening
	To    circuitOpening
}

type circuitRow struct {
	A [wire.NumCounters]frontend.Variable `gnark:",public"`
	B frontend.Variable                   `gnark:",public"`
}

type circuitOpening struct {
	Counters [wire.NumCounters]frontend.Variable
	Salt     frontend.Variable
}

// Define states the constraints. Range checks are bit decompositions: gnark's lookup-based ones would add a commitment to the
// proof.
func (c *circuit) Define(api frontend.API) error {
	h, err := poseidon2.New(api)
	if err != nil {
		return err
	}
	api.AssertIsEqual(c.From.commit(api, h), c.CFrom)
	api.AssertIsEqual(c.To.commit(api, h), c.CTo)

	var growth [wire.NumCounters]frontend.Variable
	for j := range growth {
		// Without the first two the packing would not bind; without the third a counter could run backwards.
		api.ToBinary(c.From.Counters[j], counterBits)
		api.ToBinary(c.To.Counters[j], counterBits)
		growth[j] = api.Sub(c.To.Counters[j], c.From.Counters[j])
		api.ToBinary(growth[j], counterBits)
	}
	for _, r := range c.Rows {
		slack := api.Neg(r.B)
		for j, a := range r.A {
			slack = api.Add(slack, api.Mul(a, growth[j]))
		}
		api.ToBinary(slack, slackBits)
	}
	return nil
}

// commit is Commit inside the circuit.
func (o *circuitOpening) commit(api frontend.API, h hash.FieldHasher) frontend.Variable {
	packed := frontend.Variable(0)
	for _, c := range o.Counters {
		packed = api.Add(api.Mul(packed, uint64(1)<<counterBits), c)
	}
	h.Reset()
	h.Write(new(big.Int).SetBytes([]byte(tagText)), packed, o.Salt)
	return h.Sum()
}

// compile returns the constraint system of a circuit.
func compile(c frontend.Circuit) (*constraint.R1CS, error) {
	compiled, err := frontend.Compile(ecc.BN254.ScalarField(), r1cs.NewBuilder, c)
	if err != nil {
		return nil, fmt.Errorf("cannot compile circuit: %w", err)
	}
	system, ok := compiled.(*constraint.R1CS)
	if !ok {
		return nil, errors.New("cannot compile circuit: not a rank-1 system over BN254")
	}
	return system, nil
}

// silence turns off gnark's logger, which is one for the whole process and writes to standard output, timings of proofs among
// it. Every constructor of this package calls it; it is done once, because gnark's switch is not safe to throw while another
// goroutine proves.
var silence = sync.OnceFunc(logger.Disable)
