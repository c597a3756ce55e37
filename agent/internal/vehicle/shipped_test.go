package vehicle

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"encoding/csv"
	"encoding/hex"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/agent/internal/signalmap"
	"rawstone/agent/internal/vss"
	"rawstone/pkg/can"
	"rawstone/pkg/can/dbc"
	"rawstone/pkg/capturetest"
)

const shipped = "../../../configs/vehicles"

// open compiles a shipped map whose buses are numbered as in the map.
func open(t testing.TB, name string) *Reader {
	t.Helper()
	m, err := Load(filepath.Join(shipped, name))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Compile(m, numbered(m), func(w dbc.Warning) { t.Error(w) })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func numbered(m *Map) func(string) (uint8, bool) {
	return func(name string) (uint8, bool) {
		i := slices.IndexFunc(m.Buses, func(b signalmap.Bus) bool { return b.Name == name })
		return uint8(i), i >= 0
	}
}

func TestShippedMaps(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(shipped)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".yaml") {
			continue
		}
		n++
		r := open(t, e.Name())
		if len(r.Filters(0)) == 0 {
			t.Errorf("%s: nothing is received", e.Name())
		}
	}
	if n < 6 {
		t.Errorf("%d maps", n)
	}
}

func TestShippedSignals(t *testing.T) {
	t.Parallel()
	const odometer, speed = "Vehicle.TraveledDistance", "Vehicle.Speed"
	for name, want := range map[string][]vss.Signal{
		"mustang.yaml": {
			{Path: odometer, Name: "OdometerMasterValue", Role: vss.Distance, Resolution: 1_000_000},
			{Path: odometer, Name: "OdoCount", Role: vss.Distance, Modulus: 51_200, Resolution: 200},
			{Path: speed, Name: "Veh_V_ActlEng", Role: vss.Speed},
			{Path: speed, Name: "Veh_V_ActlBrk", Role: vss.Speed},
			{Path: "Vehicle.ADAS.CruiseControl.IsActive", Name: "CcStat_D_Actl", Role: vss.Assist},
		},
		"obd2.yaml": {
			{Path: speed, Name: "PID 0D", Role: vss.Speed},
			{Path: odometer, Name: "PID A6", Role: vss.Distance, Resolution: 100_000},
			{Path: odometer, Name: "DID F4A6", Role: vss.Distance, Resolution: 100_000},
			{Path: "Vehicle.OBD.DistanceSinceDTCClear", Name: "PID 31", Role: vss.Distance, Resets: true, Resolution: 1_000_000},
			{Path: "Vehicle.Powertrain.TractionBattery.StateOfCharge.Displayed", Name: "PID 5B", Role: vss.Charge},
		},
		"j1939-truck.yaml": {
			{Path: odometer, Name: "SPN 917", Role: vss.Distance, Resolution: 5000},
			{Path: odometer, Name: "SPN 245", Role: vss.Distance, Resolution: 125_000},
			{Path: speed, Name: "SPN 84", Role: vss.Speed},
			{Path: "Vehicle.ADAS.CruiseControl.IsActive", Name: "SPN 595", Role: vss.Assist},
		},
	} {
		if d := cmp.Diff(want, open(t, name).Signals()); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// play reads the frames of a capture that are on a bus and returns the samples.
func play(t testing.TB, r *Reader, path, bus string) []vss.Sample {
	t.Helper()
	src, err := can.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	var samples []vss.Sample
	var f can.Frame
	var filtered []can.Filter = r.Filters(0)
	for {
		err := src.Next(&f)
		if err == io.EOF {
			return samples
		}
		if err != nil {
			t.Fatal(err)
		}
		if src.Buses()[f.Bus] != bus || !slices.ContainsFunc(filtered, func(x can.Filter) bool { return x.Match(f.ID) }) {
			continue
		}
		f.Bus = 0
		if err := r.Read(t.Context(), &f, func(s vss.Sample) { samples = append(samples, s) }); err != nil {
			t.Fatal(err)
		}
	}
}

// point is a sample as the expected files have it.
type point struct {
	Micros int64
	Value  int64
}

// expected reads the rows of a signal and converts them with exact decimal arithmetic: value · num / den, rounded to the nearest.
func expected(t testing.TB, path, signal string, num, den int64) []point {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	plain, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	rows := csv.NewReader(bufio.NewReader(plain))
	var points []point
	for {
		row, err := rows.Read()
		if err == io.EOF {
			return points
		}
		if err != nil {
			t.Fatal(err)
		}
		if row[3] != signal {
			continue
		}
		value, err := strconv.ParseFloat(row[4], 64)
		if err != nil {
			t.Fatal(err)
		}
		// The numbers are decimals of at most three places that went through a float.
		exact := int64(math.Round(value * 1000))
		points = append(points, point{thousandths(t, row[0]) * 1000, (exact*num + 500*den) / (1000 * den)})
	}
}

// thousandths reads a decimal number of at most three places, or a time of six whose last three it drops.
func thousandths(t testing.TB, text string) int64 {
	t.Helper()
	whole, fraction, _ := strings.Cut(text, ".")
	n, err := strconv.ParseInt(whole+(fraction + "000")[:3], 10, 64)
	if err != nil || len(fraction) > 6 {
		t.Fatalf("%q: %v", text, err)
	}
	return n
}

func points(samples []vss.Sample, signal int) []point {
	var out []point
	for _, s := range samples {
		if s.Signal == signal && s.Available {
			out = append(out, point{s.Time / 1_000_000 * 1000, s.Value})
		}
	}
	return out
}

func TestMustang(t *testing.T) {
	t.Parallel()
	dir := capturetest.Dir(t)
	r := open(t, "mustang.yaml")
	samples := play(t, r, filepath.Join(dir, "mustang.candump.log.gz"), "can0")
	csv := filepath.Join(dir, "mustang.expected.csv.gz")
	for i, c := range []struct {
		signal   string
		num, den int64
	}{{"OdometerMasterValue", 1_000_000, 1}, {"OdoCount", 1000, 1}, {"Veh_V_ActlEng", 10_000, 36}, {"Veh_V_ActlBrk", 10_000, 36}} {
		want := expected(t, csv, c.signal, c.num, c.den)
		if d := cmp.Diff(want, points(samples, i)); d != "" || len(want) == 0 {
			t.Errorf("%s, %d rows: %s", c.signal, len(want), d)
		}
	}
	odometer := points(samples, 0)
	if last := odometer[len(odometer)-1].Value; last != 65_625_000_000 {
		t.Errorf("odometer ends at %d mm", last)
	}
	wraps, driven, count := 0, int64(0), points(samples, 1)
	modulus := r.Signals()[1].Modulus
	for i := 1; i < len(count); i++ {
		step := count[i].Value - count[i-1].Value
		if step < 0 {
			wraps++
			step += modulus
		}
		driven += step
	}
	if wraps != 6 || driven != 309_600 {
		t.Errorf("%d wraps and %d mm, want 6 and 309600", wraps, driven)
	}
	if n := len(points(samples, 4)); n != 3482 {
		t.Errorf("%d samples of the cruise control", n)
	}
}

func TestOBD2Trip(t *testing.T) {
	t.Parallel()
	dir := capturetest.Dir(t)
	path := filepath.Join(dir, "obd2-trip.candump.log.gz")
	r := open(t, "obd2.yaml")
	speeds := points(play(t, r, path, "can1"), 0)
	if len(speeds) != 4785 {
		t.Errorf("%d speeds, want 4785", len(speeds))
	}
	if s := r.Stats(); s.Refused != 0 || s.Transport != 0 || s.Answers < 4785 {
		t.Errorf("%+v", s)
	}
	var most int64
	for _, p := range speeds {
		if p.Value*36%10_000 > 36 && 10_000-p.Value*36%10_000 > 36 {
			t.Fatalf("%d mm/s is no whole number of km/h", p.Value)
		}
		most = max(most, p.Value)
	}
	if most < 20_000 || most > 50_000 {
		t.Errorf("the fastest is %d mm/s", most)
	}

	csv := filepath.Join(dir, "obd2-trip.expected.csv.gz")
	samples := play(t, open(t, "css-gnss.yaml"), path, "can2")
	for i, c := range []struct {
		signal, valid string
		num           int64
	}{{"DistanceTotal", "DistanceValid", 1_000_000}, {"DistanceTrip", "DistanceValid", 1000}, {"Speed", "SpeedValid", 1000}} {
		values, valid := expected(t, csv, c.signal, c.num, 1), expected(t, csv, c.valid, 1, 1)
		var want []point
		for j := range values {
			if valid[j].Value == 1 {
				want = append(want, values[j])
			}
		}
		if d := cmp.Diff(want, points(samples, i)); d != "" || len(want) == 0 {
			t.Errorf("%s, %d rows: %s", c.signal, len(want), d)
		}
	}
}

// The recording sweeps speed and charge through values that no car has: those are not available.
func TestModel3(t *testing.T) {
	t.Parallel()
	path := capturetest.Find(t, "model3.candump.log.gz")
	samples := play(t, open(t, "model3.yaml"), path, "vcan0")
	src, err := can.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	var speeds, charges []point
	var f can.Frame
	for src.Next(&f) == nil {
		at, data := f.Time/1_000_000*1000, binary.LittleEndian.Uint64(f.Data[:8])
		switch f.ID {
		case 0x257: // 12 bits from bit 12, 0.08 km/h, -40, at most 285
			if hundredths := int64(data>>12&0xFFF)*8 - 4000; hundredths <= 285_00 {
				speeds = append(speeds, point{at, (hundredths*100 + 18) / 36})
			}
		case 0x33A: // 7 bits from bit 48
			if percent := int64(data >> 48 & 0x7F); percent <= 100 {
				charges = append(charges, point{at, percent * 10})
			}
		}
	}
	if d := cmp.Diff(speeds, points(samples, 1)); d != "" || len(speeds) < 1000 {
		t.Errorf("%d speeds: %s", len(speeds), d)
	}
	if d := cmp.Diff(charges, points(samples, 2)); d != "" || len(charges) < 1000 {
		t.Errorf("%d states of charge: %s", len(charges), d)
	}
}

// TestOdometerAnswers reads the 130 answers of a Ford with three identifiers.
func TestOdometerAnswers(t *testing.T) {
	t.Parallel()
	file, err := os.Open(capturetest.Find(t, "obd-odometer.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	text := "vss: '6.0'\nbuses: [{name: can0}]\nsignals:\n"
	seen := make(map[string]bool)
	for _, row := range rows[1:] {
		if id := row[1]; !seen[id] {
			seen[id] = true
			n, err := strconv.ParseUint(id, 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			to := ", request: 0x" + strconv.FormatUint(n-8, 16) + ", response: 0x" + id + "}\n"
			for _, what := range []string{"pid: 0xA6", "did: 0xF4A6", "did: 0x404C, bytes: 3, scale: 0.1, unit: km"} {
				text += "  - {path: Vehicle.TraveledDistance, bus: can0, " + what + to
			}
		}
	}
	r := compile(t, text)
	for _, row := range rows[1:] {
		id, err := strconv.ParseUint(row[1], 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		data, err := hex.DecodeString(row[2])
		if err != nil {
			t.Fatal(err)
		}
		f := can.Frame{Time: 1, ID: can.ID(id)}
		f.SetPayload(data)
		var got []int64
		if err := r.Read(t.Context(), &f, func(s vss.Sample) { got = append(got, s.Value) }); err != nil {
			t.Fatal(err)
		}
		if want := thousandths(t, row[3]) * 1000; len(got) != 1 || got[0] != want {
			t.Errorf("%v: %v, want %d", row, got, want)
		}
	}
	if len(rows) != 131 {
		t.Errorf("%d rows", len(rows)-1)
	}
}
