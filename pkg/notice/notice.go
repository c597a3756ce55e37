// Package notice is the message that tells cars of policies and of who the validators are: the newest cosigned block of the ledger and,
// in the order of the log, the charters, policies and changes of validators that it stands on. The collector retains it on
// wire.PolicyTopic; notice.cddl beside this file is its grammar.
//
// The block is the inclusion proof. Its field Policies chains all these documents logged so far, and a quorum of validators cosigned it:
// what chains to the same hash is in the log, in that order, and nothing of it is left out. Because serials rise along the log,
// documents may be left out at the beginning alone, where their chain stands for them: whoever leaves out a stop leaves out every
// policy that it stops, so that nobody is made to believe that a stopped policy is in force.
//
// The validators of the block are those of its own day: of the last change that has begun by then, which must not be left out, or the
// program's. The program root signs changes, so that a car which pins the root alone can open the newest notice after any number of
// them. Where validators change, a block's day must be that of its drop: the keys of validators that were replaced then speak for drops
// before the change, however their holder dates them.
//
// The package refuses a notice whole when anything in it does not hold. It keeps no state: that an older notice does not replace a newer
// one is for the receiver to see to, by Opened.Drop, and that a change which it has heard of is not kept from it, by Opened.After. Nobody
// can show a car that has heard of no change that there was one: until then it goes by the validators that it knows. Once it does,
// Opened.Refutes says which older notice the keys of replaced validators have forged.
package notice

import (
	"errors"
	"fmt"

	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Version is the version of a notice; decoders refuse others.
const Version = 1

// MaxLen bounds a notice in bytes; with what a broker adds it fits a message of 32 KiB.
const MaxLen = 30 << 10

// MaxDocuments bounds the documents of a notice.
const MaxDocuments = 255

// signed1 is the first byte of a signed policy or change of validators, CBOR's tag of a COSE_Sign1 (RFC 9052 §4.2). A charter begins with
// an array.
const signed1 = 0xd2

// A Notice is what is published.
type Notice struct {
	Version uint8 `cbor:"0,keyasint"`
	// Block is the body of the block's entry: a ledger.Sealed.
	Block []byte `cbor:"1,keyasint"`
	// Before is ledger.ChainPolicy over the documents before the first one given, zeros when there is none.
	Before wire.Hash `cbor:"2,keyasint,omitzero"`
	// Documents are the rest of them, signed, in the order of the log: each is a charter, a policy or a ledger.Witness.
	Documents [][]byte `cbor:"3,keyasint"`
}

// Validate checks bounds.
func (n *Notice) Validate() error {
	if n.Version != Version {
		return fmt.Errorf("version %d, want %d: update this program or the sender's", n.Version, Version)
	}
	if len(n.Block) == 0 {
		return errors.New("notice holds no block")
	}
	if len(n.Documents) > MaxDocuments {
		return fmt.Errorf("notice holds %d documents, at most %d allowed", len(n.Documents), MaxDocuments)
	}
	return nil
}

// Encode returns the notice's bytes, at most MaxLen.
func (n *Notice) Encode() ([]byte, error) {
	b, err := wire.Marshal(n)
	if err == nil && len(b) > MaxLen {
		return nil, fmt.Errorf("cannot encode notice: %d bytes, at most %d allowed", len(b), MaxLen)
	}
	return b, err
}

// Decode reads a notice. Nothing in it is verified yet: that is Open's part.
func Decode(b []byte) (*Notice, error) {
	var n Notice
	return &n, wire.Unmarshal(b, &n, MaxLen)
}

// An Opened is what a notice proves.
type Opened struct {
	// Drop and Day are the block's: the newer a notice the higher its drop.
	Drop uint64
	Day  uint32
	// Policies are those given, by rising serials. Those left out are older than each of them. That a charter covers a policy is not
	// looked at here.
	Policies []*terms.Policy
	// Changes are the changes of validators given, by rising serials and days: all those that decide about the block's day or a later one.
	Changes []*ledger.Witness
}

// Open verifies a notice under a program and its root, which the receiver pins: that the documents chain to what the block says, the
// changes of validators among them, the cosignatures of the block by the validators of its day, each document's signature, that serials
// rise, and that the policies can stand side by side.
func (n *Notice) Open(root wire.PublicKey, p *terms.Program, program wire.Hash) (*Opened, error) {
	o, err := n.open(root, p, program)
	if err != nil {
		return nil, fmt.Errorf("cannot accept notice: %w", err)
	}
	return o, nil
}

func (n *Notice) open(root wire.PublicKey, p *terms.Program, program wire.Hash) (*Opened, error) {
	if err := n.Validate(); err != nil {
		return nil, err
	}
	block, err := n.peek()
	if err != nil {
		return nil, err
	}
	chain := n.Before
	for _, d := range n.Documents {
		chain = ledger.ChainPolicy(chain, d)
	}
	if chain != block.Policies {
		return nil, errors.New("its documents are not those that its block stands on: one is missing, added, changed or in another place")
	}
	o := &Opened{Drop: block.Drop, Day: block.Day}
	found := make([]error, len(n.Documents)) // why a document is no change of validators, nil where it is one
	for i, d := range n.Documents {
		var w *ledger.Witness
		if w, found[i] = ledger.OpenWitness(root, p, program, d); found[i] != nil {
			continue
		}
		if err := o.addChange(w); err != nil {
			return nil, fmt.Errorf("document %d: %w", i, err)
		}
	}
	if err := o.verify(n.Block, p, program); err != nil {
		return nil, err
	}
	for i, d := range n.Documents {
		if found[i] == nil {
			continue
		}
		if err := o.add(d, p, program); err != nil {
			if isCharter(d) {
				return nil, fmt.Errorf("document %d: %w", i, err)
			}
			return nil, fmt.Errorf("document %d: %w; nor is it a change of validators: %w", i, err, found[i])
		}
	}
	return o, terms.CheckPolicies(o.Policies)
}

// add opens a charter or a policy.
func (o *Opened) add(document []byte, p *terms.Program, program wire.Hash) error {
	if isCharter(document) {
		_, _, err := terms.OpenCharter(p, program, document)
		return err
	}
	policy, err := terms.OpenPolicy(p.Policy, program, document)
	if err != nil {
		return err
	}
	if k := len(o.Policies); k > 0 && policy.Serial <= o.Policies[k-1].Serial {
		return fmt.Errorf("policy %d comes after policy %d", policy.Serial, o.Policies[k-1].Serial)
	}
	o.Policies = append(o.Policies, policy)
	return nil
}

func isCharter(document []byte) bool { return len(document) == 0 || document[0] != signed1 }
