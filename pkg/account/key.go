package account

import (
	"crypto"
	"errors"
	"fmt"

	"github.com/veraison/go-cose"

	"rawstone/pkg/wire"
)

const contextKey = "rawstone/account-key/v1"

// A KeyRequest asks to register the key that signs an account's requests, and is signed with that key. It names the key that it replaces, so
// that it is good for one change only. Whether whoever sends it may change the account's key is not for it to say.
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

// OpenKeyRequest checks a request for the program and the account, whose key in force is replaces, zero for none, and returns the new key.
func OpenKeyRequest(program wire.Hash, account string, replaces wire.KeyID, b []byte) (key wire.PublicKey, err error) {
	claimed, err := readKeyRequest(b)
	if err != nil {
		return key, err
	}
	r := new(KeyRequest)
	if _, err := open(claimed.Key, contextKey, r, b); err != nil {
		return key, err
	}
	if err := checkFor(r.Program, program, r.Account, account); err != nil {
		return key, err
	}
	if r.Replaces != replaces {
		return key, errors.New("cannot accept request: it replaces another key than the one in force")
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
