package key

import (
	"errors"

	"github.com/veraison/go-cose"
)

// Peek returns the payload of a COSE_Sign1 and the key that it says signed it. It checks no signature: nothing that it returns may be believed.
func Peek(b []byte) (payload []byte, id KeyID, err error) {
	var m cose.Sign1Message
	if err := m.UnmarshalCBOR(b); err != nil {
		return nil, id, err
	}
	kid, ok := m.Headers.Protected[cose.HeaderLabelKeyID].([]byte)
	if !ok || len(kid) != len(id) {
		return nil, id, errors.New("it does not name the key that signed it")
	}
	return m.Payload, KeyID(kid), nil
}
