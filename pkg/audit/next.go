package audit

import (
	"errors"
	"slices"

	"rawstone/pkg/audit/internal/treasury"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
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
	if p, _ := r.Program(); p == nil {
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

// Program returns the program document and its identifier, or nil before there is one. Its validators are those of the first day.
func (r *Replay) Program() (*terms.Program, wire.Hash) { return r.documents.Program() }

// Current returns the program with the validators of the log's day: those who are asked for the next entries' proofs and cosignatures,
// by their indices in its list. There must be a program.
func (r *Replay) Current() *terms.Program { return r.documents.On(r.today()) }

// Changes returns all changes of the validators, by rising serials and days.
func (r *Replay) Changes() []*ledger.Witness { return r.documents.Changes() }

// Offers returns all offers in the log, by rising serials. Those in force on a program day are cultivation.InForce of them.
func (r *Replay) Offers() []*cultivation.Offers { return r.documents.Offers() }

// An Opened says what the mine box that was asked for by the log's entry of that number held.
type Opened = treasury.Opened

// Opened returns the boxes that the last block opened, in order of numbers.
func (r *Replay) Opened() []Opened { return slices.Clone(r.treasury.Opened()) }

// Pool returns the pool that mine boxes are paid from: what all boxes opened so far have given, and the worst case of those that wait.
func (r *Replay) Pool() cultivation.Pool { return r.treasury.Pool() }

// today is the log's day: the program day of the next drop.
func (r *Replay) today() uint32 { return r.documents.Day(r.drop) }

// Set returns the day's validators that are not out, and those that are, once its leaves are logged.
func (r *Replay) Set() (in, withheld []byte) {
	if r.leaves == nil {
		return nil, nil
	}
	return r.leaves.roster.In(), slices.Clone(r.leaves.roster.Out)
}

// Recovers reports whether the next seed would be a recovery with these proofs (package duty): one in which any validator in force may take
// part, because too few are left of the day's. Validators do so only after the end of the day.
func (r *Replay) Recovers(proofs []ledger.Proof) bool {
	return r.leaves != nil && r.leaves.roster.Recovers(ledger.Provers(proofs), int(r.Current().Quorum))
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

// NextDay makes the day entry that is due, less its root, from the proofs of validators, ascending.
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
	b, _, err := r.nextBlock(proofs, withheld)
	return b, err
}

// nextBlock makes the block that is due, and the treasury after it.
func (r *Replay) nextBlock(proofs []ledger.Proof, withheld []byte) (b *ledger.Block, after treasury.Treasury, err error) {
	if r.Due().Type != ledger.TypeBlock {
		return nil, after, errors.New("no block is due")
	}
	seed, err := r.seed(proofs, withheld)
	if err != nil {
		return nil, after, err
	}
	logRoot, err := r.tree.GetRootHash(nil)
	if err != nil {
		return nil, after, err
	}
	if after, err = r.treasury.Open(seed); err != nil {
		return nil, after, err
	}
	program, id := r.Program()
	b = &ledger.Block{
		Drop: r.drop, Time: program.Timing.DropTime(r.drop).Unix(), Previous: r.previous,
		Program: id, Policies: r.documents.Chain(),
		Day: r.leaves.Day, Root: r.day.Root, Count: r.leaves.Count, Weight: r.leaves.Weight,
		CreditFrom: r.leaves.from, CreditTo: r.leaves.to,
		Proofs: proofs, Withheld: withheld, Seed: seed,
		Height: r.height, Carry: r.carry, Supply: r.supply,
		Size: r.number, LogRoot: wire.Hash(logRoot),
		Cultivated: after.Pool().Issued(), Boxes: after.Boxes(), Reserved: after.Pool().Reserved(), Redeemed: after.Redeemed(),
	}
	if b.Weight > 0 {
		if b.Units, b.Carry, err = reward.Units(r.height, r.carry); err != nil {
			return nil, after, err
		}
		b.Supply += b.Units * reward.Unit
	}
	return b, after, nil
}
