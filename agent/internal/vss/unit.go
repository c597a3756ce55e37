package vss

import (
	"fmt"
	"math"
	"math/big"
	"strings"
)

// factor is one unit of a role: num/den of the role's integer unit.
type factor struct {
	unit     string
	num, den int64
}

// units lists what ParseUnit takes for a role, and the largest sample that a vehicle has.
func units(r Role) (factors []factor, limit int64) {
	switch r {
	case Distance:
		return []factor{{"mm", 1, 1}, {"cm", 10, 1}, {"m", 1000, 1}, {"km", 1_000_000, 1}, {"ft", 3048, 10}, {"mi", 1_609_344, 1}, {"mile", 1_609_344, 1}}, math.MaxUint32 * 1000
	case Speed:
		return []factor{{"mm/s", 1, 1}, {"cm/s", 10, 1}, {"m/s", 1000, 1}, {"km/h", 10_000, 36}, {"mph", 44_704, 100}, {"kn", 1_852_000, 3600}}, 1_000_000
	case Charge:
		return []factor{{"percent", 10, 1}, {"%", 10, 1}, {"ratio", 1000, 1}}, 1000
	case Charging, Assist:
		return []factor{{"", 1, 1}}, 1
	}
	return nil, 0
}

// A Unit turns physical values of one role into samples. The zero Unit refuses every value.
type Unit struct {
	num, den int64
	limit    int64
	either   bool // the sign is a direction
}

// ParseUnit returns the conversion of a role's values from a unit such as "km/h". Booleans have the unit "".
func ParseUnit(r Role, unit string) (Unit, error) {
	factors, limit := units(r)
	var known []string
	for _, f := range factors {
		if f.unit == unit {
			return Unit{num: f.num, den: f.den, limit: limit, either: r == Speed}, nil
		}
		known = append(known, fmt.Sprintf("%q", f.unit))
	}
	return Unit{}, fmt.Errorf("unit %q of a %s is none of %s", unit, r, strings.Join(known, ", "))
}

// Sample converts a physical value to the role's integer unit, rounded to the nearest; false means that no vehicle has such a
// value (NaN, infinite, negative, above the role's limit: 4,294,967,295 m, 1,000 m/s, 1,000 thousandths). A negative speed is
// one backwards and counts as its magnitude.
func (u Unit) Sample(physical float64) (int64, bool) {
	if u.den == 0 {
		return 0, false
	}
	if u.either {
		physical = math.Abs(physical)
	}
	v := math.Round(float64(physical*float64(u.num)) / float64(u.den))
	if !(v >= 0 && v <= float64(u.limit)) {
		return 0, false
	}
	return int64(v), true
}

// Factor returns the role's integer units in one of u, exactly.
func (u Unit) Factor() *big.Rat {
	if u.den == 0 {
		return new(big.Rat)
	}
	return big.NewRat(u.num, u.den)
}

// Limit returns the largest sample that Sample gives.
func (u Unit) Limit() int64 { return u.limit }
