package replay

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/can"
)

const testDBC = `VERSION ""
BO_ 6 Odo: 8 X
 SG_ Km : 0|16@1+ (0.1,0) [0|6553.4] "km" X
 SG_ KmValid : 16|1@1+ (1,0) [0|1] "" X
BO_ 7 Motion: 8 X
 SG_ Speed : 0|16@1- (0.01,0) [-327|327] "m/s" X
 SG_ Assist : 16|1@1+ (1,0) [0|1] "" X
 SG_ Power : 24|16@1- (0.1,0) [-3276|3276] "kW" X
`

func frame(id can.ID, data ...byte) *can.Frame {
	f := &can.Frame{Time: 42, ID: id, Len: 8}
	copy(f.Data[:], data)
	return f
}

func TestSensors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.dbc")
	if err := os.WriteFile(path, []byte(testDBC), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg := SensorConfig{
		Odometer: SignalConfig{"Km", "km", "KmValid"}, Speed: SignalConfig{"Motion.Speed", "m/s", ""},
		Assist: SignalConfig{Signal: "Assist"}, Power: SignalConfig{"Power", "kW", ""},
	}
	s, warnings, err := LoadSensors(path, cfg)
	if err != nil || len(warnings) != 0 {
		t.Fatal(err, warnings)
	}
	for _, tt := range []struct {
		name  string
		frame *can.Frame
		want  Sample
	}{
		{"odometer", frame(6, 0x39, 0x30, 1), Sample{HasOdometer: true, OdometerMM: 1_234_500_000}},
		{"odometer not valid", frame(6, 0x39, 0x30, 0), Sample{}},
		{"odometer not available", frame(6, 0xff, 0xff, 1), Sample{}},
		{"motion", frame(7, 0xd0, 0x07, 1, 0x38, 0xff), Sample{HasSpeed: true, HasAssist: true, HasPower: true, SpeedMH: 72_000, Assisted: true, PowerW: -20_000}},
		{"reverse", frame(7, 0x9c, 0xff), Sample{HasSpeed: true, HasAssist: true, HasPower: true, SpeedMH: 3600}},
		{"other", frame(8, 1), Sample{}},
	} {
		got, ok := s.Sample(tt.frame)
		useful := tt.want != Sample{}
		tt.want.Time = 42
		if d := cmp.Diff(tt.want, got); d != "" || ok != useful {
			t.Errorf("%s: %v (-want +got):\n%s", tt.name, ok, d)
		}
	}

	for name, alter := range map[string]func(*SensorConfig){
		`unit "ly" of the odometer`:     func(c *SensorConfig) { c.Odometer.Unit = "ly" },
		`unit "kW" of the assist`:       func(c *SensorConfig) { c.Assist.Unit = "kW" },
		"no odometer signal":            func(c *SensorConfig) { c.Odometer = SignalConfig{} },
		`cannot decode signal "Gone"`:   func(c *SensorConfig) { c.Speed.Signal = "Gone" },
		`cannot decode signal "Broken"`: func(c *SensorConfig) { c.Odometer.Valid = "Broken" },
	} {
		c := cfg
		alter(&c)
		if _, _, err := LoadSensors(path, c); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "test.dbc") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := LoadSensors(path+"x", cfg); err == nil {
		t.Error("read a missing file")
	}
}
