// Package statement is an account's statement: everything with which one owner checks their own part of the ledger, from short proofs and
// without reading anybody else's data. statement.cddl beside this file is its grammar.
//
// A statement holds the account's secret, its own entries of the log with what they hide and proofs of inclusion (RFC 6962 §2.1.1) in the
// newest block's tree, the chain of all blocks in between, and for each day on which the account has weight the path to its leaf in that
// day's Merkle-sum tree. Only the newest block carries cosignatures, for each block's hash is in the next, and only the pinned program root
// is trusted. Verify computes from these the account's weight and pseudonym of every day, its interval, its share of every drop, what its
// mine boxes hold, and its balances; that every seed is made by its VRF proofs, that no drop is left out, and that units and supply are
// those of the emission. A credit that is left out of a day's weight moves the leaf, so that no path leads to it.
//
// What is verified yields a State, from which the next statement goes on with what is newer. A first statement may begin with the account's
// first entry: it then takes over from the block before it, which the chain covers too.
//
// What it cannot see: a credit that was never logged, which is the receipt's question (package inclusion); an entry of the account that is
// withheld together with all that it gave, such as a grant that nobody told the owner of, but for credits, which the weights show; whether the
// weights of others and the order of the leaves are right, which validators and the auditor check; and a log that shows others something
// else, which the newest checkpoint's consistency with a log that others see rules out.
package statement

import (
	"errors"
	"fmt"

	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/wire"
)

const (
	// ContentType is a statement's on HTTP: a CBOR sequence (RFC 8742).
	ContentType = "application/cbor-seq"
	// Version is the version of a statement; decoders refuse others.
	Version = 1
	// MaxRecordLen bounds a record in bytes.
	MaxRecordLen = 1<<16 - 1

	maxPath    = 64 // hashes: a tree has fewer than 2⁶⁴ leaves
	maxAccount = 128
	maxUnits   = reward.MinedSupply / reward.Unit
)

// A Record is one item of a statement; exactly one field is set. The order is that of the log: an Opening; documents, offers and Base; own
// entries, documents and blocks as they follow each other, each day's first block after its Day; a Close.
type Record struct {
	Opening *Opening `cbor:"0,keyasint,omitempty"`
	// Base is the payload of the block before the first, in a statement that neither begins with drop 0 nor goes on from a state.
	Base     []byte    `cbor:"1,keyasint,omitempty"`
	Document *Document `cbor:"2,keyasint,omitempty"`
	Entry    *Entry    `cbor:"3,keyasint,omitempty"`
	Day      *Day      `cbor:"4,keyasint,omitempty"`
	Block    *Block    `cbor:"5,keyasint,omitempty"`
	Close    *Close    `cbor:"6,keyasint,omitempty"`
}

// An Opening says whose statement it is and what it is proven under.
type Opening struct {
	Version uint8  `cbor:"0,keyasint"`
	Account string `cbor:"1,keyasint"`
	// Secret is what the account's pseudonyms are made from.
	Secret [32]byte `cbor:"2,keyasint"`
	// Program is the signed program document.
	Program []byte `cbor:"3,keyasint"`
	// From is the drop of the first block.
	From uint64 `cbor:"4,keyasint"`
	// Newest is the body of the newest block's entry, a ledger.Sealed: the statement's last.
	Newest []byte `cbor:"5,keyasint"`
}

// A Document is a charter, policy or witness change, all of which the blocks chain.
type Document struct {
	Type ledger.Type `cbor:"0,keyasint"`
	Body []byte      `cbor:"1,keyasint"`
}

// An Entry is an entry of the log that concerns the account, or signed offers, in the order of their numbers.
type Entry struct {
	// Entry is a ledger.Entry. Opening is what its blind hides, in the form that the blind hashes; empty for offers.
	Entry   []byte `cbor:"0,keyasint"`
	Opening []byte `cbor:"1,keyasint,omitempty"`
	// Path is the inclusion proof in the tree of the newest block's checkpoint, from the leaf's sibling upwards.
	Path []wire.Hash `cbor:"2,keyasint,omitempty"`
}

// A Day is the account's leaf among a day's, on which it has weight.
type Day struct {
	Day uint32 `cbor:"0,keyasint"`
	// Weight is the account's in kilometres by the collector's records: its leaf's.
	Weight uint64      `cbor:"1,keyasint"`
	Path   reward.Path `cbor:"2,keyasint"`
}

// A Block is one drop.
type Block struct {
	// Payload is a ledger.Block.
	Payload []byte `cbor:"0,keyasint"`
	// Units are the account's by the collector's records.
	Units uint64 `cbor:"1,keyasint"`
}

// A Close says what the account has by the collector's records after the newest block, stones in milli-stones. What was asked for since is
// not in it.
type Close struct {
	Milli    uint64 `cbor:"0,keyasint"`
	Crystals uint64 `cbor:"1,keyasint"`
}

// Validate checks bounds.
func (r *Record) Validate() error {
	n := 0
	for _, set := range []bool{r.Opening != nil, r.Base != nil, r.Document != nil, r.Entry != nil, r.Day != nil, r.Block != nil, r.Close != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("record holds %d things, want 1", n)
	}
	switch {
	case r.Opening != nil:
		if r.Opening.Version != Version {
			return fmt.Errorf("version %d, want %d: update this program or the sender's", r.Opening.Version, Version)
		}
		if n := len(r.Opening.Account); n == 0 || n > maxAccount {
			return fmt.Errorf("account is %d bytes, want 1 to %d", n, maxAccount)
		}
	case r.Base != nil && len(r.Base) == 0:
		return errors.New("base is empty")
	case r.Entry != nil && len(r.Entry.Path) > maxPath:
		return fmt.Errorf("path of %d hashes, at most %d allowed", len(r.Entry.Path), maxPath)
	case r.Block != nil && r.Block.Units > maxUnits:
		return fmt.Errorf("%d units exceed the whole supply", r.Block.Units)
	}
	return nil
}

func (r *Record) encode() ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("cannot encode record: %w", err)
	}
	b, err := codec.Encode(r)
	if err == nil && len(b) > MaxRecordLen {
		return nil, fmt.Errorf("cannot encode record: %d bytes, at most %d allowed", len(b), MaxRecordLen)
	}
	return b, err
}

func decode(b []byte) (*Record, error) {
	var r Record
	if err := codec.Decode(b, &r, MaxRecordLen); err != nil {
		return nil, err
	}
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("cannot accept record: %w", err)
	}
	return &r, nil
}
