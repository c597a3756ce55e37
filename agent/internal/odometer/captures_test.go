package odometer

import (
	"io"
	"os"
	"slices"
	"testing"

	"rawstone/agent/internal/odometer/event"
	"rawstone/agent/internal/vss"
	"rawstone/pkg/can"
	"rawstone/pkg/can/dbc"
	"rawstone/pkg/capturetest"
)

// captured is a signal of a recorded drive and its unit.
type captured struct {
	vss.Signal
	unit string
}

// replay decodes a recorded drive into samples.
func replay(t testing.TB, name string, wanted []captured) (signals []vss.Signal, samples []vss.Sample) {
	t.Helper()
	text, err := os.ReadFile(capturetest.Find(t, name+".dbc"))
	if err != nil {
		t.Fatal(err)
	}
	file, _ := dbc.Parse(name, text)
	var wants []dbc.Want
	var units []vss.Unit
	for i, w := range wanted {
		u, err := vss.ParseUnit(w.Role, w.unit)
		if err != nil {
			t.Fatal(err)
		}
		wants, units, signals = append(wants, dbc.Want{Signal: w.Name, Tag: i}), append(units, u), append(signals, w.Signal)
	}
	plan, err := dbc.Compile(file, wants)
	if err != nil {
		t.Fatal(err)
	}
	log, err := can.OpenFile(capturetest.Find(t, name+".candump.log.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var frame can.Frame
	var readings []dbc.Reading
	for {
		if err := log.Next(&frame); err == io.EOF {
			return signals, samples
		} else if err != nil {
			t.Fatal(err)
		}
		readings = plan.Decode(&frame, readings[:0])
		for _, r := range readings {
			v, ok := units[r.Tag()].Sample(r.Physical)
			samples = append(samples, vss.Sample{Signal: r.Tag(), Time: frame.Time, Value: v, Available: ok && r.Available()})
		}
	}
}

func mustang() []captured {
	return []captured{
		{vss.Signal{Name: "OdometerMasterValue", Role: vss.Distance, Resolution: 1_000_000}, "km"},
		{vss.Signal{Name: "OdoCount", Role: vss.Distance, Resolution: 200, Modulus: 51_200}, "m"},
		{vss.Signal{Name: "Veh_V_ActlEng", Role: vss.Speed}, "km/h"},
		{vss.Signal{Name: "Veh_V_ActlBrk", Role: vss.Speed}, "km/h"},
		{vss.Signal{Name: "OdoTripVerify_L_Actl", Role: vss.Distance, Resolution: 100_000}, "km"},
	}
}

func gnss() []captured {
	return []captured{
		{vss.Signal{Name: "DistanceTrip", Role: vss.Distance, Resolution: 1000, Resets: true}, "m"},
		{vss.Signal{Name: "DistanceTotal", Role: vss.Distance, Resolution: 1_000_000}, "km"},
		{vss.Signal{Name: "gnss_speed.Speed", Role: vss.Speed}, "m/s"},
	}
}

// Recorded drives come out to the metre, whichever of their sources are there, and raise no event.
func TestRecordedDrives(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		capture  string
		wanted   []captured
		from, to int64 // mm
		events   []event.Kind
	}{
		{"mustang", "mustang", mustang(), 307_000, 310_000, nil},
		// The counter is late by more than half a second seven times, in which a car of 360 km/h drives around it.
		{"mustang, counter and odometer only", "mustang", mustang()[:2], 270_000, 310_000, []event.Kind{event.UnseenWrap}},
		{"mustang, speed only", "mustang", mustang()[2:3], 305_000, 310_000, nil},
		{"mustang, odometer and speed", "mustang", []captured{mustang()[0], mustang()[2]}, 0, 0, nil},
		{"gnss", "obd2-trip", gnss(), 40_570_000, 40_579_000, nil},
		{"gnss, total and speed", "obd2-trip", gnss()[1:], 39_000_000, 40_579_000, nil},
		// It misses a sample now and then; the car may have braked and sped up meanwhile.
		{"gnss, speed only", "obd2-trip", gnss()[2:], 39_100_000, 40_579_000, nil},
	} {
		signals, samples := replay(t, c.capture, c.wanted)
		o := newOdometer(t, Config{Signals: signals})
		var sum int64
		for _, s := range samples {
			sum += o.Observe(s)
		}
		t.Logf("%s: %d samples, %d mm, from %q, events %v", c.name, len(samples), o.Total(), o.Source(), o.Reports())
		if sum != o.Total() || sum < c.from || sum > c.to {
			t.Errorf("%s: %d mm counted, %d by growth, want %d to %d", c.name, o.Total(), sum, c.from, c.to)
		}
		var events []event.Kind
		for _, r := range o.Reports() {
			events = append(events, r.Kind)
		}
		if !slices.Equal(events, c.events) {
			t.Errorf("%s: raises %v, want %v", c.name, events, c.events)
		}
	}
}
