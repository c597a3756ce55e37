package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"rawstone/pkg/codec"
	"rawstone/pkg/wire"
)

// maxValidators bounds the validators of a program, as package wire does.
const maxValidators = 16

// Leaves commits to the set of a day's leaves before any seed that orders them.
type Leaves struct {
	// Day is the program day.
	Day uint32 `cbor:"0,keyasint"`
	// Count is the number of leaves, Weight their total W in kilometres.
	Count  uint64 `cbor:"1,keyasint"`
	Weight uint64 `cbor:"2,keyasint"`
	// Set is reward.SetHash of the leaves.
	Set wire.Hash `cbor:"3,keyasint"`
	// Validators are those whose VRF outputs make the day's seeds: indices into the program's validators, ascending.
	Validators []byte `cbor:"4,keyasint"`
}

// A Proof is one validator's VRF proof (RFC 9381, 80 bytes).
type Proof struct {
	_         struct{} `cbor:",toarray"`
	Validator uint8
	Proof     [80]byte
}

// A Day orders a day's leaves and commits to their weights root.
type Day struct {
	Day uint32 `cbor:"0,keyasint"`
	// Leaves is the hash of the day's leaves payload.
	Leaves wire.Hash `cbor:"1,keyasint"`
	// Proofs are on OrderAlpha(Leaves, Day); Withheld are the day's validators that gave none and are out from now on, as
	// package duty has it. Both ascend.
	Proofs   []Proof `cbor:"2,keyasint"`
	Withheld []byte  `cbor:"3,keyasint,omitempty"`
	// Order is the seed that orders the leaves.
	Order wire.Hash `cbor:"4,keyasint"`
	// Root, Count and Weight are the Merkle-sum tree's.
	Root   wire.Hash `cbor:"5,keyasint"`
	Count  uint64    `cbor:"6,keyasint"`
	Weight uint64    `cbor:"7,keyasint"`
}

// A Block is the result of one drop. It names no winner: shares follow from the day's leaves.
type Block struct {
	// Drop counts from 0 at genesis, none left out.
	Drop uint64 `cbor:"0,keyasint"`
	// Time is when the drop was due, in Unix seconds.
	Time int64 `cbor:"1,keyasint"`
	// Previous is the hash of the previous block's payload, zeros in the first.
	Previous wire.Hash `cbor:"2,keyasint"`
	// Program is the program document's identifier; Policies chains the identifiers of all charters, policies and
	// witness changes logged so far.
	Program  wire.Hash `cbor:"3,keyasint"`
	Policies wire.Hash `cbor:"4,keyasint"`
	// Day is the program day of Time; Root, Count and Weight are those of its Day entry.
	Day    uint32    `cbor:"5,keyasint"`
	Root   wire.Hash `cbor:"6,keyasint"`
	Count  uint64    `cbor:"7,keyasint"`
	Weight uint64    `cbor:"8,keyasint"`
	// CreditFrom and CreditTo bound the log numbers [CreditFrom, CreditTo) of the credits that Weight counts: from the first of them to the
	// day's leaves entry. They are equal when there are none.
	CreditFrom uint64 `cbor:"9,keyasint"`
	CreditTo   uint64 `cbor:"10,keyasint"`
	// Proofs are on DrawAlpha(Root, Drop), of the day's validators less Withheld; both are as in a Day.
	Proofs   []Proof   `cbor:"11,keyasint"`
	Withheld []byte    `cbor:"12,keyasint,omitempty"`
	Seed     wire.Hash `cbor:"13,keyasint"`
	// Height is h, the number of drops with weight before this one.
	Height uint64 `cbor:"14,keyasint"`
	// Units is K. Carry is what is left below a unit, and Supply all that was ever issued, both after this drop and in milli-stones.
	Units  uint64 `cbor:"15,keyasint"`
	Carry  uint64 `cbor:"16,keyasint"`
	Supply uint64 `cbor:"17,keyasint"`
	// Size and LogRoot are the log's checkpoint over all entries before this one.
	Size    uint64    `cbor:"18,keyasint"`
	LogRoot wire.Hash `cbor:"19,keyasint"`
	// Cultivated is all that mine boxes have given, in milli-stones, and Boxes how many were opened: this block's seed opens all that stand
	// before the block before it and are not open, so none whose asker could know the seed. Reserved is the worst case of those that are
	// logged since, which the next block opens. Redeemed is all that was redeemed before this block, in milli-stones.
	Cultivated uint64 `cbor:"20,keyasint,omitempty"`
	Boxes      uint64 `cbor:"21,keyasint,omitempty"`
	Reserved   uint64 `cbor:"22,keyasint,omitempty"`
	Redeemed   uint64 `cbor:"23,keyasint,omitempty"`
}

