package trip

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// A Role is what a signal means to the package, whatever it is called on the bus.
type Role uint8

// The roles, each with the integer unit of its samples.
const (
	Distance Role = iota // distance driven by a counter of the car, metres
	Speed                // millimetres a second
	Charge               // state of charge, thousandths
	Charging             // 1 while the battery is being charged, else 0
	Assist               // 1 while driver assistance is engaged, else 0
	NumRoles
)

// roleSpec says how a role is named in a configuration (a VSS path, COVESA Vehicle Signal Specification) and which units it takes.
type roleSpec struct {
	path  string
	limit float64            // largest magnitude of a sample
	units map[string]float64 // factor to the integer unit
}

func specs() [NumRoles]roleSpec {
	flag := map[string]float64{"": 1}
	return [NumRoles]roleSpec{
		Distance: {"Vehicle.TraveledDistance", math.MaxUint32, map[string]float64{"m": 1, "km": 1000, "mi": 1609.344}},
		Speed:    {"Vehicle.Speed", 1e6, map[string]float64{"m/s": 1000, "km/h": 1000 / 3.6, "mph": 447.04}},
		Charge:   {"Vehicle.Powertrain.TractionBattery.StateOfCharge.Displayed", 1000, map[string]float64{"%": 10}},
		Charging: {"Vehicle.Powertrain.TractionBattery.Charging.IsCharging", 1, flag},
		Assist:   {"Vehicle.ADAS.CruiseControl.IsActive", 1, flag},
	}
}

// ParseRole returns the role of a VSS path.
func ParseRole(path string) (Role, error) {
	var known []string
	for r, s := range specs() {
		if s.path == path {
			return Role(r), nil
		}
		known = append(known, s.path)
	}
	return 0, fmt.Errorf("signal path %q is none of %s", path, strings.Join(known, ", "))
}

// A Unit turns physical values of one role into samples.
type Unit struct {
	factor, limit float64
}

// ParseUnit returns the conversion of a role's values from a unit such as "km/h".
func ParseUnit(r Role, unit string) (Unit, error) {
	s := specs()[r]
	factor, ok := s.units[unit]
	if !ok {
		var known []string
		for u := range s.units {
			known = append(known, fmt.Sprintf("%q", u))
		}
		slices.Sort(known)
		return Unit{}, fmt.Errorf("unit %q of %s is none of %s", unit, s.path, strings.Join(known, ", "))
	}
	return Unit{factor: factor, limit: s.limit}, nil
}

// Sample converts a physical value; false means that no vehicle has such a value (NaN, infinite, negative, out of the role's range).
func (u Unit) Sample(physical float64) (int64, bool) {
	v := math.Round(physical * u.factor)
	if !(v >= 0 && v <= u.limit) {
		return 0, false
	}
	return int64(v), true
}
