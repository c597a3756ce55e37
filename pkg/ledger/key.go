package ledger

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"

	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const (
	validatorBlock = "RAWSTONE VALIDATOR KEY"
	nameHeader     = "Name"
)

// A ValidatorKey is what a validator holds: one Ed25519 key to cosign with and one for its VRF. They are different keys, because a VRF
// proof and a signature under one key are not known to be safe together.
type ValidatorKey struct {
	name   string
	cosign ed25519.PrivateKey
	vrf    ed25519.PrivateKey
}

// GenerateValidatorKey makes a validator's keys.
func GenerateValidatorKey(name string) (*ValidatorKey, error) {
	if name == "" || len(name) > 64 || strings.ContainsAny(name, ":\r\n") {
		return nil, errors.New("cannot make validator key: its name must be 1 to 64 bytes without colon or line break")
	}
	_, c, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make validator key: %w", err)
	}
	_, v, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make validator key: %w", err)
	}
	return &ValidatorKey{name, c, v}, nil
}

// Encode returns the secret keys as PEM text, for a file that only its owner may read.
func (k *ValidatorKey) Encode() []byte {
	return pem.EncodeToMemory(&pem.Block{
		Type:    validatorBlock,
		Headers: map[string]string{nameHeader: k.name},
		Bytes:   append(bytes.Clone(k.cosign.Seed()), k.vrf.Seed()...),
	})
}

// ParseValidatorKey reads what Encode wrote.
func ParseValidatorKey(text []byte) (*ValidatorKey, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != validatorBlock || len(block.Bytes) != 2*ed25519.SeedSize || block.Headers[nameHeader] == "" || len(bytes.TrimSpace(rest)) != 0 {
		return nil, fmt.Errorf("cannot read validator key: it is not one PEM block %q of 64 bytes with a name", validatorBlock)
	}
	return &ValidatorKey{
		name:   block.Headers[nameHeader],
		cosign: ed25519.NewKeyFromSeed(block.Bytes[:ed25519.SeedSize]),
		vrf:    ed25519.NewKeyFromSeed(block.Bytes[ed25519.SeedSize:]),
	}, nil
}

// Public returns what the program document says of the validator.
func (k *ValidatorKey) Public() terms.Validator {
	return terms.Validator{
		Name: k.name,
		Key:  [32]byte(k.cosign.Public().(ed25519.PublicKey)),
		VRF:  [32]byte(k.vrf.Public().(ed25519.PublicKey)),
	}
}

// Cosign signs a payload as the validator of the given index. What it is asked to sign is the caller's to have checked.
func (k *ValidatorKey) Cosign(index uint8, program wire.Hash, t Type, payload []byte) Cosignature {
	return Cosignature{Validator: index, Signature: [64]byte(ed25519.Sign(k.cosign, cosigned(program, t, payload)))}
}

// cosignatureHeader begins what is signed of a checkpoint (C2SP tlog-cosignature).
const cosignatureHeader = "cosignature/v1\n"

// CheckpointSigner returns what cosigns checkpoints (C2SP tlog-cosignature) with the key that cosigns blocks. Neither signature can be taken
// for the other: what is signed of a checkpoint begins with cosignature/v1 and a line break, and the signer refuses all else, while what is
// signed of blocks, leaves and orders begins with rawstone/.
func (k *ValidatorKey) CheckpointSigner() crypto.Signer { return checkpointSigner{k.cosign} }

type checkpointSigner struct{ key ed25519.PrivateKey }

func (s checkpointSigner) Public() crypto.PublicKey { return s.key.Public() }

func (s checkpointSigner) Sign(random io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if !bytes.HasPrefix(message, []byte(cosignatureHeader)) {
		return nil, errors.New("cannot sign: this is for cosignatures of checkpoints alone")
	}
	return s.key.Sign(random, message, opts)
}