// record is a payload that validators cosign.
type record interface{ Validate() error }

// Validate checks bounds and order.
func (l *Leaves) Validate() error {
	if l.Count > l.Weight || (l.Count == 0) != (l.Weight == 0) {
		return fmt.Errorf("%d leaves cannot weigh %d km", l.Count, l.Weight)
	}
	if len(l.Validators) == 0 {
		return errors.New("leaves name no validator")
	}
	return checkSet(l.Validators)
}

// Validate checks bounds and order.
func (d *Day) Validate() error {
	if d.Count > d.Weight || (d.Count == 0) != (d.Weight == 0) {
		return fmt.Errorf("%d leaves cannot weigh %d km", d.Count, d.Weight)
	}
	return checkProofs(d.Proofs, d.Withheld)
}

// Validate checks bounds and order.
func (b *Block) Validate() error {
	if b.Count > b.Weight || (b.Count == 0) != (b.Weight == 0) {
		return fmt.Errorf("%d leaves cannot weigh %d km", b.Count, b.Weight)
	}
	if b.CreditFrom > b.CreditTo {
		return fmt.Errorf("credits from %d to %d are no range", b.CreditFrom, b.CreditTo)
	}
	return checkProofs(b.Proofs, b.Withheld)
}

func checkProofs(proofs []Proof, withheld []byte) error {
	if len(proofs) == 0 {
		return errors.New("no validator gave a VRF proof")
	}
	if err := checkSet(withheld); err != nil {
		return err
	}
	for _, p := range proofs {
		if slices.Contains(withheld, p.Validator) {
			return fmt.Errorf("validator %d both gave and withheld its proof", p.Validator)
		}
	}
	return checkSet(Provers(proofs))
}

// Provers returns whose proofs they are.
func Provers(proofs []Proof) []byte {
	set := make([]byte, len(proofs))
	for i, p := range proofs {
		set[i] = p.Validator
	}
	return set
}

// checkSet checks that validators are in bounds and strictly ascending.
func checkSet(set []byte) error {
	for i, v := range set {
		if v >= maxValidators || i > 0 && v <= set[i-1] {
			return fmt.Errorf("validators %v are not in ascending order below %d", set, maxValidators)
		}
	}
	return nil
}

// EncodePayload validates a *Leaves, *Day or *Block and returns its bytes.
func EncodePayload(r record) ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("cannot encode %s: %w", codec.Name(r), err)
	}
	return codec.Encode(r)
}

func decodePayload(b []byte, r record) error {
	if err := codec.Decode(b, r, MaxBodyLen); err != nil {
		return err
	}
	if err := r.Validate(); err != nil {
		return fmt.Errorf("cannot accept %s: %w", codec.Name(r), err)
	}
	return nil
}

// DecodeLeaves, DecodeDay and DecodeBlock read a payload.
func DecodeLeaves(b []byte) (*Leaves, error) { l := new(Leaves); return l, decodePayload(b, l) }

// DecodeDay reads the payload of a day entry.
func DecodeDay(b []byte) (*Day, error) { d := new(Day); return d, decodePayload(b, d) }

// DecodeBlock reads the payload of a block.
func DecodeBlock(b []byte) (*Block, error) { k := new(Block); return k, decodePayload(b, k) }

// String is what messages call the type.
func (t Type) String() string {
	names := [...]string{TypeProgram: "program", TypeCharter: "charter", TypePolicy: "policy", TypeBinding: "binding", TypeCredit: "credit",
		TypeLeaves: "leaves", TypeDay: "day", TypeBlock: "block", TypeHandover: "hand-over",
		TypeAccount: "account", TypeGrant: "grant", TypeBox: "box", TypeOffers: "offers", TypeRedemption: "redemption", TypeWitness: "witness"}
	if t == 0 || int(t) >= len(names) {
		return fmt.Sprintf("type %d", uint8(t))
	}
	return names[t]
}

// tag separates the hashes and signatures of the cosigned types from each other and from everything else.
func (t Type) tag() string { return fmt.Sprintf("rawstone/ledger/%d/v1", t) }

// PayloadHash returns the hash of a cosigned payload: SHA-256 over its type's tag and its bytes.
func PayloadHash(t Type, payload []byte) wire.Hash {
	return sha256.Sum256(append([]byte(t.tag()), payload...))
}

// ChainPolicy returns the Policies hash of a block after one more charter, policy or witness entry; it starts from zeros.
func ChainPolicy(chain wire.Hash, body []byte) wire.Hash {
	id := wire.ID(body)
	return sha256.Sum256(append(append([]byte("rawstone/policies/v1"), chain[:]...), id[:]...))
}
