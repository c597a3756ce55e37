package tlog

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// GenerateKey makes a key that signs checkpoints: the secret and the public key as the texts of C2SP signed-note. The name is the
// log's origin.
func GenerateKey(name string) (secret, verifier string, err error) {
	secret, verifier, err = note.GenerateKey(rand.Reader, name)
	if err != nil {
		return "", "", fmt.Errorf("cannot make log key: %w", err)
	}
	return secret, verifier, nil
}

// Verifier returns the verifier text that belongs to the text of a log's secret key.
func Verifier(secret string) (string, error) {
	s, err := note.NewSigner(secret)
	if err != nil {
		return "", fmt.Errorf("cannot read log key: %w", err)
	}
	// PRIVATE+KEY+name+hash+base64, of which only the last may hold another plus: the base64 of 1 (Ed25519) and the seed.
	parts := strings.SplitN(secret, "+", 5)
	raw, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(raw) != 1+ed25519.SeedSize {
		return "", errors.New("cannot read log key: its secret is not an Ed25519 seed")
	}
	v, err := note.NewEd25519VerifierKey(s.Name(), ed25519.NewKeyFromSeed(raw[1:]).Public().(ed25519.PublicKey))
	if err != nil {
		return "", fmt.Errorf("cannot read log key: %w", err)
	}
	return v, nil
}
