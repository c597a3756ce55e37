// Package snapshot opens what the attestation ECU says: it refuses bytes that are no message, a snapshot that this car's ECU did not sign
// for the program, and an opening that is not that of its commitment. It keeps nothing.
package snapshot

import (
	"crypto/ecdsa"
	"errors"

	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/wire"
)

// Open reads one message of the ECU whose key is pub.
func Open(pub *ecdsa.PublicKey, program wire.Hash, b []byte) (*attest.Message, error) {
	m, err := attest.DecodeMessage(b)
	if err != nil {
		return nil, err
	}
	if err := attest.Verify(pub, program, m.Snapshot); err != nil {
		return nil, err
	}
	if claim.Commit(m.Opening) != m.Snapshot.Commitment {
		return nil, errors.New("its opening does not match its commitment")
	}
	return m, nil
}
