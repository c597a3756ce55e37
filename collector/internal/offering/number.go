package offering

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
)

// Group spells an integer with commas between thousands.
func Group(v uint64) string {
	s := strconv.FormatUint(v, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Decimal spells v / 10^places exactly: no zeros at the end, commas between thousands. At most 18 places.
func Decimal(v uint64, places int) string {
	unit := uint64(1)
	for range places {
		unit *= 10
	}
	whole := Group(v / unit)
	if v%unit == 0 {
		return whole
	}
	return whole + "." + strings.TrimRight(fmt.Sprintf("%0*d", places, v%unit), "0")
}

// Stones spells an amount of milli-stones.
func Stones(milli uint64) string {
	if milli == reward.Milli {
		return "1 stone"
	}
	return Decimal(milli, 3) + " stones"
}

// Yuan spells an amount of fen.
func Yuan(fen uint64) string { return fmt.Sprintf("CNY %s.%02d", Group(fen/100), fen%100) }

// Fraction spells odds as a fraction in lowest terms.
func Fraction(parts uint32) string {
	a, b := uint64(parts), uint64(cultivation.Certain)
	for b != 0 {
		a, b = b, a%b
	}
	return Group(uint64(parts)/a) + "/" + Group(cultivation.Certain/a)
}

// Percent spells odds in percent, exactly.
func Percent(parts uint32) string { return Decimal(uint64(parts), 4) + " %" }

// Words says what a prize is.
func Words(p cultivation.Prize) string {
	switch {
	case p.Milli > 0:
		return Stones(p.Milli)
	case p.Crystals == 1:
		return "1 crystal"
	case p.Crystals > 1:
		return Group(uint64(p.Crystals)) + " crystals"
	case p.Goods != "":
		return "item " + p.Goods
	}
	return "nothing"
}

// A Mean is what a table of odds gives on average and at most. The averages are in millionths: of a milli-stone, and of a crystal.
type Mean struct {
	Milli, Crystals         uint64
	MostMilli, MostCrystals uint64
}

// Expect returns the averages of a table whose parts add up to cultivation.Certain; they fit, because no prize exceeds the pool.
func Expect(table []cultivation.Odds) (m Mean) {
	for _, o := range table {
		m.Milli += uint64(o.Parts) * o.Prize.Milli
		m.Crystals += uint64(o.Parts) * uint64(o.Prize.Crystals)
		m.MostMilli, m.MostCrystals = max(m.MostMilli, o.Prize.Milli), max(m.MostCrystals, uint64(o.Prize.Crystals))
	}
	return m
}

// Daily returns the crystals that all tasks together give one account on one day at most.
func Daily(o *cultivation.Offers) (crystals uint64) {
	for _, t := range o.Tasks {
		crystals += t.Daily
	}
	return crystals
}

// Worst returns the milli-stones a day, rounded up, that one owner's account takes from the pool at most in the long run: it does all
// tasks every day, spends all crystals on the box, and each time the box gives its most. There is no such bound, and ok is false, when any
// box can give back more crystals than it costs.
func Worst(o *cultivation.Offers, box *cultivation.OfferedBox) (milli uint64, ok bool) {
	for _, b := range o.Boxes {
		if Expect(b.Owners).MostCrystals > uint64(b.Cost) {
			return 0, false
		}
	}
	cost := new(big.Int).SetUint64(uint64(box.Cost))
	v := new(big.Int).SetUint64(Daily(o))
	v.Mul(v, new(big.Int).SetUint64(Expect(box.Owners).MostMilli))
	v.Add(v, cost).Sub(v, big.NewInt(1)).Div(v, cost)
	if pool := new(big.Int).SetUint64(reward.CultivatedSupply); v.Cmp(pool) > 0 {
		v = pool // nobody takes more than there is
	}
	return v.Uint64(), true
}
