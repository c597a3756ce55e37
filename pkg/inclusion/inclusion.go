// Package inclusion is how a car learns that what a receipt promised is in the public log: the messages between both ends, and the car's
// check. A car asks for Path and the identifier of a submission, with its client certificate; inclusion.cddl beside this file is the
// grammar of the answer.
//
// The answer names, for each credit, its number in the log and what its blinded entry hides of which the car does not know, and proves
// (RFC 6962 §2.1.1) that the entry is in the tree that a block names; the block carries the cosignatures of a quorum of the program's
// validators. The entry itself is not sent: the car builds it from its receipt and its own claim, so that a proof holds for exactly the
// kilometres, day, ECU key, snapshot and kind that it was promised, or not at all. What chains the block to the program is the
// cosignatures: they are over the program's identifier.
//
// The validators of the block are those of its day, as far as the car has heard. What it cannot judge yet proves nothing and is no
// evidence either: ErrUndecided.
//
// The package decides nothing about when to ask and what follows. It refuses an answer whole when anything in it does not hold.
package inclusion

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const (
	// Path is where answers are had, followed by the submission's identifier in lower-case hexadecimal.
	Path = "/v1/inclusion/"
	// ContentType is an answer's, ProblemType that of a refusal, which is problem details (RFC 9457).
	ContentType = "application/cbor"
	ProblemType = "application/problem+json"

	// Version is the version of an answer; decoders refuse others.
	Version = 1
	// MaxLen bounds an answer and a refusal in bytes.
	MaxLen = 16 << 10

	maxAccount = 128
	maxKind    = 128
	maxPath    = 64 // hashes: a tree has fewer than 2⁶⁴ leaves
)

// An Answer proves the credits of one submission.
type Answer struct {
	Version uint8 `cbor:"0,keyasint"`
	// Block is the body of a block's entry, a ledger.Sealed, whose checkpoint covers all credits.
	Block []byte `cbor:"1,keyasint"`
	// Credits are in ascending order of their policies, 1 to wire.MaxClaimProofs, of different kinds.
	Credits []Credit `cbor:"2,keyasint"`
}

// A Credit is one credit's place in the log.
type Credit struct {
	// Policy is the policy's serial, by which the receipt names the credit. The log does not know it.
	Policy uint16 `cbor:"0,keyasint"`
	// Number is the entry's index in the log.
	Number uint64 `cbor:"1,keyasint"`
	// Salt, Account and Kind are ledger.CreditOpening's.
	Salt    [32]byte `cbor:"2,keyasint"`
	Account string   `cbor:"3,keyasint"`
	Kind    string   `cbor:"4,keyasint"`
	// Path is the inclusion proof, from the leaf's sibling upwards.
	Path []wire.Hash `cbor:"5,keyasint"`
}

// Validate checks bounds and order.
func (a *Answer) Validate() error {
	if a.Version != Version {
		return fmt.Errorf("version %d, want %d: update this program or the sender's", a.Version, Version)
	}
	if n := len(a.Credits); n < 1 || n > wire.MaxClaimProofs {
		return fmt.Errorf("%d credits, want 1 to %d", n, wire.MaxClaimProofs)
	}
	kinds := make(map[string]bool)
	for i, c := range a.Credits {
		switch {
		case i > 0 && c.Policy <= a.Credits[i-1].Policy:
			return errors.New("credits are not in ascending order of policies")
		case kinds[c.Kind]:
			return fmt.Errorf("two credits of kind %q", c.Kind)
		case len(c.Account) > maxAccount || len(c.Kind) > maxKind || len(c.Path) > maxPath:
			return fmt.Errorf("credit %d: account, kind or path is too long", i)
		}
		kinds[c.Kind] = true
	}
	return nil
}

// Encode validates the answer and returns its bytes, at most MaxLen.
func (a *Answer) Encode() ([]byte, error) {
	if err := a.Validate(); err != nil {
		return nil, fmt.Errorf("cannot encode proof of inclusion: %w", err)
	}
	b, err := codec.Encode(a)
	if err == nil && len(b) > MaxLen {
		return nil, fmt.Errorf("cannot encode proof of inclusion: %d bytes, at most %d allowed", len(b), MaxLen)
	}
	return b, err
}

// Decode reads an answer. Nothing in it is verified yet: that is Verify's part.
func Decode(b []byte) (*Answer, error) {
	var a Answer
	if err := codec.Decode(b, &a, MaxLen); err != nil {
		return nil, err
	}
	if err := a.Validate(); err != nil {
		return nil, fmt.Errorf("cannot accept proof of inclusion: %w", err)
	}
	return &a, nil
}

// Promised is what a car's receipt and claim say must be in the log.
type Promised struct {
	// ECU is the key of the claim's snapshots and ToSeq the sequence number of the one that it ends with.
	ECU   wire.KeyID
	ToSeq uint64
	// Credits are the receipt's.
	Credits []wire.Credit
	// Kinds are those of the credits' policies, in the same order; empty for one that the car does not know any more, of which any is
	// taken.
	Kinds []string
}

// Heard is what a car has heard of who the validators are; the zero value is that of a car which has heard nothing.
type Heard struct {
	// Changes are the changes of validators by rising serials, Day is the program day of the newest block that gave them: all that begin
	// by then are among them, or are replaced by one of them.
	Changes []*ledger.Witness
	Day     uint32
}

// ErrUndecided says that an answer can be neither accepted nor called false by what the car has heard of changes of validators: ask again
// later.
var ErrUndecided = errors.New("who the validators of its block's day are is not known: ask again later")

