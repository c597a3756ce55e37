package vehicle

import (
	"strings"
	"testing"

	"rawstone/agent/internal/signalmap"
	"rawstone/agent/internal/vss"
	"rawstone/pkg/can/dbc"
)

func TestCompile(t *testing.T) {
	t.Parallel()
	m, err := decode("vss: 6.0\nbuses: [{name: can0, dbc: x.dbc}]\nsignals: [{path: Vehicle.Speed, bus: can0, dbc: CCVS.Speed, unit: km/h}]\n",
		map[string]string{"/x.dbc": carDBC + "BO_ nonsense\n"})
	if err != nil {
		t.Fatal(err)
	}
	warned := 0
	if _, err := Compile(m, func(string) (uint8, bool) { return 3, true }, func(dbc.Warning) { warned++ }); err != nil || warned == 0 {
		t.Errorf("%v, %d warnings", err, warned)
	}
	if _, err := Compile(m, func(string) (uint8, bool) { return 0, false }, nil); err == nil || !strings.Contains(err.Error(), `no bus "can0"`) {
		t.Errorf("a bus that the program does not have: %v", err)
	}
	m.Signals[0].Unit = "km"
	m.Buses = append(m.Buses, signalmap.Bus{Name: "can1"})
	_, err = Compile(m, func(string) (uint8, bool) { return 0, true }, nil)
	if err == nil || !strings.Contains(err.Error(), "is the same bus as") || !strings.Contains(err.Error(), "signals[0].unit") {
		t.Errorf("faults of a map made by hand: %v", err)
	}
}

func TestModulus(t *testing.T) {
	t.Parallel()
	r := compile(t, "vss: '6.0'\nbuses: [{name: can0, dbc: x.dbc}]\nsignals:\n"+
		"  - {path: Vehicle.TraveledDistance, bus: can0, dbc: Other.Count16, unit: m, wrap_bits: 16}\n"+
		"  - {path: Vehicle.TraveledDistance, bus: can0, dbc: Car.Count, unit: m, scale: 2.5, wrap_bits: 8}\n"+
		"  - {path: Vehicle.TraveledDistance, bus: can0, dbc: Car.Odometer, unit: km, scale: 0.1, unit_flag: {signal: Car.Miles, equals: 1, unit: mi}}\n", carDBC)
	got := r.Signals()
	if got[0].Modulus != 16_384_000 || got[0].Resolution != 250 {
		t.Errorf("%+v", got[0])
	}
	if got[1].Modulus != 128_000 || got[1].Resolution != 500 {
		t.Errorf("%+v", got[1])
	}
	if got[2].Modulus != 0 || got[2].Resolution != 16_094 {
		t.Errorf("%+v", got[2])
	}
	if got[0].Role != vss.Distance {
		t.Errorf("%+v", got[0])
	}
}
