// Package envelope reads the files of documents that may be signed or not yet: policies, offers and changes of validators on their way
// from a source to the ledger. It tells what a signature says of itself and checks none; nothing that it returns may be believed.
package envelope

import (
	"fmt"

	"github.com/veraison/go-cose"

	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// coseSign1 is the first byte of a COSE_Sign1 (RFC 9052 §4.2): CBOR's tag 18.
const coseSign1 = 0xd2

// Read reads a document's file (terms.ReadDocument) and returns what is or is to be signed, and the key that the file says signed it, nil
// when nobody did.
func Read(path string) (payload []byte, signer *wire.KeyID, err error) {
	b, err := terms.ReadDocument(path)
	if err != nil {
		return nil, nil, err
	}
	if len(b) == 0 || b[0] != coseSign1 {
		return b, nil, nil
	}
	var m cose.Sign1Message
	if err := m.UnmarshalCBOR(b); err != nil {
		return nil, nil, fmt.Errorf("cannot read document %s: %w", path, err)
	}
	kid, ok := m.Headers.Protected[cose.HeaderLabelKeyID].([]byte)
	if !ok || len(kid) != len(wire.KeyID{}) {
		return nil, nil, fmt.Errorf("cannot read document %s: it does not name the key that signed it", path)
	}
	id := wire.KeyID(kid)
	return m.Payload, &id, nil
}
