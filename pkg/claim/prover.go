package claim

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/consensys/gnark-crypto/ecc"
	groth16 "github.com/consensys/gnark/backend/groth16/bn254"
	"github.com/consensys/gnark/backend/witness"
	constraint "github.com/consensys/gnark/constraint/bn254"

	"rawstone/pkg/claim/internal/file"
	"rawstone/pkg/wire"
)

// A Prover makes proofs with one proving key. It is safe for concurrent use; proofs are made one after the other, so that their
// working memory is needed once.
type Prover struct {
	mu     sync.Mutex
	system *constraint.R1CS
	key    *groth16.ProvingKey
}

// OpenProver loads the circuit and the proving key from dir, whose hashes must be those of want; the verifying key and the
// environment are not looked at. It turns off gnark's logger for the whole process.
func OpenProver(dir string, want Lock) (*Prover, error) {
	circuit, err := file.Read(dir, circuitFile, MaxFileLen)
	if err != nil {
		return nil, err
	}
	key, err := file.Read(dir, provingFile, MaxFileLen)
	if err != nil {
		return nil, err
	}
	return NewProver(circuit, key, want)
}

// NewProver makes a prover of the contents of a circuit's and a proving key's file, whose hashes must be those of want. It turns off
// gnark's logger for the whole process.
func NewProver(circuit, key []byte, want Lock) (*Prover, error) {
	silence()
	for _, part := range []struct {
		name      string
		got, want wire.Hash
	}{{circuitFile, wire.ID(circuit), want.Circuit}, {provingFile, wire.ID(key), want.ProvingKey}} {
		if part.got != part.want {
			return nil, fmt.Errorf("cannot use %s: its SHA-256 is %s, want %s: fetch the file that the policy names", part.name, part.got, part.want)
		}
	}
	p := &Prover{system: new(constraint.R1CS), key: new(groth16.ProvingKey)}
	if _, err := p.system.ReadFrom(bytes.NewReader(circuit)); err != nil {
		return nil, fmt.Errorf("cannot decode %s: %w", circuitFile, err)
	}
	// The hash vouches for the points: checking each would only cost time.
	if _, err := p.key.UnsafeReadFrom(bytes.NewReader(key)); err != nil {
		return nil, fmt.Errorf("cannot decode %s: %w", provingFile, err)
	}
	if !p.fits() {
		return nil, errors.New("cannot use proving key: it and the circuit are not of one setup of claim/v1")
	}
	return p, nil
}

// fits reports whether the circuit has claim/v1's inputs and the key is for a circuit of its size. gnark would index out of range
// where they differ.
func (p *Prover) fits() bool {
	internal, secret, public := p.system.GetNbVariables()
	return public == numPublic+1 && secret == numSecret && // gnark counts the constant one as public
		len(p.key.InfinityA) == internal+secret+public && len(p.key.InfinityB) == internal+secret+public &&
		p.key.Domain.Cardinality == ecc.NextPowerOfTwo(uint64(p.system.GetNbConstraints())) &&
		len(p.key.CommitmentKeys) == 0
}

// Prove returns a proof that the two openings satisfy s. What Statement.Check refuses, Prove refuses with the same error.
func (p *Prover) Prove(s Statement, from, to wire.Opening) (wire.Proof, error) {
	if err := s.Check(from, to); err != nil {
		return wire.Proof{}, err
	}
	w, err := s.witness(from, to)
	if err != nil {
		return wire.Proof{}, fmt.Errorf("cannot prove statement: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	proof, err := groth16.Prove(p.system, p.key, w)
	if err != nil {
		// gnark's error spells out values of the failing constraint, which must not reach a log.
		return wire.Proof{}, errors.New("cannot prove statement: the circuit refuses what its native twin accepts")
	}
	return encodeProof(proof), nil
}

// witness returns the circuit's inputs in its order, public ones first.
func (s Statement) witness(from, to wire.Opening) (witness.Witness, error) {
	inputs, err := s.publicInputs()
	if err != nil {
		return nil, err
	}
	for _, o := range []wire.Opening{from, to} {
		for _, c := range o.Counters {
			inputs = append(inputs, signed(int64(c)))
		}
		inputs = append(inputs, element(o.Salt[:]))
	}
	w, err := witness.New(ecc.BN254.ScalarField())
	if err != nil {
		return nil, err
	}
	values := make(chan any, len(inputs))
	for _, e := range inputs {
		values <- e
	}
	close(values)
	if err := w.Fill(numPublic, numSecret, values); err != nil {
		return nil, err
	}
	return w, nil
}
