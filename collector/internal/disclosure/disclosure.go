// Package disclosure is what a validator is given of an entry of the ledger: the entry itself, the opening of its blind, the secrets of the
// accounts that it names first, and the claim behind a credit.
//
// Disclosures are secret: they tell who earned what. Whether one is that of its entry is for whoever replays the ledger; this package
// bounds what it reads and refuses what is no disclosure.
package disclosure

import (
	"errors"
	"fmt"

	"rawstone/pkg/account"
	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/wire"
)

const (
	// MaxBatch is how many entries go together, and MaxBatchLen bounds their encoding in bytes.
	MaxBatch    = 256
	MaxBatchLen = 4 << 20

	maxOpeningLen = 1 << 10
	maxLen        = ledger.MaxBodyLen + maxOpeningLen + wire.MaxClaimLen + 1<<10
)

// An Entry is an entry with what is behind it. What there is depends on the type of the entry; documents and blocks have nothing.
type Entry struct {
	Number uint64      `cbor:"0,keyasint"`
	Type   ledger.Type `cbor:"1,keyasint"`
	Body   []byte      `cbor:"2,keyasint,omitempty"`
	// Opening is the encoding that the entry's blind hashes.
	Opening []byte `cbor:"3,keyasint,omitempty"`
	// Account and Secret say what an account's pseudonyms are made from, with a binding or a change of the account.
	Account string `cbor:"4,keyasint,omitempty"`
	Secret  []byte `cbor:"5,keyasint,omitempty"`
	// Claim is what the vehicle sent, with a credit.
	Claim []byte `cbor:"6,keyasint,omitempty"`
}

// Public returns an entry without what is behind it.
func Public(e ledger.Entry) Entry { return Entry{Number: e.Number, Type: e.Type, Body: e.Body} }

// Ledger returns the entry alone.
func (e *Entry) Ledger() ledger.Entry {
	return ledger.Entry{Number: e.Number, Type: e.Type, Body: e.Body}
}

// Open sets what the entry's blind hashes.
func (e *Entry) Open(opening any) (err error) {
	e.Opening, err = codec.Encode(opening)
	return err
}

// Opened returns the opening as a value of the entry's type: the same bytes as a CreditOpening are none of a BindingOpening.
func Opened[T any](e *Entry, want ...ledger.Type) (v T, ok bool) {
	for _, t := range want {
		if e.Type == t && len(e.Opening) > 0 {
			return v, codec.Decode(e.Opening, &v, maxOpeningLen) == nil
		}
	}
	return v, false
}

// Request returns the opening of a box or a redemption.
func (e *Entry) Request() (account.RequestOpening, bool) {
	return Opened[account.RequestOpening](e, ledger.TypeBox, ledger.TypeRedemption)
}

// Validate checks bounds.
func (e *Entry) Validate() error {
	switch {
	case e.Type < ledger.TypeProgram || e.Type > ledger.TypeWitness:
		return fmt.Errorf("cannot accept entry %d: unknown type %d", e.Number, e.Type)
	case len(e.Body) > ledger.MaxBodyLen || len(e.Opening) > maxOpeningLen || len(e.Account) > account.MaxIDLen || len(e.Claim) > wire.MaxClaimLen:
		return fmt.Errorf("cannot accept entry %d: its body, opening, account or claim is longer than allowed", e.Number)
	case (e.Account == "") != (len(e.Secret) == 0) || len(e.Secret) != 0 && len(e.Secret) != 32:
		return fmt.Errorf("cannot accept entry %d: an account and a secret of 32 bytes go together", e.Number)
	}
	return nil
}

// A Batch is consecutive entries, at most MaxBatch.
type Batch struct {
	Entries []Entry `cbor:"0,keyasint"`
}

// Encode returns the batch's bytes.
func (b *Batch) Encode() ([]byte, error) { return codec.Encode(b) }

// DecodeBatch reads a batch of at most MaxBatchLen bytes.
func DecodeBatch(text []byte) ([]Entry, error) {
	var b Batch
	if err := codec.Decode(text, &b, MaxBatchLen); err != nil {
		return nil, err
	}
	if len(b.Entries) == 0 || len(b.Entries) > MaxBatch {
		return nil, fmt.Errorf("cannot accept batch: it has %d entries, should have 1 to %d", len(b.Entries), MaxBatch)
	}
	for i := range b.Entries {
		if err := b.Entries[i].Validate(); err != nil {
			return nil, err
		}
		if i > 0 && b.Entries[i].Number != b.Entries[i-1].Number+1 {
			return nil, errors.New("cannot accept batch: its entries are not consecutive")
		}
	}
	return b.Entries, nil
}

// Split cuts entries into batches that keep both bounds.
func Split(entries []Entry) (out [][]Entry) {
	for len(entries) > 0 {
		n, size := 0, 0
		for n < min(len(entries), MaxBatch) {
			e := &entries[n]
			size += len(e.Body) + len(e.Opening) + len(e.Account) + len(e.Secret) + len(e.Claim) + 64
			if size > MaxBatchLen-64 && n > 0 {
				break
			}
			n++
		}
		out, entries = append(out, entries[:n]), entries[n:]
	}
	return out
}

// Encode returns the entry's bytes, as whoever follows the ledger keeps them.
func (e *Entry) Encode() ([]byte, error) { return codec.Encode(e) }

// Decode reads what Encode wrote.
func Decode(b []byte) (e Entry, err error) {
	if err := codec.Decode(b, &e, maxLen); err != nil {
		return Entry{}, err
	}
	return e, e.Validate()
}
