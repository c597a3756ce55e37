package claim

import (
	"bytes"
	"errors"
	"fmt"

	groth16 "github.com/consensys/gnark/backend/groth16/bn254"

	"rawstone/pkg/claim/internal/batch"
	"rawstone/pkg/claim/internal/file"
	"rawstone/pkg/wire"
)

// A Verifier checks proofs under one verifying key. It is safe for concurrent use.
type Verifier struct {
	key   *groth16.VerifyingKey
	batch *batch.Verifier
}

// OpenVerifier loads the verifying key from dir, whose hash must be want's; the other hashes and the environment are not looked
// at. It turns off gnark's logger for the whole process.
func OpenVerifier(dir string, want Lock) (*Verifier, error) {
	silence()
	b, err := file.ReadHashed(dir, verifyingFile, want.VerifyingKey, MaxFileLen)
	if err != nil {
		return nil, err
	}
	key := new(groth16.VerifyingKey)
	if _, err := key.ReadFrom(bytes.NewReader(b)); err != nil {
		return nil, fmt.Errorf("cannot decode %s: %w", verifyingFile, err)
	}
	if key.NbPublicWitness() != numPublic || len(key.CommitmentKeys) != 0 {
		return nil, errors.New("cannot use verifying key: it is not for circuit claim/v1")
	}
	return &Verifier{key: key, batch: batch.New(key)}, nil
}

// Verify returns nil when p proves s. Whatever bytes p holds, it returns.
func (v *Verifier) Verify(s Statement, p wire.Proof) error {
	public, err := s.publicInputs()
	if err != nil {
		return fmt.Errorf("cannot verify proof: %w", err)
	}
	proof, err := decodeProof(p)
	if err != nil {
		return fmt.Errorf("cannot verify proof: %w", err)
	}
	if err := groth16.Verify(proof, v.key, public); err != nil {
		return errors.New("cannot verify proof: it does not prove the statement")
	}
	return nil
}
