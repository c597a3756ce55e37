// Package chain checks the ledger's blocks by themselves, one after the other: a stranger's arithmetic, for which no other entry is needed
// than the signed documents that blocks chain.
//
// A block is accepted when it follows the one before it by its drop, hash, time and checkpoint, its policies are the documents given so far,
// its VRF proofs are good and make its seed, its validators are those of its day and nobody who was out is back unless too few were left
// (package duty), its units, carry and supply are those of the emission at its height, and what mine boxes gave and redemptions took only
// grows and stays within its bounds. That validators stand for the blocks is for the caller to check of the newest: each one's hash is in
// the next.
//
// It cannot see whether the day's total weight and root are those of the fleet's credits, or whether the checkpoint's entries are right: that
// takes the log. It reads no clock and keeps no more than the last block.
package chain

import (
	"fmt"

	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// maxChanges bounds the witness changes of a program's life.
const maxChanges = 64

// A State is what is remembered of a chain.
type State struct {
	// Next is the drop of the next block; while it is 0 nothing but Policies and Changes is set.
	Next uint64 `cbor:"0,keyasint"`
	// Hash is that of the last block's payload, and Size its checkpoint's.
	Hash wire.Hash `cbor:"1,keyasint"`
	Size uint64    `cbor:"2,keyasint"`
	// Day is the last block's; Root, Count, Weight, From and To are the same in all blocks of it. Validators are the day's after it, of whom
	// those in Withheld are out; they are empty before the first block.
	Day        uint32    `cbor:"3,keyasint"`
	Root       wire.Hash `cbor:"4,keyasint"`
	Count      uint64    `cbor:"5,keyasint"`
	Weight     uint64    `cbor:"6,keyasint"`
	From       uint64    `cbor:"7,keyasint"`
	To         uint64    `cbor:"8,keyasint"`
	Validators []byte    `cbor:"9,keyasint,omitempty"`
	Withheld   []byte    `cbor:"10,keyasint,omitempty"`
	// Height is the next block's; the others are the last one's, amounts in milli-stones.
	Height     uint64 `cbor:"11,keyasint"`
	Carry      uint64 `cbor:"12,keyasint"`
	Supply     uint64 `cbor:"13,keyasint"`
	Cultivated uint64 `cbor:"14,keyasint"`
	Boxes      uint64 `cbor:"15,keyasint"`
	Redeemed   uint64 `cbor:"16,keyasint"`
	// Policies chains the documents so far; Changes are the signed witness changes among them.
	Policies wire.Hash `cbor:"17,keyasint"`
	Changes  [][]byte  `cbor:"18,keyasint,omitempty"`
}

// A Chain is a State under a program. It is used by one goroutine at a time.
type Chain struct {
	State
	root    wire.PublicKey
	program *terms.Program
	id      wire.Hash
	changes []*ledger.Witness // of State.Changes
	blocks  uint64
}

// New goes on from a state, the zero State for nothing yet. The program is one that the pinned root has signed.
func New(root wire.PublicKey, program *terms.Program, id wire.Hash, s State) (*Chain, error) {
	for _, v := range program.Validators {
		if err := ledger.CheckVRFKey(v.VRF); err != nil {
			return nil, fmt.Errorf("validator %s: %w", v.Name, err)
		}
	}
	c := &Chain{State: s, root: root, program: program, id: id}
	c.Changes = nil
	for _, b := range s.Changes {
		if err := c.change(b); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Begun reports whether there is a last block.
func (c *Chain) Begun() bool { return c.Next > 0 }

// Blocks counts the blocks, and seeds, that were checked since New.
func (c *Chain) Blocks() uint64 { return c.blocks }

// Today returns the log's day: that of the next drop.
func (c *Chain) Today() uint32 { return c.program.Timing.Day(c.program.Timing.DropTime(c.Next)) }

// On returns the program with the validators of a day.
func (c *Chain) On(day uint32) *terms.Program { return ledger.On(c.program, c.changes, day) }

// Document takes in the next charter, policy or witness change. The first two are hashed only: what they allow is not asked here.
func (c *Chain) Document(t ledger.Type, body []byte) error {
	switch t {
	case ledger.TypeCharter, ledger.TypePolicy:
	case ledger.TypeWitness:
		if err := c.change(body); err != nil {
			return err
		}
		if w := c.changes[len(c.changes)-1]; c.Begun() && w.FromDay <= c.Today() {
			return fmt.Errorf("witness change %d holds from day %d on, should be from day %d on at the earliest", w.Serial, w.FromDay, uint64(c.Today())+1)
		}
	default:
		return fmt.Errorf("a %v is no document that blocks chain", t)
	}
	c.Policies = ledger.ChainPolicy(c.Policies, body)
	return nil
}

func (c *Chain) change(body []byte) error {
	w, err := ledger.OpenWitness(c.root, c.program, c.id, body)
	if err != nil {
		return err
	}
	if len(c.changes) == maxChanges {
		return fmt.Errorf("witness change %d is one more than %d", w.Serial, maxChanges)
	}
	if n := len(c.changes); n > 0 && (w.Serial <= c.changes[n-1].Serial || w.FromDay <= c.changes[n-1].FromDay) {
		last := c.changes[n-1]
		return fmt.Errorf("witness change %d, from day %d on, does not follow change %d, from day %d on", w.Serial, w.FromDay, last.Serial, last.FromDay)
	}
	c.changes, c.Changes = append(c.changes, w), append(c.Changes, body)
	return nil
}
