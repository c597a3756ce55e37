package attest

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"math/big"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

// A vector is the conformance vector in testdata.
type vector struct {
	Comment     string            `json:"comment"`
	PrivateKey  vectortest.Octets `json:"private_key"`
	PublicKey   vectortest.Octets `json:"public_key"`
	ECUKeyID    vectortest.Octets `json:"ecu_key_id"`
	Program     vectortest.Octets `json:"program"`
	Seq         uint64            `json:"seq"`
	Day         uint32            `json:"day"`
	Commitment  vectortest.Octets `json:"commitment"`
	SignedBytes vectortest.Octets `json:"signed_bytes"`
	Signature   vectortest.Octets `json:"signature_rfc6979"`
	Counters    wire.Counters     `json:"counters"`
	Salt        vectortest.Octets `json:"salt"`
	Message     vectortest.Octets `json:"message"`
	Request     vectortest.Octets `json:"request_last_32"`
	Identity    string            `json:"identity"`
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
	kid := id.Key.ID()
	return vector{
		Comment: "Snapshot signing: signed_bytes is deterministic CBOR, the signature is r then s with low S over its SHA-256, " +
			"its nonce by RFC 6979; message and request are what the bus carries, identity is the ECU identity file.",
		PrivateKey:  key.Secret,
		PublicKey:   id.Key[:],
		ECUKeyID:    kid[:],
		Program:     id.Program[:],
		Seq:         m.Snapshot.Seq,
		Day:         m.Snapshot.Day,
		Commitment:  m.Snapshot.Commitment[:],
		SignedBytes: text,
		Signature:   m.Snapshot.Signature[:],
		Counters:    m.Opening.Counters,
		Salt:        m.Opening.Salt[:],
		Message:     message,
		Request:     request,
		Identity:    string(identity),
	}
}

func TestVector(t *testing.T) {
	path := filepath.Join("testdata", "snapshot.json")
	got := makeVector(t)
	if vectortest.Update() {
		vectortest.Write(t, path, got)
	}
	var want vector
	vectortest.Read(t, path, &want)
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
	m, err := DecodeMessage(want.Message)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(pub, fixedProgram(), m.Snapshot); err != nil {
		t.Error(err)
	}
	digest := sha256.Sum256(want.SignedBytes)
	r, s := new(big.Int).SetBytes(m.Snapshot.Signature[:32]), new(big.Int).SetBytes(m.Snapshot.Signature[32:])
	if !ecdsa.Verify(pub, digest[:], r, s) {
		t.Error("stored signature does not match the stored text")
	}
}
