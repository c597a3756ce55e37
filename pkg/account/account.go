// Package account is what the ledger says of an account beside its mileage: that it was opened, activated or given another key, that it got
// crystals, asked for a mine box, redeemed stones. It also holds what an owner signs to ask for these.
//
// Entries are blinded: the public sees that something happened and how much it weighs, and whoever holds the opening sees whose it is. An
// owner's request names the program, the account, the document of offers that its owner has seen, a nonce and a last day, and is signed with
// the account's own key, so that whoever lacks that key cannot ask in another's name, and nobody twice for the same. A key is replaced with its own
// consent; the operator can replace it without, for who has lost it, and cannot hide that: it is an entry that the account's openings show.
//
// The package says what entries and requests are and refuses what is none. Whether an account has what it spends is for the packages that
// replay the ledger. It keeps no state and reads no clock.
package account

import (
	"crypto"
	"errors"
	"fmt"
	"unicode/utf8"

	"rawstone/pkg/codec"
	"rawstone/pkg/wire"
)

// MaxIDLen bounds the identifiers of accounts, tasks, boxes and items in bytes.
const MaxIDLen = 64

// MaxRequestLen bounds a signed request in bytes.
const MaxRequestLen = 512

// A Change is the body of an entry that opens, activates or re-keys an account: a blinded hash.
type Change struct {
	Blind wire.Hash `cbor:"0,keyasint"`
}

// A ChangeOpening says what an account is from the entry on.
type ChangeOpening struct {
	Salt    [32]byte `cbor:"0,keyasint"`
	Account string   `cbor:"1,keyasint"`
	// Key signs the owner's requests (P-256).
	Key wire.PublicKey `cbor:"2,keyasint"`
	// Activated is the program day on which the account was activated, 0 for not yet. Once set it never changes.
	Activated uint32 `cbor:"3,keyasint"`
}

// Blind returns the hash that hides the opening.
func (o *ChangeOpening) Blind() (wire.Hash, error) { return blind("rawstone/account/v1", o) }

// A Grant is the body of an entry that gives crystals.
type Grant struct {
	Blind    wire.Hash `cbor:"0,keyasint"`
	Crystals uint32    `cbor:"1,keyasint"`
	// Day is the log's day, that of its next drop, when the grant was decided: that day or the one before it when it is logged.
	Day uint32 `cbor:"2,keyasint"`
}

// A GrantOpening says to whom and what for.
type GrantOpening struct {
	Salt    [32]byte `cbor:"0,keyasint"`
	Account string   `cbor:"1,keyasint"`
	// Task is the task's identifier in the offers in force on the grant's day.
	Task string `cbor:"2,keyasint"`
	// Reference is the hash of what was done: there is one grant for each account, task and reference. For a task that is the use of a
	// feature it is the blind of the credit of that kind, and there is one for each account, kind and credit, whatever the task is called.
	Reference wire.Hash `cbor:"3,keyasint"`
}

// Blind returns the hash that hides the opening.
func (o *GrantOpening) Blind() (wire.Hash, error) { return blind("rawstone/grant/v1", o) }

// A Box is the body of an entry that asks for a mine box. What it holds follows in public from the entry's number and the seed of the second
// block after it: the first fixes the entry's place before anybody knows that seed (see package cultivation).
type Box struct {
	Blind wire.Hash `cbor:"0,keyasint"`
	// Day is as in Grant.
	Day uint32 `cbor:"1,keyasint"`
	// Offers is the serial of the offers in force on Day, and Box the box's identifier among them.
	Offers uint16 `cbor:"2,keyasint"`
	Box    string `cbor:"3,keyasint"`
	// Owner says that a car is bound to the account: only owners can win stones.
	Owner bool `cbor:"4,keyasint"`
}

// A Redemption is the body of an entry that uses stones.
type Redemption struct {
	Blind wire.Hash `cbor:"0,keyasint"`
	// Day is as in Grant.
	Day uint32 `cbor:"1,keyasint"`
	// Milli is the price in milli-stones, at least 1.
	Milli uint64 `cbor:"2,keyasint"`
}

// A RequestOpening shows the owner's request behind an entry of type box or redemption.
type RequestOpening struct {
	Salt    [32]byte `cbor:"0,keyasint"`
	Account string   `cbor:"1,keyasint"`
	// Request is what the owner signed (SealBoxRequest, SealRedemptionRequest).
	Request []byte `cbor:"2,keyasint"`
}

// Blind returns the hash that hides the opening.
func (o *RequestOpening) Blind() (wire.Hash, error) { return blind("rawstone/request/v1", o) }

func blind(tag string, opening any) (wire.Hash, error) {
	h, err := codec.Blind(tag, opening)
	return h, err
}

const (
	contextBox        = "rawstone/box-request/v1"
	contextRedemption = "rawstone/redemption-request/v1"
)

