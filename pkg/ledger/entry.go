package ledger

import (
	"errors"
	"fmt"

	"rawstone/pkg/codec"
	"rawstone/pkg/wire"
)

// A Type says what an entry's body holds.
type Type uint8

// The types of entries.
const (
	TypeProgram    Type = iota + 1 // the signed program document, first of all entries
	TypeCharter                    // a signed data charter
	TypePolicy                     // a signed policy
	TypeBinding                    // a Binding: an ECU key bound to a vehicle and an account
	TypeCredit                     // a Credit
	TypeLeaves                     // the set of a day's leaves, before any seed that orders them
	TypeDay                        // the order of a day's leaves and its weights root
	TypeBlock                      // the block of one drop
	TypeHandover                   // a Handover: a key's binding closed
	TypeAccount                    // an account.Change: an account opened, activated or given another key
	TypeGrant                      // an account.Grant: crystals given
	TypeBox                        // an account.Box: a mine box asked for; the second block after it opens it
	TypeOffers                     // signed cultivation.Offers: tasks, boxes with their odds, catalogue
	TypeRedemption                 // an account.Redemption: stones used
	TypeWitness                    // a signed Witness: who the validators are from a day on
)

// MaxBodyLen bounds the body of an entry in bytes.
const MaxBodyLen = 32 << 10

// An Entry is one leaf of the log.
type Entry struct {
	// Number is the entry's index in the log, given by the settler.
	Number uint64 `cbor:"0,keyasint"`
	Type   Type   `cbor:"1,keyasint"`
	Body   []byte `cbor:"2,keyasint"`
}

// Encode returns the entry's bytes, which the log hashes (RFC 6962 §2.1).
func (e *Entry) Encode() ([]byte, error) {
	if len(e.Body) > MaxBodyLen {
		return nil, fmt.Errorf("cannot encode entry: body of %d bytes, at most %d allowed", len(e.Body), MaxBodyLen)
	}
	return codec.Encode(e)
}

// DecodeEntry reads an entry.
func DecodeEntry(b []byte) (*Entry, error) {
	var e Entry
	if err := codec.Decode(b, &e, MaxBodyLen+32); err != nil {
		return nil, err
	}
	if e.Type < TypeProgram || e.Type > TypeWitness {
		return nil, fmt.Errorf("cannot accept entry: unknown type %d", e.Type)
	}
	if len(e.Body) > MaxBodyLen {
		return nil, fmt.Errorf("cannot accept entry: body of %d bytes, at most %d allowed", len(e.Body), MaxBodyLen)
	}
	return &e, nil
}

// A Credit is what the log publishes of a credit: how much, from when, and a blinded hash of whose it is.
type Credit struct {
	// Blind is CreditOpening.Blind of the opening that the collector keeps.
	Blind wire.Hash `cbor:"0,keyasint"`
	// Km is the effective distance in kilometres, 0 for kinds that credit none.
	Km uint32 `cbor:"1,keyasint"`
	// Effective is the program day from which it counts.
	Effective uint32 `cbor:"2,keyasint"`
}

// A CreditOpening says whose a credit is: owners, validators and the auditor get it, the public does not.
type CreditOpening struct {
	Salt    [32]byte   `cbor:"0,keyasint"`
	Account string     `cbor:"1,keyasint"`
	ECU     wire.KeyID `cbor:"2,keyasint"`
	ToSeq   uint64     `cbor:"3,keyasint"`
	Kind    string     `cbor:"4,keyasint"`
}

// Blind returns the hash that hides the opening: SHA-256 over a tag and the deterministic encoding, whose first field is a random
// 32-byte salt.
func (o *CreditOpening) Blind() (wire.Hash, error) { return blind("rawstone/credit/v1", o) }

// A Binding is what the log publishes when an ECU key is bound to a vehicle: a blinded hash.
type Binding struct {
	Blind wire.Hash `cbor:"0,keyasint"`
}

// A BindingOpening says which key was bound to what, and the head before which nothing counts.
type BindingOpening struct {
	Salt    [32]byte       `cbor:"0,keyasint"`
	Vehicle string         `cbor:"1,keyasint"`
	Account string         `cbor:"2,keyasint"`
	ECU     wire.PublicKey `cbor:"3,keyasint"`
	Head    wire.Head      `cbor:"4,keyasint"`
	// Signature is the ECU's of the snapshot that is Head (package attest). Bindings from before it was logged have none.
	Signature wire.Signature `cbor:"5,keyasint,omitzero"`
}

// Blind returns the hash that hides the opening.
func (o *BindingOpening) Blind() (wire.Hash, error) { return blind("rawstone/binding/v1", o) }

// A Handover is what the log publishes when an ECU key's binding is closed: a blinded hash.
type Handover struct {
	Blind wire.Hash `cbor:"0,keyasint"`
}

// A HandoverOpening says which key's binding was closed and where. A key that is revoked is never bound again.
type HandoverOpening struct {
	Salt [32]byte   `cbor:"0,keyasint"`
	ECU  wire.KeyID `cbor:"1,keyasint"`
	// Cut is the last sequence number that counts under the binding.
	Cut     uint64 `cbor:"2,keyasint"`
	Revoked bool   `cbor:"3,keyasint"`
}

// Blind returns the hash that hides the opening.
func (o *HandoverOpening) Blind() (wire.Hash, error) { return blind("rawstone/handover/v1", o) }

func blind(tag string, opening any) (wire.Hash, error) {
	h, err := codec.Blind(tag, opening)
	return h, err
}

// DecodeBody reads the body of an entry of the wanted type into v, a pointer to a struct whose fields have integer keys.
func (e *Entry) DecodeBody(want Type, v any) error {
	if e.Type != want {
		return errors.New("cannot read entry: it is of another type")
	}
	return codec.Decode(e.Body, v, MaxBodyLen)
}

// Credit reads the body of an entry of TypeCredit.
func (e *Entry) Credit() (c Credit, err error) { return c, e.DecodeBody(TypeCredit, &c) }

// Binding reads the body of an entry of TypeBinding.
func (e *Entry) Binding() (b Binding, err error) { return b, e.DecodeBody(TypeBinding, &b) }

// Handover reads the body of an entry of TypeHandover.
func (e *Entry) Handover() (h Handover, err error) { return h, e.DecodeBody(TypeHandover, &h) }
