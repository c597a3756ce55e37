package audit

import (
	"errors"
	"slices"

	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Due is what the schedule asks for next.
type Due struct {
	// Type is leaves, day or block; the program document when there is none yet.
	Type ledger.Type
	// Day is the program day and Drop the number of the next drop, which is due on it.
	Day  uint32
	Drop uint64
}

// Due returns the next cosigned entry. Other entries may stand before it.
func (r *Replay) Due() Due {
	if r.program == nil {
		return Due{Type: ledger.TypeProgram}
	}
	d := Due{ledger.TypeBlock, r.today(), r.drop}
	if r.leaves == nil {
		d.Type = ledger.TypeLeaves
	} else if r.day == nil {
		d.Type = ledger.TypeDay
	}
	return d
}

// Next returns the number of the next entry.
func (r *Replay) Next() uint64 { return r.number }

// Program returns the program document and its identifier, or nil before there is one.
func (r *Replay) Program() (*terms.Program, wire.Hash) { return r.program, r.programID }

// Set returns the day's validators that are not out, once its leaves are logged.
func (r *Replay) Set() (in, withheld []byte) {
	if r.leaves == nil {
		return nil, nil
	}
	for _, v := range r.leaves.Validators {
		if !slices.Contains(r.leaves.withheld, v) {
			in = append(in, v)
		}
	}
	return in, slices.Clone(r.leaves.withheld)
}

// Alpha returns the VRF input of the next seed, or nil when no seed is due. It follows from what was cosigned before.
func (r *Replay) Alpha() []byte {
	switch r.Due().Type {
	case ledger.TypeDay:
		return ledger.OrderAlpha(r.leaves.hash, r.leaves.Day)
	case ledger.TypeBlock:
		return ledger.DrawAlpha(r.day.Root, r.drop)
	}
	return nil
}

// LeavesNumber returns the number of the day's leaves entry: the credits before it count. It is 0 before there is one.
func (r *Replay) LeavesNumber() uint64 {
	if r.leaves == nil {
		return 0
	}
	return r.leaves.to
}

// Day returns the order of the current day, or nil.
func (r *Replay) Day() *ledger.Day { return r.day }

// NextDay makes the day entry that is due, less its root, from the proofs of the day's validators, ascending.
func (r *Replay) NextDay(proofs []ledger.Proof, withheld []byte) (*ledger.Day, error) {
	if r.Due().Type != ledger.TypeDay {
		return nil, errors.New("no order of leaves is due")
	}
	seed, err := r.seed(proofs, withheld)
	if err != nil {
		return nil, err
	}
	return &ledger.Day{
		Day: r.leaves.Day, Leaves: r.leaves.hash, Proofs: proofs, Withheld: withheld, Order: seed,
		Count: r.leaves.Count, Weight: r.leaves.Weight,
	}, nil
}

// NextBlock makes the block that is due. Everything in it but the proofs, ascending, and who withheld one follows from the log.
func (r *Replay) NextBlock(proofs []ledger.Proof, withheld []byte) (*ledger.Block, error) {
	if r.Due().Type != ledger.TypeBlock {
		return nil, errors.New("no block is due")
	}
	seed, err := r.seed(proofs, withheld)
	if err != nil {
		return nil, err
	}
	logRoot, err := r.tree.GetRootHash(nil)
	if err != nil {
		return nil, err
	}
	b := &ledger.Block{
		Drop: r.drop, Time: r.program.Timing.DropTime(r.drop).Unix(), Previous: r.previous,
		Program: r.programID, Policies: r.policies,
		Day: r.leaves.Day, Root: r.day.Root, Count: r.leaves.Count, Weight: r.leaves.Weight,
		CreditFrom: r.leaves.from, CreditTo: r.leaves.to,
		Proofs: proofs, Withheld: withheld, Seed: seed,
		Height: r.height, Carry: r.carry, Supply: r.supply,
		Size: r.number, LogRoot: wire.Hash(logRoot),
	}
	if b.Weight > 0 {
		if b.Units, b.Carry, err = reward.Units(r.height, r.carry); err != nil {
			return nil, err
		}
		b.Supply += b.Units * reward.Unit
	}
	return b, nil
}
