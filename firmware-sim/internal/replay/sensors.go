package replay

import (
	"errors"
	"fmt"
	"math"

	"rawstone/pkg/can"
	"rawstone/pkg/can/dbc"
)

// A Sample is what one frame says about the car.
type Sample struct {
	// Time is frame time in Unix nanoseconds.
	Time                                       int64
	HasOdometer, HasSpeed, HasAssist, HasPower bool
	// OdometerMM is the odometer's or trip counter's reading in millimetres, up to maxDistanceMM.
	OdometerMM int64
	// SpeedMH is the magnitude of speed in metres an hour, up to maxSpeedMH.
	SpeedMH int64
	// Assisted says that driver assistance is engaged.
	Assisted bool
	// PowerW is the power taken from the battery in watts, negative while it is charged, up to maxPowerW.
	PowerW int64
}

// A SignalConfig names a signal of a DBC file.
type SignalConfig struct {
	// Signal is "Message.Signal", or just "Signal" where that is unambiguous; empty means that the car has none.
	Signal string
	// Unit is what the signal's physical value is in: mm, m, km or mi of distance; m/s, km/h or mph of speed; W or kW of power.
	Unit string
	// Valid names a signal that must be other than 0 for the value to be used; empty means none.
	Valid string
}

// A SensorConfig names the signals of interest.
type SensorConfig struct {
	Odometer, Speed, Assist, Power SignalConfig
}

const (
	maxDistanceMM = math.MaxUint32 * 1000
	maxSpeedMH    = 1_000_000
	maxPowerW     = 10_000_000
)

// tags of the plan: each signal's validity comes before its value, because readings come in the order of the wants.
const (
	tagOdometerValid = iota
	tagSpeedValid
	tagAssistValid
	tagPowerValid
	tagOdometer
	tagSpeed
	tagAssist
	tagPower
	numTags
)

// Sensors turn frames into samples. They are not safe for concurrent use.
type Sensors struct {
	plan  *dbc.Plan
	scale [numTags]float64
	valid [numTags]bool
	buf   []dbc.Reading
}

// LoadSensors reads the DBC file at path and finds the signals. The warnings say what of the file was left out.
func LoadSensors(path string, cfg SensorConfig) (*Sensors, []dbc.Warning, error) {
	text, err := dbc.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	file, warnings := dbc.Parse(path, text)
	s, err := newSensors(file, cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot use DBC file %s: %w", path, err)
	}
	return s, warnings, nil
}

func newSensors(file *dbc.File, cfg SensorConfig) (*Sensors, error) {
	s := new(Sensors)
	var wants, values []dbc.Want
	for _, c := range []struct {
		name   string
		signal SignalConfig
		valid  int
		value  int
		units  map[string]float64
	}{
		{"odometer", cfg.Odometer, tagOdometerValid, tagOdometer, map[string]float64{"mm": 1, "m": 1e3, "km": 1e6, "mi": 1_609_344}},
		{"speed", cfg.Speed, tagSpeedValid, tagSpeed, map[string]float64{"km/h": 1e3, "m/s": 3600, "mph": 1_609.344}},
		{"assist", cfg.Assist, tagAssistValid, tagAssist, map[string]float64{"": 1}},
		{"power", cfg.Power, tagPowerValid, tagPower, map[string]float64{"W": 1, "kW": 1e3}},
	} {
		s.valid[c.value] = true
		if c.signal.Signal == "" {
			continue
		}
		var known bool
		if s.scale[c.value], known = c.units[c.signal.Unit]; !known {
			return nil, fmt.Errorf("unit %q of the %s signal is unknown", c.signal.Unit, c.name)
		}
		if c.signal.Valid != "" {
			s.valid[c.value] = false
			wants = append(wants, dbc.Want{Signal: c.signal.Valid, Tag: c.valid})
		}
		values = append(values, dbc.Want{Signal: c.signal.Signal, Tag: c.value})
	}
	if cfg.Odometer.Signal == "" {
		return nil, errors.New("no odometer signal is named")
	}
	var err error
	if s.plan, err = dbc.Compile(file, append(wants, values...)); err != nil {
		return nil, err
	}
	return s, nil
}

// Sample returns what a frame says, or false when that is nothing.
func (s *Sensors) Sample(f *can.Frame) (Sample, bool) {
	s.buf = s.plan.Decode(f, s.buf[:0])
	out := Sample{Time: f.Time}
	for _, r := range s.buf {
		if r.Tag() < tagOdometer {
			s.valid[r.Tag()+tagOdometer] = r.Available() && r.Raw != 0
			continue
		}
		if !r.Available() || !s.valid[r.Tag()] {
			continue
		}
		x := math.Round(r.Physical * s.scale[r.Tag()])
		switch {
		case r.Tag() == tagOdometer && x >= 0 && x <= maxDistanceMM:
			out.HasOdometer = true
			out.OdometerMM = int64(x)
		case r.Tag() == tagSpeed && math.Abs(x) <= maxSpeedMH:
			out.HasSpeed = true
			out.SpeedMH = int64(math.Abs(x)) // some signals are negative in reverse
		case r.Tag() == tagAssist:
			out.HasAssist = true
			out.Assisted = x != 0
		case r.Tag() == tagPower && math.Abs(x) <= maxPowerW:
			out.HasPower = true
			out.PowerW = int64(x)
		}
	}
	return out, out.HasOdometer || out.HasSpeed || out.HasAssist || out.HasPower
}
