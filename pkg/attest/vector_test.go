package attest

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/wire"
)

var update = flag.Bool("update", false, "rewrite the conformance vector in testdata")

// A vector is the conformance vector in testdata: bytes in hexadecimal, the identity as text.
type vector struct {
	Comment     string        `json:"comment"`
	PrivateKey  string        `json:"private_key"`
	PublicKey   string        `json:"public_key"`
	ECUKeyID    string        `json:"ecu_key_id"`
	Program     string        `json:"program"`
	Seq         uint64        `json:"seq"`
	Day         uint32        `json:"day"`
	Commitment  string        `json:"commitment"`
	SignedBytes string        `json:"signed_bytes"`
	Signature   string        `json:"signature_rfc6979"`
	Counters    wire.Counters `json:"counters"`
	Salt        string        `json:"salt"`
	Message     string        `json:"message"`
	Request     string        `json:"request_last_32"`
	Identity    string        `json:"identity"`
}

func makeVector(t *testing.T) vector {
	key, id := fixedIdentity(t)
	m := fixedMessage()
	m.Snapshot = id.Snapshot
	text, err := signedBytes(key.Public(), id.Program, m.Snapshot.Head())
	if err != nil {
		t.Fatal(err)
	}
	message, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	request, err := Request{Last: MaxLast}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	identity, err := EncodeIdentity(id)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	kid := id.Key.ID()
	return vector{
		Comment: "Snapshot signing: signed_bytes is deterministic CBOR, the signature is r then s with low S over its SHA-256, " +
			"its nonce by RFC 6979; message and request are what the bus carries, identity is the ECU identity file.",
		PrivateKey:  hex.EncodeToString(secret),
		PublicKey:   hex.EncodeToString(id.Key[:]),
		ECUKeyID:    hex.EncodeToString(kid[:]),
		Program:     id.Program.String(),
		Seq:         m.Snapshot.Seq,
		Day:         m.Snapshot.Day,
		Commitment:  hex.EncodeToString(m.Snapshot.Commitment[:]),
		SignedBytes: hex.EncodeToString(text),
		Signature:   hex.EncodeToString(m.Snapshot.Signature[:]),
		Counters:    m.Opening.Counters,
		Salt:        hex.EncodeToString(m.Opening.Salt[:]),
		Message:     hex.EncodeToString(message),
		Request:     hex.EncodeToString(request),
		Identity:    string(identity),
	}
}

func TestVector(t *testing.T) {
	path := filepath.Join("testdata", "snapshot.json")
	got := makeVector(t)
	if *update {
		b, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want vector
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("vector differs (-stored +made):\n%s", d)
	}

	// The stored bytes alone must verify, by this package and by the standard library over the stored text.
	id, err := ParseIdentity([]byte(want.Identity))
	if err != nil {
		t.Fatal(err)
	}
	pub, err := id.Key.Key()
	if err != nil {
		t.Fatal(err)
	}
	message, _ := hex.DecodeString(want.Message)
	m, err := DecodeMessage(message)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(pub, fixedProgram(), m.Snapshot); err != nil {
		t.Error(err)
	}
	text, _ := hex.DecodeString(want.SignedBytes)
	digest := sha256.Sum256(text)
	r, s := new(big.Int).SetBytes(m.Snapshot.Signature[:32]), new(big.Int).SetBytes(m.Snapshot.Signature[32:])
	if !ecdsa.Verify(pub, digest[:], r, s) {
		t.Error("stored signature does not match the stored text")
	}
}
