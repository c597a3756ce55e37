package signalmap

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const carDBC = `BO_ 256 Car: 8 X
 SG_ Odometer : 0|24@1+ (0.1,0) [0|0] "km" X
 SG_ Miles : 24|1@1+ (1,0) [0|1] "" X
 SG_ Quality : 32|2@1+ (1,0) [0|3] "" X
 SG_ Count : 40|8@1+ (0.2,0) [0|50.8] "m" X
 SG_ Gear : 48|4@1+ (1,0) [0|15] "" X
BO_ 257 Other: 8 X
 SG_ Unit : 0|8@1+ (1,0) [0|0] "" X
 SG_ Count16 : 8|16@1+ (0.25,0) [0|0] "m" X
 SG_ Signed : 24|8@1- (1,0) [0|0] "m" X
 SG_ Third : 32|8@1+ (0.333,0) [0|0] "m" X
 SG_ Odometer : 40|24@1+ (1,0) [0|0] "km" X
BO_ 2566844926 CCVS: 8 X
 SG_ Speed : 8|16@1+ (0.00390625,0) [0|250.996] "km/h" X
 SG_ SpeedOK : 0|2@1+ (1,0) [0|3] "" X
BO_ 258 Floats: 8 X
 SG_ Float : 0|32@1- (1,0) [0|0] "km" X
SIG_VALTYPE_ 258 Float : 1;
`

const header = "vss: '6.0'\nbuses:\n  - {name: can0, dbc: x.dbc}\n  - {name: can1}\nsignals:\n"

func decode(text string, files map[string]string) (*Map, error) {
	return Decode("/map.yaml", []byte(text), func(path string) ([]byte, error) {
		if text, ok := files[path]; ok {
			return []byte(text), nil
		}
		return nil, fs.ErrNotExist
	})
}

