package chain

import (
	"fmt"

	"rawstone/pkg/ledger"
	"rawstone/pkg/ledger/duty"
	"rawstone/pkg/reward"
)

// maxDrop bounds a drop, so that its time fits: 2^40 drops take longer than anybody counts.
const maxDrop = 1 << 40

// Base begins with a block that need not be that of drop 0. What the block before it left behind follows from the block itself, with the
// carry from the emission; what follows from no block but its predecessor is believed.
func (c *Chain) Base(payload []byte) error {
	b, err := ledger.DecodeBlock(payload)
	if err != nil {
		return err
	}
	if c.Begun() {
		return fmt.Errorf("block of drop %d is not the first", b.Drop)
	}
	issued := b.Units * reward.Unit
	if b.Units > reward.MinedSupply/reward.Unit || issued > b.Supply || b.Drop > maxDrop {
		return fmt.Errorf("block of drop %d: %d units do not fit a supply of %d milli-stones", b.Drop, b.Units, b.Supply)
	}
	before := b.Supply - issued
	total := reward.Emission(b.Height)
	if before > total || total-before >= reward.Unit {
		return fmt.Errorf("block of drop %d: supply before it is %d milli-stones, should be %d less a carry below %d", b.Drop, before, total, uint64(reward.Unit))
	}
	c.Next, c.Hash, c.Height, c.Supply, c.Carry = b.Drop, b.Previous, b.Height, before, total-before
	c.Cultivated, c.Boxes, c.Redeemed = b.Cultivated, b.Boxes, b.Redeemed
	_, err = c.Block(payload)
	return err
}

// Block checks the next block and takes it in. A block that is refused leaves the chain of no use.
func (c *Chain) Block(payload []byte) (*ledger.Block, error) {
	b, err := ledger.DecodeBlock(payload)
	if err != nil {
		return nil, err
	}
	if b.Drop != c.Next {
		return nil, fmt.Errorf("a block is of drop %d, should be of drop %d: none is left out", b.Drop, c.Next)
	}
	fresh := len(c.Validators) == 0 || b.Day != c.Day
	if err := c.follows(b, fresh); err != nil {
		return nil, fmt.Errorf("block of drop %d: %w", b.Drop, err)
	}
	set, err := c.seed(b, fresh)
	if err != nil {
		return nil, fmt.Errorf("block of drop %d: %w", b.Drop, err)
	}
	if b.Weight > 0 {
		c.Height++
	}
	c.Next, c.Hash, c.Size, c.Day = b.Drop+1, ledger.PayloadHash(ledger.TypeBlock, payload), b.Size, b.Day
	c.Root, c.Count, c.Weight, c.From, c.To = b.Root, b.Count, b.Weight, b.CreditFrom, b.CreditTo
	c.Validators, c.Withheld = set, b.Withheld
	c.Carry, c.Supply, c.Cultivated, c.Boxes, c.Redeemed = b.Carry, b.Supply, b.Cultivated, b.Boxes, b.Redeemed
	c.blocks++
	return b, nil
}

// follows checks everything but proofs and seed.
func (c *Chain) follows(b *ledger.Block, fresh bool) error {
	units, carry := uint64(0), c.Carry
	if b.Weight > 0 {
		var err error
		if units, carry, err = reward.Units(c.Height, c.Carry); err != nil {
			return err
		}
	}
	type field struct {
		name         string
		have, should any
	}
	fields := []field{
		{"hash of the previous block", b.Previous, c.Hash},
		{"program", b.Program, c.id},
		{"time", b.Time, c.program.Timing.DropTime(b.Drop).Unix()},
		{"day", b.Day, c.Today()},
		{"chain of policies", b.Policies, c.Policies},
		{"height", b.Height, c.Height},
		{"number of units", b.Units, units},
		{"carry", b.Carry, carry},
		{"supply", b.Supply, c.Supply + units*reward.Unit},
	}
	if !fresh {
		fields = append(fields, field{"weights root of the day", b.Root, c.Root}, field{"number of leaves", b.Count, c.Count}, field{"total weight", b.Weight, c.Weight},
			field{"first credit", b.CreditFrom, c.From}, field{"end of the credits", b.CreditTo, c.To})
	}
	for _, f := range fields {
		if f.have != f.should {
			return fmt.Errorf("%s is %v, should be %v", f.name, f.have, f.should)
		}
	}
	if fresh && b.Count == 0 {
		empty, err := reward.NewTree(nil)
		if err != nil || b.Root != empty.Root().Hash {
			return fmt.Errorf("weights root is %s, should be that of no leaves", b.Root)
		}
	}
	switch {
	case c.Begun() && b.Size <= c.Size:
		return fmt.Errorf("its checkpoint covers %d entries, should be more than %d", b.Size, c.Size)
	case fresh && (b.CreditTo < c.Size || b.CreditTo >= b.Size):
		return fmt.Errorf("its credits end at entry %d, should be from %d to below %d", b.CreditTo, c.Size, b.Size)
	case b.Cultivated < c.Cultivated || b.Cultivated > reward.CultivatedSupply || b.Reserved > reward.CultivatedSupply-b.Cultivated:
		return fmt.Errorf("%d milli-stones were cultivated and %d are reserved, should be from %d to %d", b.Cultivated, b.Reserved, c.Cultivated, uint64(reward.CultivatedSupply))
	case b.Boxes < c.Boxes:
		return fmt.Errorf("%d boxes were opened, should be at least %d", b.Boxes, c.Boxes)
	case b.Redeemed < c.Redeemed || b.Redeemed > b.Supply+b.Cultivated:
		return fmt.Errorf("%d milli-stones were redeemed, should be from %d to %d", b.Redeemed, c.Redeemed, b.Supply+b.Cultivated)
	}
	return nil
}

// seed checks the validators, their proofs and the seed, and returns the validators of the block's day.
func (c *Chain) seed(b *ledger.Block, fresh bool) (set []byte, err error) {
	program, gave := c.On(b.Day), ledger.Provers(b.Proofs)
	if !fresh {
		if err := (duty.Roster{Set: c.Validators, Out: c.Withheld}).Check(gave, b.Withheld, int(program.Quorum)); err != nil {
			return nil, err
		}
	}
	set = duty.After(gave, b.Withheld).Set
	if len(gave) < int(program.Quorum) || int(set[len(set)-1]) >= len(program.Validators) {
		return nil, fmt.Errorf("its %d proofs are of the validators %v, should be at least %d below %d", len(gave), set, program.Quorum, len(program.Validators))
	}
	seed, err := ledger.Seed(program.Validators, ledger.DrawAlpha(b.Root, b.Drop), b.Proofs)
	if err != nil {
		return nil, err
	}
	if seed != b.Seed {
		return nil, fmt.Errorf("seed is %s, should be %s, which its proofs make", b.Seed, seed)
	}
	return set, nil
}
