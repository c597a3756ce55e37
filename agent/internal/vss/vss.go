// Package vss names what a vehicle's signals mean: the paths of the COVESA Vehicle Signal Specification that Rawstone understands,
// the unit each has in each version of the specification, and the integer samples that the rest of the agent counts with.
//
// The version matters: Vehicle.TraveledDistance is a float of kilometres up to 5.1 and a uint32 of metres in 6.0. The package
// therefore refuses a path without a version, a version whose units it does not know, and a path that the version does not have.
// Floats stop here: Unit.Sample turns a physical value into an integer and refuses one that no vehicle has.
package vss

import (
	"fmt"
	"slices"
	"strings"
)

// A Role is what a signal means to the agent, whatever it is called on the bus.
type Role uint8

// The roles, each with the integer unit of its samples.
const (
	Distance Role = iota // distance driven by a counter of the car, millimetres
	Speed                // millimetres a second, whichever way the car moves
	Charge               // state of charge of the traction battery, thousandths
	Charging             // 1 while the traction battery is being charged, else 0
	Assist               // 1 while driver assistance is engaged, else 0
	NumRoles
)

// String returns the role's name for people.
func (r Role) String() string {
	switch r {
	case Distance:
		return "distance"
	case Speed:
		return "speed"
	case Charge:
		return "charge"
	case Charging:
		return "charging"
	case Assist:
		return "assist"
	}
	return fmt.Sprintf("role %d", uint8(r))
}

// A Spec is what a path means in one version of the specification.
type Spec struct {
	Role Role
	// Unit is the unit of the path's values in that version, as ParseUnit takes it; empty for a boolean.
	Unit string
	// Resets says that the value starts again from 0 by its nature, for example with each trip.
	Resets bool
}

// A Signal describes one source of samples.
type Signal struct {
	// Path is the VSS path, Name the source's name for people: "OdometerMasterValue", "PID A6", "SPN 917".
	Path, Name string
	Role       Role
	// Resets is Spec.Resets.
	Resets bool
	// Modulus is where a short counter wraps to 0, in millimetres; 0 for a signal that does not wrap.
	Modulus int64
	// Resolution is the smallest step of the values in millimetres, rounded up, at least 1; 0 for a role that is no distance.
	Resolution int64
}

// A Sample is one value of a signal.
type Sample struct {
	// Signal is an index into the signals of the reader that delivered it.
	Signal int
	// Origin is the J1939 source address of the sender, 0 for a signal of another kind.
	Origin uint8
	// Time is frame time, nanoseconds since the Unix epoch; Value is in the integer unit of the signal's role.
	Time, Value int64
	// Available is false when the sender said that it has no value, or sent one that no vehicle has; Value then means nothing.
	Available bool
}

// Versions returns the versions of the specification whose units are known, oldest first.
func Versions() []string { return []string{"4.0", "4.1", "4.2", "5.0", "5.1", "6.0"} }

// path is a row of the table.
type path struct {
	name string
	role Role
	// unit holds up to version last, and later from then on; last is empty where the unit never changed.
	unit, last, later string
	resets            bool
	// gone is the version from which on the path is not in the specification; empty for none.
	gone string
}

// paths is the table, copied from the released specifications 4.0 to 6.0.
func paths() []path {
	return []path{
		{name: "Vehicle.TraveledDistance", role: Distance, unit: "km", last: "5.1", later: "m"},
		{name: "Vehicle.TraveledDistanceSinceStart", role: Distance, unit: "km", last: "5.1", later: "m", resets: true},
		{name: "Vehicle.TripMeterReading", role: Distance, unit: "km", last: "5.1", later: "m", resets: true},
		{name: "Vehicle.OBD.DistanceSinceDTCClear", role: Distance, unit: "km", resets: true, gone: "6.0"},
		{name: "Vehicle.Speed", role: Speed, unit: "km/h"},
		{name: "Vehicle.Powertrain.TractionBattery.StateOfCharge.Displayed", role: Charge, unit: "percent"},
		{name: "Vehicle.Powertrain.TractionBattery.StateOfCharge.Current", role: Charge, unit: "percent"},
		{name: "Vehicle.Powertrain.TractionBattery.Charging.IsCharging", role: Charging},
		{name: "Vehicle.ADAS.CruiseControl.IsActive", role: Assist},
	}
}

// Paths returns the paths of a version in the table's order, none for a version that is not among Versions.
func Paths(version string) []string {
	at := slices.Index(Versions(), version)
	if at < 0 {
		return nil
	}
	var names []string
	for _, p := range paths() {
		if p.gone == "" || at < slices.Index(Versions(), p.gone) {
			names = append(names, p.name)
		}
	}
	return names
}

// CheckVersion refuses a version that is not among Versions.
func CheckVersion(version string) error {
	if slices.Contains(Versions(), version) {
		return nil
	}
	return fmt.Errorf("version %q of the Vehicle Signal Specification is none of %s", version, strings.Join(Versions(), ", "))
}

// Lookup returns what a path means in a version such as "6.0". Its error is a sentence that lists what is known.
func Lookup(name, version string) (Spec, error) {
	if err := CheckVersion(version); err != nil {
		return Spec{}, err
	}
	known := Paths(version)
	if !slices.Contains(known, name) {
		return Spec{}, fmt.Errorf("signal path %q is none of %s in version %s of the Vehicle Signal Specification", name, strings.Join(known, ", "), version)
	}
	table := paths()
	p := table[slices.IndexFunc(table, func(p path) bool { return p.name == name })]
	s := Spec{Role: p.role, Unit: p.unit, Resets: p.resets}
	if p.last != "" && slices.Index(Versions(), version) > slices.Index(Versions(), p.last) {
		s.Unit = p.later
	}
	return s, nil
}
