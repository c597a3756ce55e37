// Package vectortest keeps conformance vectors: JSON files in testdata that hold inputs and the exact bytes to be made of them, for
// other implementations to check themselves by. As net/http/httptest it is code for tests only: it registers the test flag -update,
// knows every secret key that it makes, and must never be part of a program.
//
// Everything here is the same on each run and machine: keys and hashes follow from names, signatures take no randomness. A file is
// rewritten only by -update, and never where CI is set: CI compares with what is stored and must not store what it finds. The package
// imports nothing of this module.
package vectortest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the conformance vectors in testdata; refused where CI is set")

// Octets are bytes that JSON spells in lower-case hexadecimal.
type Octets []byte

// MarshalText implements encoding.TextMarshaler.
func (o Octets) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(o)), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *Octets) UnmarshalText(text []byte) (err error) {
	*o, err = hex.DecodeString(string(text))
	return err
}

// Pattern returns n bytes that count up from first, 0 after 255.
func Pattern(first byte, n int) Octets {
	b := make(Octets, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

// Hash returns the SHA-256 of "rawstone test vector: " and name: a secret, an identifier or a salt of which nobody has to ask where it
// comes from.
func Hash(name string) [sha256.Size]byte {
	return sha256.Sum256([]byte("rawstone test vector: " + name))
}

// A Signer is a key of P-256 whose secret everybody knows. It signs without randomness (RFC 6979), so that a vector is the same
// whenever it is made.
type Signer struct {
	*ecdsa.PrivateKey
	Secret Octets // 32 bytes, big-endian
}

// Key returns the key whose secret is Hash(name).
func Key(t testing.TB, name string) Signer {
	t.Helper()
	return KeyOf(t, Hash(name))
}

// KeyOf returns the key of a secret, big-endian.
func KeyOf(t testing.TB, secret [sha256.Size]byte) Signer {
	t.Helper()
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), secret[:])
	if err != nil {
		t.Fatal(err)
	}
	return Signer{k, secret[:]}
}

// Sign implements crypto.Signer; it reads no randomness.
func (s Signer) Sign(_ io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return s.PrivateKey.Sign(nil, digest, o)
}

// Update reports whether the test runs with -update, and so must Write its vectors before it reads them.
func Update() bool { return *update }

// Write stores v as the JSON file at path. Where CI is set it fails the test and leaves the file alone.
func Write(t testing.TB, path string, v any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal("-update is refused where CI is set: rewrite the vectors on a machine of your own and review the difference")
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Read decodes the JSON file at path into v. A field that v does not have fails the test: nothing checks it.
func Read(t testing.TB, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("%s: text after the vectors", path)
	}
}
