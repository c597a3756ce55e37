package account

import (
	"crypto"
	"errors"
	"fmt"

	"github.com/veraison/go-cose"

	"rawstone/pkg/wire"
)

const (
	contextKey    = "rawstone/account-key/v1"
	contextFormer = "rawstone/account-key-former/v1"
)

// ErrFormer is for a request that replaces a key which has not signed that.
var ErrFormer = errors.New("the key in force has not signed its replacement")

// A KeyRequest asks to register the key that signs an account's requests, and is signed with that key. It names the key that it replaces, so
// that it is good for one change only, and that key signs the very same payload, under a context of its own: whoever may ask in the
// account's name, and no more, cannot take it over. The first key has nobody to agree: whether whoever sends it may speak for the account is
// not for the request to say.
type KeyRequest struct {
	Program wire.Hash `cbor:"0,keyasint"`
	Account string    `cbor:"1,keyasint"`
	Nonce   [16]byte  `cbor:"2,keyasint"`
	// Key is the new key, and Replaces names the one in force, zero when there is none.
	Key      wire.PublicKey `cbor:"3,keyasint"`
	Replaces wire.KeyID     `cbor:"4,keyasint"`
}

// Validate checks bounds, that there is a nonce, and that the key is a point.
func (r *KeyRequest) Validate() error {
	if err := checkNames(r.Nonce, r.Account); err != nil {
		return err
	}
	if r.Program.IsZero() {
		return errors.New("request lacks its program")
	}
	_, err := r.Key.Key()
	return err
}

// SealKeyRequest signs a request with the new key.
func SealKeyRequest(key crypto.Signer, r *KeyRequest) ([]byte, error) {
	return seal(key, contextKey, r)
}

// SealFormer has the key that a request replaces agree to it.
func SealFormer(former crypto.Signer, r *KeyRequest) ([]byte, error) {
	return seal(former, contextFormer, r)
}

// OpenKeyRequest checks a request for the program and the account, and returns the new key. inForce is the account's key, zero for none, and
// former what it signed, nil for none; ErrFormer when that is not the same request.
func OpenKeyRequest(program wire.Hash, account string, inForce wire.PublicKey, request, former []byte) (key wire.PublicKey, err error) {
	claimed, err := readKeyRequest(request)
	if err != nil {
		return key, err
	}
	r := new(KeyRequest)
	id, err := open(claimed.Key, contextKey, r, request)
	if err != nil {
		return key, err
	}
	if err := checkFor(r.Program, program, r.Account, account); err != nil {
		return key, err
	}
	var replaces wire.KeyID
	if inForce != (wire.PublicKey{}) {
		replaces = inForce.ID()
	}
	if r.Replaces != replaces {
		return key, errors.New("cannot accept request: it replaces another key than the one in force")
	}
	if replaces == (wire.KeyID{}) {
		if len(former) > 0 {
			return key, errors.New("cannot accept request: there is no key in force that could have signed it")
		}
		return r.Key, nil
	}
	switch agreed, err := open(inForce, contextFormer, new(KeyRequest), former); {
	case err != nil:
		return key, fmt.Errorf("%w: %w", ErrFormer, err)
	case agreed != id:
		return key, fmt.Errorf("%w: it has signed another request", ErrFormer)
	}
	return r.Key, nil
}

// readKeyRequest returns what a request says before anybody knows who signed it: it names the key under which it is checked.
func readKeyRequest(b []byte) (*KeyRequest, error) {
	if len(b) > MaxRequestLen {
		return nil, fmt.Errorf("cannot accept request: %d bytes, at most %d allowed", len(b), MaxRequestLen)
	}
	var m cose.Sign1Message
	if err := m.UnmarshalCBOR(b); err != nil {
		return nil, errors.New("cannot accept request: it is no COSE_Sign1")
	}
	r := new(KeyRequest)
	return r, wire.Unmarshal(m.Payload, r, MaxRequestLen)
}
