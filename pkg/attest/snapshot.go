// Package attest is what an attestation ECU says: the snapshot it signs once a program day, the message in which it hands the
// snapshot and its opening to the agent over the in-vehicle bus, the agent's request to repeat the last ones, and the identity
// file that an end-of-line tester reads from it.
//
// The signature is ECDSA P-256 over SHA-256 with low S, because automotive HSMs and TPMs hold such keys; it covers a text tag,
// the program, the key's own identifier and the public part of the snapshot, so that it serves for no other message, program,
// key or day. Decoders bound their input before they allocate and accept one spelling of each message only.
//
// attest.cddl beside this file is the grammar.
//
// The package refuses to judge what it carries: whether a commitment opens is package claim's question, whether a day or a
// sequence number is due is the agent's and the collector's. It moves no frames; package isotp does.
package attest

import (
	"crypto"
	"crypto/ecdsa"
	"fmt"

	"rawstone/pkg/can"
	"rawstone/pkg/codec"
	"rawstone/pkg/wire"
)

// The identifiers on the bus, both standard. ISO-TP flow control (ISO 15765-2) of messages on TxID travels on RxID, and of
// requests on RxID on TxID.
const (
	// TxID carries messages from the ECU to the agent.
	TxID can.ID = 0x6A0
	// RxID carries requests from the agent to the ECU.
	RxID can.ID = 0x6A1
)

// contextSnapshot begins the signed bytes of a snapshot and names their form.
const contextSnapshot = "rawstone/snapshot/v1"

// signed is the text under an ECU's signature.
type signed struct {
	_          struct{} `cbor:",toarray"`
	Context    string
	Program    wire.Hash
	ECU        wire.KeyID
	Seq        uint64
	Day        uint32
	Commitment wire.Commitment
}

// signedBytes returns the deterministic CBOR (RFC 8949 §4.2.1) of the text under the signature of the ECU key pub.
func signedBytes(pub crypto.PublicKey, program wire.Hash, h wire.Head) ([]byte, error) {
	key, err := wire.NewPublicKey(pub)
	if err != nil {
		return nil, err
	}
	return codec.Encode(signed{
		Context: contextSnapshot, Program: program, ECU: key.ID(), Seq: h.Seq, Day: h.Day, Commitment: h.Commitment,
	})
}

// Sign returns the snapshot seq of a program day with the commitment c, signed by an ECU's P-256 key. The caller keeps seq
// strictly increasing: a second snapshot under one seq would make two heads of one.
func Sign(signer crypto.Signer, program wire.Hash, seq uint64, day uint32, c wire.Commitment) (wire.Snapshot, error) {
	s := wire.Snapshot{Seq: seq, Day: day, Commitment: c}
	b, err := signedBytes(signer.Public(), program, s.Head())
	if err != nil {
		return wire.Snapshot{}, fmt.Errorf("cannot sign snapshot: %w", err)
	}
	if s.Signature, err = wire.Sign(signer, b); err != nil {
		return wire.Snapshot{}, fmt.Errorf("cannot sign snapshot: %w", err)
	}
	return s, nil
}

// Verify checks that the ECU key pub signed the snapshot for the program. A signature with s in the upper half of the order is
// refused.
func Verify(pub *ecdsa.PublicKey, program wire.Hash, s wire.Snapshot) error {
	b, err := signedBytes(pub, program, s.Head())
	if err != nil {
		return fmt.Errorf("cannot verify snapshot: %w", err)
	}
	if err := wire.Verify(pub, b, s.Signature); err != nil {
		return fmt.Errorf("cannot verify snapshot: %w", err)
	}
	return nil
}
