package attest

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"

	"rawstone/pkg/codec"
	"rawstone/pkg/wire"
)

const (
	// MaxIdentityLen bounds an identity file in bytes.
	MaxIdentityLen = 1024

	identityType = "RAWSTONE ECU IDENTITY"
)

// An Identity is what the end-of-line tester reads from an ECU: its public key and its current snapshot, which becomes the first
// head of the key. It holds nothing secret.
type Identity struct {
	Key     wire.PublicKey
	Program wire.Hash
	// Snapshot is signed by Key for Program; its Seq is 0 at an ECU's birth.
	Snapshot wire.Snapshot
}

// fileIdentity is the content of an identity file.
type fileIdentity struct {
	_        struct{} `cbor:",toarray"`
	Version  uint8
	Key      wire.PublicKey
	Program  wire.Hash
	Snapshot wire.Snapshot
}

func (id Identity) validate() error {
	pub, err := id.Key.Key()
	if err != nil {
		return err
	}
	return Verify(pub, id.Program, id.Snapshot)
}

// EncodeIdentity returns the identity file: one PEM block (RFC 7468) of deterministic CBOR. An identity whose key did not sign its
// snapshot is refused.
func EncodeIdentity(id Identity) ([]byte, error) {
	if err := id.validate(); err != nil {
		return nil, fmt.Errorf("cannot encode ECU identity: %w", err)
	}
	b, err := codec.Encode(fileIdentity{Version: wire.Version, Key: id.Key, Program: id.Program, Snapshot: id.Snapshot})
	if err != nil {
		return nil, err
	}
	return armour(b), nil
}

func armour(b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: identityType, Bytes: b}) }

// ParseIdentity reads an identity file of at most MaxIdentityLen bytes and checks that its key signed its snapshot. It accepts
// only the exact text that EncodeIdentity makes. Whether the program is the reader's own is the reader's to check.
func ParseIdentity(text []byte) (*Identity, error) {
	if len(text) > MaxIdentityLen {
		return nil, fmt.Errorf("cannot read ECU identity: %d bytes, at most %d allowed", len(text), MaxIdentityLen)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != identityType {
		return nil, errors.New("cannot read ECU identity: no " + identityType + " block found: pass the file that the ECU wrote")
	}
	if !bytes.Equal(armour(block.Bytes), text) {
		return nil, errors.New("cannot read ECU identity: text beside or changes in its one block: pass the file as the ECU wrote it")
	}
	var f fileIdentity
	if err := codec.Decode(block.Bytes, &f, MaxIdentityLen); err != nil {
		return nil, err
	}
	if err := checkVersion("ECU identity", f.Version); err != nil {
		return nil, err
	}
	id := &Identity{Key: f.Key, Program: f.Program, Snapshot: f.Snapshot}
	if err := id.validate(); err != nil {
		return nil, fmt.Errorf("cannot accept ECU identity: %w", err)
	}
	return id, nil
}
