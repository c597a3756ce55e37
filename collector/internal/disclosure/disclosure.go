// Package disclosure is what a validator is given of an entry of the ledger: the entry itself, the opening of its blind, the secrets of the
// accounts that it names first, and the claim behind a credit.
//
// Disclosures are secret: they tell who earned what. Whether one is that of its entry is for whoever replays the ledger; this package
// bounds what it reads and refuses what is no disclosure.
package disclosure

import (
	"encoding/binary"
	"errors"
	"fmt"

	"rawstone/pkg/account"
	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/wire"
)

const (
	// MaxBatch is how many entries go together, and MaxBatchLen bounds their encoding in bytes.
	MaxBatch    = 256
	MaxBatchLen = 4 << 20
	// MaxLeaves bounds the leaves of erased accounts on one day.
	MaxLeaves = 1 << 16

	maxOpeningLen = 1 << 10
	leafLen       = 40
	maxLen        = ledger.MaxBodyLen + maxOpeningLen + wire.MaxClaimLen + MaxLeaves*leafLen + 1<<10
)

// ErrStale is for who follows the ledger and has to begin anew with what it keeps, because an account was erased that it knows otherwise.
var ErrStale = errors.New("an account was erased of which this validator had seen only a part, or not to the end, or another has its name: it goes on when it is started again")

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
	// Erased says that what is behind the entry was destroyed because a person asked for it: then there is nothing else. Seen says that
	// whoever keeps it had seen and checked it before; it is not told to others.
	Erased bool `cbor:"7,keyasint,omitempty"`
	Seen   bool `cbor:"8,keyasint,omitempty"`
	// Leaves are those of erased accounts, with a day's leaves: 32 bytes of the pseudonym and 8 of the weight each, big-endian.
	Leaves []byte `cbor:"9,keyasint,omitempty"`
}

// AddLeaf adds what a day's tree holds of an erased account.
func (e *Entry) AddLeaf(l reward.Leaf) {
	e.Leaves = binary.BigEndian.AppendUint64(append(e.Leaves, l.Pseudonym[:]...), l.Weight)
}

// ErasedLeaves calls fn with each leaf of erased accounts.
func (e *Entry) ErasedLeaves(fn func(reward.Leaf)) {
	for b := e.Leaves; len(b) >= leafLen; b = b[leafLen:] {
		fn(reward.Leaf{Pseudonym: wire.Hash(b[:32]), Weight: binary.BigEndian.Uint64(b[32:])})
	}
}

// Erase returns the entry without what is behind it, which was seen before.
func (e *Entry) Erase() Entry {
	return Entry{Number: e.Number, Type: e.Type, Body: e.Body, Erased: true, Seen: true}
}

// Hides reports whether entries of a type have something behind them.
func Hides(t ledger.Type) bool {
	switch t {
	case ledger.TypeBinding, ledger.TypeHandover, ledger.TypeCredit, ledger.TypeAccount, ledger.TypeGrant, ledger.TypeBox, ledger.TypeRedemption:
		return true
	}
	return false
}

// Named returns the account that an entry's opening names; a hand-over's names none.
func (e *Entry) Named() (id string, ok bool) {
	switch e.Type {
	case ledger.TypeBinding:
		o, ok := Opened[ledger.BindingOpening](e, e.Type)
		return o.Account, ok
	case ledger.TypeCredit:
		o, ok := Opened[ledger.CreditOpening](e, e.Type)
		return o.Account, ok
	case ledger.TypeAccount:
		o, ok := Opened[account.ChangeOpening](e, e.Type)
		return o.Account, ok
	case ledger.TypeGrant:
		o, ok := Opened[account.GrantOpening](e, e.Type)
		return o.Account, ok
	case ledger.TypeBox, ledger.TypeRedemption:
		o, ok := e.Request()
		return o.Account, ok
	}
	return "", false
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
	case e.Erased && (!Hides(e.Type) || len(e.Opening)+len(e.Account)+len(e.Claim) > 0), e.Seen && !e.Erased:
		return fmt.Errorf("cannot accept entry %d: it is called erased and hides nothing, or something of what it hides is there", e.Number)
	case len(e.Leaves) > MaxLeaves*leafLen || len(e.Leaves)%leafLen != 0 || len(e.Leaves) > 0 && e.Type != ledger.TypeLeaves:
		return fmt.Errorf("cannot accept entry %d: it comes with %d bytes of erased accounts' leaves, should be a day's leaves with at most %d of %d bytes", e.Number, len(e.Leaves), MaxLeaves, leafLen)
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
		if b.Entries[i].Seen {
			return nil, fmt.Errorf("cannot accept batch: what was seen of entry %d is for who keeps it to say", b.Entries[i].Number)
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
			size += len(e.Body) + len(e.Opening) + len(e.Account) + len(e.Secret) + len(e.Claim) + len(e.Leaves) + 64
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
