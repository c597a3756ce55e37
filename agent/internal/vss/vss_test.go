package vss

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestLookup(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		path, version string
		want          Spec
	}{
		{"Vehicle.TraveledDistance", "4.0", Spec{Distance, "km", false}},
		{"Vehicle.TraveledDistance", "5.1", Spec{Distance, "km", false}},
		{"Vehicle.TraveledDistance", "6.0", Spec{Distance, "m", false}},
		{"Vehicle.TraveledDistanceSinceStart", "4.2", Spec{Distance, "km", true}},
		{"Vehicle.TraveledDistanceSinceStart", "6.0", Spec{Distance, "m", true}},
		{"Vehicle.TripMeterReading", "6.0", Spec{Distance, "m", true}},
		{"Vehicle.OBD.DistanceSinceDTCClear", "5.0", Spec{Distance, "km", true}},
		{"Vehicle.Speed", "6.0", Spec{Speed, "km/h", false}},
		{"Vehicle.Powertrain.TractionBattery.StateOfCharge.Displayed", "6.0", Spec{Charge, "percent", false}},
		{"Vehicle.Powertrain.TractionBattery.Charging.IsCharging", "4.1", Spec{Charging, "", false}},
		{"Vehicle.ADAS.CruiseControl.IsActive", "6.0", Spec{Assist, "", false}},
	} {
		got, err := Lookup(c.path, c.version)
		if err != nil || got != c.want {
			t.Errorf("%s in %s: %+v, %v, want %+v", c.path, c.version, got, err, c.want)
		}
	}
}

// Everything the table offers can be looked up, and its unit is one that ParseUnit takes.
func TestTable(t *testing.T) {
	t.Parallel()
	for _, version := range Versions() {
		for _, path := range Paths(version) {
			spec, err := Lookup(path, version)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseUnit(spec.Role, spec.Unit); err != nil {
				t.Errorf("%s in %s: %v", path, version, err)
			}
		}
	}
	if got := Paths("3.0"); got != nil {
		t.Errorf("paths of an unknown version: %v", got)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ path, version, want string }{
		{"Vehicle.Speed", "", "4.0, 4.1, 4.2, 5.0, 5.1, 6.0"},
		{"Vehicle.Speed", "6", "none of 4.0"},
		{"Vehicle.TravelledDistance", "6.0", "Vehicle.TraveledDistance, "},
		{"Vehicle.OBD.DistanceSinceDTCClear", "6.0", "in version 6.0"},
	} {
		if _, err := Lookup(c.path, c.version); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q in %q: %v, want %q", c.path, c.version, err, c.want)
		}
	}
	if _, err := ParseUnit(Speed, "km"); err == nil || !strings.Contains(err.Error(), `"km/h"`) {
		t.Errorf("unit km of a speed: %v", err)
	}
	if _, err := ParseUnit(NumRoles, ""); err == nil {
		t.Error("a unit of no role was accepted")
	}
	if _, ok := (Unit{}).Sample(1); ok {
		t.Error("the zero unit gave a sample")
	}
}

func TestSample(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		role     Role
		unit     string
		physical float64
		want     int64
		ok       bool
	}{
		{Distance, "km", 65625, 65_625_000_000, true},
		{Distance, "km", 2041, 2_041_000_000, true},
		{Distance, "km", 5143.9, 5_143_900_000, true},
		{Distance, "mi", 1, 1_609_344, true},
		{Distance, "m", math.MaxUint32, math.MaxUint32 * 1000, true},
		{Distance, "m", math.MaxUint32 + 1, 0, false},
		{Distance, "m", 0.2, 200, true},
		{Distance, "m", -1, 0, false},
		{Speed, "km/h", 3.6, 1000, true},
		{Speed, "km/h", -3.6, 1000, true},
		{Speed, "m/s", 1000, 1_000_000, true},
		{Speed, "m/s", 1000.001, 0, false},
		{Speed, "mph", 100, 44_704, true},
		{Charge, "percent", 99.96, 1000, true},
		{Charge, "%", 12.34, 123, true},
		{Charge, "%", 101, 0, false},
		{Charging, "", 1, 1, true},
		{Charging, "", 2, 0, false},
		{Assist, "", math.NaN(), 0, false},
		{Speed, "m/s", math.Inf(1), 0, false},
		{Speed, "m/s", math.Inf(-1), 0, false},
	} {
		u, err := ParseUnit(c.role, c.unit)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := u.Sample(c.physical)
		if got != c.want || ok != c.ok {
			t.Errorf("%v %s of a %v: %d, %t, want %d, %t", c.physical, c.unit, c.role, got, ok, c.want, c.ok)
		}
	}
}

// The float path agrees with exact arithmetic for every value of an odometer of 0.1 km.
func TestSampleExact(t *testing.T) {
	t.Parallel()
	u, err := ParseUnit(Distance, "km")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.Int64Range(0, 42_949_672).Draw(t, "raw")
		if got, ok := u.Sample(float64(raw) * 0.1); !ok || got != raw*100_000 {
			t.Fatalf("%d tenths of a kilometre are %d, %t", raw, got, ok)
		}
	})
}

func TestNames(t *testing.T) {
	t.Parallel()
	var got []string
	for r := range NumRoles + 1 {
		got = append(got, r.String())
	}
	if d := cmp.Diff([]string{"distance", "speed", "charge", "charging", "assist", "role 5"}, got); d != "" {
		t.Error(d)
	}
}