// Each line costs its fault and only that.
func TestFaults(t *testing.T) {
	t.Parallel()
	const odo = "  - {path: Vehicle.TraveledDistance, bus: can0, "
	for _, c := range []struct{ line, want string }{
		{"  - {path: Vehicle.Travelled, bus: can0, dbc: Car.Odometer, unit: km}", `7:12: signals[1].path: signal path "Vehicle.Travelled" is none of`},
		{"  - {path: Vehicle.Speed, bus: can7, pid: 0x0D}", `7:32: signals[1].bus: there is no bus "can7"`},
		{odo + "unit: km}", "7:5: signals[1]: 0 of dbc, pid, did and spn are set"},
		{odo + "pid: 0xA6, spn: 245}", "2 of dbc, pid, did and spn"},
		{odo + "dbc: Car.Odo, unit: km}", `7:54: signals[1].dbc: signal "Car.Odo": the DBC file has none`},
		{odo + "dbc: Odometer, unit: km}", "the DBC file has 2 of that name"},
		{"  - {path: Vehicle.TraveledDistance, bus: can1, dbc: Car.Odometer, unit: km}", `signals[1].dbc: bus "can1" has no dbc file`},
		{odo + "dbc: Car.Odometer}", `signals[1]: unit: unit "" of a distance is none of`},
		{odo + "dbc: Car.Odometer, unit: kph}", `signals[1].unit: unit "kph" of a distance`},
		{odo + "dbc: Car.Odometer, unit: km, scale: 1e3}", `scale: "1e3" is no decimal number`},
		{odo + "dbc: Car.Odometer, unit: km, scale: 0.00}", "scale: must not be 0"},
		{odo + "dbc: Car.Odometer, unit: km, offset: ten}", `offset: "ten" is no decimal`},
		{odo + "dbc: Car.Odometer, unit: km, bytes: 3}", "bytes: is for a did: remove it"},
		{odo + "dbc: Car.Odometer, unit: km, every: 1s}", "every: is for a pid, did or spn"},
		{odo + "dbc: Car.Odometer, unit: km, source: 3}", "source: is for an spn"},
		{odo + "dbc: Car.Odometer, unit: km, any_source: true}", "any_source is for the 29-bit ones"},
		{odo + "dbc: Car.Odometer, unit: km, active: [1]}", "active: is for a path that is a boolean"},
		{odo + "dbc: Car.Odometer, unit: km, unit_flag: {signal: Nope, equals: 1, unit: mi}}", `unit_flag.signal: signal "Nope"`},
		{odo + "dbc: Car.Odometer, unit: km, unit_flag: {signal: Car.Miles, equals: 1, unit: mph}}", `unit_flag.unit: unit "mph"`},
		{odo + "dbc: Car.Odometer, unit: km, unit_flag: {equals: 1, unit: mi}}", "unit_flag: signal must be set"},
		{odo + "dbc: Car.Odometer, unit: km, valid: {signal: Car.Quality}}", "valid: 0 values, want 1 to 64"},
		{odo + "dbc: Car.Odometer, unit: km, valid: {signal: Floats.Float, values: [1]}}", "signal Float is a float"},
		{odo + "dbc: Car.Count, unit: m, wrap_bits: 9}", "wrap_bits: signal Count must be an unsigned integer of at least 9 bits"},
		{odo + "dbc: Other.Signed, unit: m, wrap_bits: 8}", "wrap_bits: signal Signed must be an unsigned"},
		{odo + "dbc: Other.Third, unit: m, wrap_bits: 8, scale: 0.00001}", "wrap_bits: 256 steps of"},
		{odo + "dbc: Car.Count, unit: m, wrap_bits: 8, offset: 1}", "offset: a counter that wraps has none"},
		{odo + "dbc: Car.Count, unit: m, wrap_bits: -1}", "wrap_bits: -1 is not within 1 to 32"},
		{odo + "dbc: Car.Count, unit: m, wrap_bits: 8, unit_flag: {signal: Car.Miles, equals: 1, unit: mi}}", "a counter that wraps cannot change its unit"},
		{"  - {path: Vehicle.Speed, bus: can0, dbc: Car.Count, unit: m/s, wrap_bits: 8}", "wrap_bits: is for a distance"},
		{odo + "pid: 0xA7}", "pid: 0xa7 is no parameter"},
		{odo + "pid: 0x1A6}", "pid: 0x1a6 is no parameter"},
		{odo + "pid: 0x0C}", `unit: unit "rpm" of a distance`},
		{odo + "did: 0x404C}", "did: the layout of 404C is not known here"},
		{odo + "did: 0x404C, bytes: 9, unit: km}", "bytes: 9 bytes at 0 are no number"},
		{odo + "did: 0x404C, bytes: 4, at: 5000, unit: km}", "bytes: 4 bytes at 5000"},
		{odo + "did: 0x404C, bytes: 3}", `unit: unit "" of a distance`},
		{odo + "did: 0x1F404, bytes: 3, unit: km}", "did: 0x1f404 is not within"},
		{odo + "spn: 1}", "spn: 1 is no suspect parameter"},
		{odo + "spn: 245, source: 254}", "source: 254 is no address of a unit"},
		{odo + "pid: 0xA6, every: 1ms}", "every: 1ms is not within 100ms to 24h"},
		{odo + "pid: 0xA6, request: 0x7DF}", "request: 7DF is everybody's"},
		{odo + "pid: 0xA6, request: 0x18DB33F1}", "request: 18DB33F1 is everybody's"},
		{odo + "pid: 0xA6, request: 0x7E8}", "request and response are both 7E8"},
		{odo + "pid: 0xA6, response: 0x20000000}", "response: 0x20000000 is no CAN identifier"},
		{odo + "pid: 0xA6, fd: true}", "request, fd or unpadded differ"},
	} {
		_, err := decode(header+"  - {path: Vehicle.Speed, bus: can0, pid: 0x0D}\n"+c.line+"\n", map[string]string{"/x.dbc": carDBC})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.line, err, c.want)
		} else if n := strings.Count(err.Error(), "\n"); n != 1 {
			t.Errorf("%s: %d faults: %v", c.line, n, err)
		}
	}
}

