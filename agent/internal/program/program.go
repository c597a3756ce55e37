// Package program reads what the car pins: the program's signed documents and the identity of its attestation ECU.
//
// It refuses documents that do not verify under the pinned root or are of another environment, and an ECU of another program.
package program

import (
	"fmt"

	"rawstone/pkg/attest"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A Program is what the files say, checked.
type Program struct {
	*terms.Documents
	// ECU is the key of the car's attestation ECU.
	ECU wire.PublicKey
}

// Load reads the documents, and the ECU's identity from its own file.
func Load(files terms.Files, identity string, environment wire.Environment) (*Program, error) {
	documents, err := terms.Load(files, environment)
	if err != nil {
		return nil, err
	}
	text, err := terms.ReadDocument(identity)
	if err != nil {
		return nil, err
	}
	ecu, err := attest.ParseIdentity(text)
	if err != nil {
		return nil, fmt.Errorf("cannot use ECU identity %s: %w", identity, err)
	}
	if ecu.Program != documents.ProgramID {
		return nil, fmt.Errorf("cannot use ECU identity %s: it belongs to another program", identity)
	}
	return &Program{Documents: documents, ECU: ecu.Key}, nil
}