// Verify checks that every promised credit is in the tree of a cosigned block of the program, and returns that block's drop. Further
// credits of the answer are of no account.
//
// The error wraps ErrUndecided for a block of a day before the validators that the car has heard to be in force took over, since the keys
// of those before may be in anybody's hands by now, and for one of a day after Heard.Day that those validators do not stand for: others
// may have taken over since.
func (a *Answer) Verify(p *terms.Program, program wire.Hash, heard Heard, want Promised) (drop uint64, err error) {
	block, err := a.block(p, program, heard)
	if err == nil {
		err = a.covers(block, want)
	}
	if err != nil {
		return 0, fmt.Errorf("cannot accept proof of inclusion: %w", err)
	}
	return block.Drop, nil
}

// block returns the answer's block, once a quorum stands for it.
func (a *Answer) block(p *terms.Program, program wire.Hash, heard Heard) (*ledger.Block, error) {
	if err := a.Validate(); err != nil {
		return nil, err
	}
	sealed, err := (&ledger.Entry{Type: ledger.TypeBlock, Body: a.Block}).Sealed()
	if err != nil {
		return nil, err
	}
	claimed, err := ledger.DecodeBlock(sealed.Payload)
	if err != nil {
		return nil, err
	}
	for _, c := range heard.Changes {
		if c.FromDay <= heard.Day && claimed.Day < c.FromDay {
			return nil, fmt.Errorf("its block is of day %d, and other validators took over on day %d: %w", claimed.Day, c.FromDay, ErrUndecided)
		}
	}
	block, err := ledger.OpenBlock(ledger.On(p, heard.Changes, claimed.Day), program, a.Block)
	if err != nil && claimed.Program == program && claimed.Day > heard.Day {
		return nil, fmt.Errorf("its block is of day %d, and the newest that was heard of is of day %d: %w (%w)", claimed.Day, heard.Day, ErrUndecided, err)
	}
	return block, err
}

func (a *Answer) covers(block *ledger.Block, want Promised) error {
	if len(want.Kinds) != len(want.Credits) || len(want.Credits) == 0 {
		return errors.New("no credits were promised, or their kinds are not given")
	}
	proven := make(map[uint16]*Credit)
	for i := range a.Credits {
		proven[a.Credits[i].Policy] = &a.Credits[i]
	}
	for i, promised := range want.Credits {
		c, ok := proven[promised.Policy]
		if !ok {
			return fmt.Errorf("the credit under policy %d is not in it", promised.Policy)
		}
		delete(proven, promised.Policy) // a second credit under the policy needs a second entry
		if want.Kinds[i] != "" && c.Kind != want.Kinds[i] {
			return fmt.Errorf("the credit under policy %d is of another kind", promised.Policy)
		}
		leaf, err := c.leaf(want, promised)
		if err != nil {
			return err
		}
		if c.Number >= block.Size {
			return fmt.Errorf("its block covers %d entries, and not entry %d", block.Size, c.Number)
		}
		path := make([][]byte, len(c.Path))
		for i := range c.Path {
			path[i] = c.Path[i][:]
		}
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, c.Number, block.Size, leaf, path, block.LogRoot[:]); err != nil {
			return fmt.Errorf("entry %d of the log is not the credit of %d km under policy %d from day %d on that the receipt promises", c.Number,
				promised.Km, promised.Policy, promised.Effective)
		}
	}
	return nil
}

// leaf returns the hash (RFC 6962 §2.1) of the entry that the log must hold.
func (c *Credit) leaf(want Promised, promised wire.Credit) ([]byte, error) {
	opening := ledger.CreditOpening{Salt: c.Salt, Account: c.Account, ECU: want.ECU, ToSeq: want.ToSeq, Kind: c.Kind}
	blind, err := opening.Blind()
	if err != nil {
		return nil, err
	}
	body, err := codec.Encode(&ledger.Credit{Blind: blind, Km: promised.Km, Effective: promised.Effective})
	if err != nil {
		return nil, err
	}
	entry, err := (&ledger.Entry{Number: c.Number, Type: ledger.TypeCredit, Body: body}).Encode()
	if err != nil {
		return nil, err
	}
	return rfc6962.DefaultHasher.HashLeaf(entry), nil
}

// A Reason says why there is no answer.
type Reason string

// The reasons.
const (
	ReasonNotYet      Reason = "not_yet"     // not under a cosigned block: ask again after Retry-After
	ReasonUnknown     Reason = "unknown"     // no accepted claim of this vehicle
	ReasonCertificate Reason = "certificate" // none given, or one that is not good any more
	ReasonMalformed   Reason = "malformed"   // not a request for a proof
	ReasonBusy        Reason = "busy"        // ask again later
)

func (r Reason) known() bool {
	switch r {
	case ReasonNotYet, ReasonUnknown, ReasonCertificate, ReasonMalformed, ReasonBusy:
		return true
	}
	return false
}

// A Problem is a refusal (RFC 9457).
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	// Detail is one sentence for people.
	Detail string `json:"detail"`
	Reason Reason `json:"reason"`
}

// Error implements error.
func (p *Problem) Error() string { return "the collector gives no proof of inclusion: " + p.Detail }

// DecodeProblem reads a refusal. Whatever is not one, as from a proxy in between, is an error.
func DecodeProblem(b []byte) (*Problem, error) {
	if len(b) > MaxLen {
		return nil, fmt.Errorf("cannot read refusal: %d bytes, at most %d allowed", len(b), MaxLen)
	}
	var p Problem
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("cannot read refusal: %w", err)
	}
	if !p.Reason.known() || p.Detail == "" {
		return nil, errors.New("cannot read refusal: it gives no reason that is known")
	}
	return &p, nil
}
