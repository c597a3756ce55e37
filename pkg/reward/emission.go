package reward

import "fmt"

const (
	// Milli is the number of milli-stones in a stone.
	Milli = 1000
	// MinedSupply is the most that mileage may ever mine, in milli-stones: 210,000,000 stones.
	MinedSupply = 210_000_000 * Milli
	// CultivatedSupply is the most that mine boxes may ever give, in milli-stones: 90,000,000 stones.
	CultivatedSupply = 90_000_000 * Milli
	// Supply is the most that will ever exist, in milli-stones.
	Supply = MinedSupply + CultivatedSupply
	// EraDrops is the length of an era in drops that had weight.
	EraDrops = 210_000
	// Unit is the size of what one point of the draw gives, in milli-stones.
	Unit = 500

	firstDrop = MinedSupply / 2 / EraDrops // milli-stones of each drop in the first era: 500 stones, without remainder
)

// Emission returns S(h), the milli-stones emitted once h drops with weight have passed: the floor of the cumulative emission, in
// which era e (from 0) gives MinedSupply/2^(e+1), spread evenly over its EraDrops drops.
//
// With e = ⌊h/EraDrops⌋ and k = h mod EraDrops the cumulative emission is M − (M − k·firstDrop)/2^e, where M is MinedSupply, because
// the eras before e leave M/2^e and a drop of era e gives firstDrop/2^e. Its floor is M less the ceiling of the fraction, exact in 64
// bits. The fraction is positive in every era, so S(h) stays below M for every h: it ends at M − 1.
func Emission(h uint64) uint64 {
	era, k := h/EraDrops, h%EraDrops
	left := MinedSupply - k*firstDrop // above MinedSupply/2
	if era >= 63 {
		return MinedSupply - 1
	}
	return MinedSupply - (left+1<<era-1)>>era
}

// Units returns how many units the drop at height h draws, and the milli-stones, fewer than a Unit, that it carries to the next:
// K = ⌊(S(h+1) − S(h) + carry) / Unit⌋. A carry of a Unit or more is refused: no drop leaves one.
func Units(h, carry uint64) (units, rest uint64, err error) {
	if carry >= Unit {
		return 0, 0, fmt.Errorf("cannot compute units: carry of %d milli-stones is not below %d", carry, Unit)
	}
	if h == 1<<64-1 {
		return 0, 0, fmt.Errorf("cannot compute units: no drop follows height %d", h)
	}
	v := Emission(h+1) - Emission(h) + carry
	return v / Unit, v % Unit, nil
}