// What is no regular file is refused before it is opened, which might never end.
func TestOddFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Skip(err)
	}
	for _, name := range []string{"pipe", "/dev/zero", "."} {
		path := filepath.Join(dir, "map.yaml")
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(header, "x.dbc", name)+"  - {path: Vehicle.Speed, bus: can1, pid: 0x0D}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "no regular file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Faults do not hide one another.
func TestFaultsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := decode(`vss: '6.0'
buses: [{name: can0}, {name: can0, dbc: gone.dbc}]
signals:
  - {path: Vehicle.Sped, bus: can7, spn: -1, source: 300, every: 1ms, scale: 1e300, offset: ten, bytes: 9, wrap_bits: 99}
`, nil)
	for _, want := range []string{
		"2:30: buses[1].name", "2:41: buses[1].dbc", "4:12: signals[0].path", "4:31: signals[0].bus", "4:42: signals[0].spn", "4:54: signals[0].source",
		"4:66: signals[0].every", "4:78: signals[0].scale", "4:93: signals[0].offset", "4:105: signals[0].bytes", "4:119: signals[0].wrap_bits",
	} {
		if err == nil || !strings.Contains(err.Error(), want+":") {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func TestFaultsOfFile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"buses: [{name: can0}]\nsignals: [{path: Vehicle.Speed, bus: can0, pid: 13}]\n", "vss must be set"},
		{"vss: '3.0'\nbuses: [{name: can0}]\nsignals: [{path: Vehicle.Speed, bus: can0, pid: 13}]\n", `1:6: vss: version "3.0"`},
		{"vss: '6.0'\nsignals: [{path: Vehicle.Speed, bus: can0, pid: 13}]\n", "0 buses, want 1 to 16"},
		{"vss: '6.0'\nbuses: [{name: can0}]\n", "0 signals, want 1 to 256"},
		{"vss: '6.0'\nbuses: [{name: can0}, {name: can0}]\nsignals: [{path: Vehicle.Speed, bus: can0, pid: 13}]\n", `2:30: buses[1].name: "can0" is empty or stands twice`},
		{"vss: '6.0'\nbuses: [{name: can0, dbc: gone.dbc}]\nsignals: [{path: Vehicle.Speed, bus: can0, dbc: A.B, unit: km/h}]\n", "2:27: buses[0].dbc: file does not exist"},
		{"vss: '6.0'\nbusses: []\n", "busses"},
	} {
		if _, err := decode(c.text, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
}

// TestEveryFault has faults of the map, of a DBC file and of a missing one in one report, in the order of the text.
func TestEveryFault(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "map.yaml")
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("x.dbc", carDBC+"BO_ nonsense\n")
	write("map.yaml", `vss: "6.0"
buses:
  - {name: can0, dbc: x.dbc}
  - {name: can1, dbc: missing.dbc}
signals:
  - {path: Vehicle.Speed, bus: can0, dbc: CCVS.Nope, unit: km/h}
  - {path: Vehicle.Speed, bus: can1, dbc: A.B, unit: furlong}
  - {path: Vehicle.Nope, bus: can2, pid: 0x0D}
`)
	_, err := Load(path)
	if err == nil {
		t.Fatal("loaded")
	}
	at := 0
	for _, want := range []string{
		"map.yaml:4:23: buses[1].dbc: cannot read DBC file", "map.yaml:6:43: signals[0].dbc: signal \"CCVS.Nope\"",
		"map.yaml:8:12: signals[2].path", "map.yaml:8:31: signals[2].bus",
	} {
		i := strings.Index(err.Error()[at:], want)
		if i < 0 {
			t.Fatalf("%q is not in its place in:\n%v", want, err)
		}
		at += i
	}
	write("map.yaml", "vss: 6.0\nbuses: [{name: can0, dbc: x.dbc}]\nsignals: [{path: Vehicle.Speed, bus: can0, dbc: CCVS.Speed, unit: km/h}]\n")
	m, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if w := m.Warnings(); len(w) == 0 || !strings.Contains(w[0].String(), "x.dbc") {
		t.Errorf("the broken line of x.dbc is not told: %v", w)
	}
}