// MaxUntil is the last program day that a request may name: terms.MaxDay, the last there is.
const MaxUntil = 1<<31 - 1

// A BoxRequest asks for one mine box.
type BoxRequest struct {
	Program wire.Hash `cbor:"0,keyasint"`
	Account string    `cbor:"1,keyasint"`
	// Nonce keeps one request from counting twice, and two apart. It is random: zeros are refused.
	Nonce  [16]byte `cbor:"2,keyasint"`
	Offers uint16   `cbor:"3,keyasint"`
	Box    string   `cbor:"4,keyasint"`
	// Until is the last of the log's days, which Box.Day names, on which the request may be logged, from 1 to MaxUntil. An app sets it to the
	// day after the log's: whoever reports a failure, has the owner sign again and keeps the first request cannot log both much later.
	Until uint32 `cbor:"5,keyasint"`
}

// Validate checks bounds.
func (r *BoxRequest) Validate() error { return checkRequest(r.Nonce, r.Until, r.Account, r.Box) }

// A RedemptionRequest asks for one item of the catalogue at its price.
type RedemptionRequest struct {
	Program wire.Hash `cbor:"0,keyasint"`
	Account string    `cbor:"1,keyasint"`
	Nonce   [16]byte  `cbor:"2,keyasint"`
	Offers  uint16    `cbor:"3,keyasint"`
	Item    string    `cbor:"4,keyasint"`
	// Milli and Fen are the item's price as its owner saw it, in milli-stones and in fen (0.01 CNY).
	Milli uint64 `cbor:"5,keyasint"`
	Fen   uint64 `cbor:"6,keyasint"`
	// Until is as in BoxRequest.
	Until uint32 `cbor:"7,keyasint"`
}

// Validate checks bounds.
func (r *RedemptionRequest) Validate() error {
	if r.Milli == 0 {
		return errors.New("request redeems no stones")
	}
	return checkRequest(r.Nonce, r.Until, r.Account, r.Item)
}

func checkRequest(nonce [16]byte, until uint32, names ...string) error {
	if until == 0 || until > MaxUntil {
		return fmt.Errorf("request is good until day %d, want 1 to %d", until, MaxUntil)
	}
	return checkNames(nonce, names...)
}

func checkNames(nonce [16]byte, names ...string) error {
	if nonce == [16]byte{} {
		return errors.New("request has no nonce")
	}
	for _, n := range names {
		if n == "" || len(n) > MaxIDLen || !utf8.ValidString(n) {
			return fmt.Errorf("request names %q, want text of 1 to %d bytes", n, MaxIDLen)
		}
	}
	return nil
}

// SealBoxRequest signs a request with the account's key.
func SealBoxRequest(key crypto.Signer, r *BoxRequest) ([]byte, error) {
	return seal(key, contextBox, r)
}

// SealRedemptionRequest signs a request with the account's key.
func SealRedemptionRequest(key crypto.Signer, r *RedemptionRequest) ([]byte, error) {
	return seal(key, contextRedemption, r)
}

func seal(key crypto.Signer, context string, r wire.Message) ([]byte, error) {
	b, err := wire.Marshal(r)
	if err != nil {
		return nil, err
	}
	return wire.Seal(key, context, b)
}

// OpenBoxRequest checks a request under the account's key, and that it is for the program and the account. The identifier is the hash of
// what was signed: another signature over it makes no other request of it.
func OpenBoxRequest(key wire.PublicKey, program wire.Hash, account string, b []byte) (r *BoxRequest, id wire.Hash, err error) {
	r = new(BoxRequest)
	if id, err = open(key, contextBox, r, b); err != nil {
		return nil, id, err
	}
	return r, id, checkFor(r.Program, program, r.Account, account)
}

// OpenRedemptionRequest does for redemptions what OpenBoxRequest does for boxes.
func OpenRedemptionRequest(key wire.PublicKey, program wire.Hash, account string, b []byte) (r *RedemptionRequest, id wire.Hash, err error) {
	r = new(RedemptionRequest)
	if id, err = open(key, contextRedemption, r, b); err != nil {
		return nil, id, err
	}
	return r, id, checkFor(r.Program, program, r.Account, account)
}

func open(key wire.PublicKey, context string, r wire.Message, b []byte) (id wire.Hash, err error) {
	payload, _, err := wire.Open(wire.KeySet{key}, context, b, MaxRequestLen)
	if err != nil {
		return id, err
	}
	return wire.ID(payload), wire.Unmarshal(payload, r, MaxRequestLen)
}

func checkFor(program, wantProgram wire.Hash, account, wantAccount string) error {
	switch {
	case program != wantProgram:
		return errors.New("cannot accept request: it is for another program")
	case account != wantAccount:
		return errors.New("cannot accept request: it is of another account")
	}
	return nil
}
