package daemon

import (
	"fmt"
	"math"
	"net/url"
	"slices"

	"rawstone/firmware-sim/internal/drive"
	"rawstone/firmware-sim/internal/replay"
	"rawstone/pkg/config"
)

// A Mode is what plays the car.
type Mode string

// The modes.
const (
	ModeDrive  Mode = "drive"
	ModeReplay Mode = "replay"
)

// Config is the configuration file of firmware-sim. Paths are relative to the file's directory.
type Config struct {
	// Mode is drive (invented days) or replay (a recorded drive). Default: drive.
	Mode Mode `yaml:"mode"`
	// Program is the program the ECU belongs to. Required.
	Program ProgramConfig `yaml:"program"`
	// State is the directory of the ECU's key and state, made by `firmware-sim ecu init`. Required.
	State string `yaml:"state"`
	// History keeps the opening of every snapshot in State/snapshots.jsonl, for tests. Default: false.
	History bool `yaml:"history"`
	// Buses are the buses that the car is on, 1 to 16; drive takes one. Required.
	Buses []BusConfig `yaml:"buses"`
	// ECU says how the attestation ECU counts.
	ECU ECUConfig `yaml:"ecu"`
	// Drive is used in mode drive.
	Drive DriveConfig `yaml:"drive"`
	// Replay is used in mode replay.
	Replay ReplayConfig `yaml:"replay"`
}

// ProgramConfig names the program document.
type ProgramConfig struct {
	// File is the signed program document. Required.
	File string `yaml:"file"`
	// Root is the file with the program root's public key: 66 hexadecimal digits. Required.
	Root string `yaml:"root"`
}

// BusConfig names a bus.
type BusConfig struct {
	// Name is what a capture calls the bus; in mode drive any name. Required, unique.
	Name string `yaml:"name"`
	// URL is udp://GROUP:PORT (an IPv4 multicast group on loopback) or socketcan://INTERFACE. Required, unique.
	URL string `yaml:"url"`
}

// ECUConfig says how the attestation ECU counts.
type ECUConfig struct {
	// Bus is the name of the bus on which the ECU speaks with the agent. Default: the first.
	Bus string `yaml:"bus"`
	// OverspeedKmh is the speed in km/h above which overspeed_s counts, 60 to 200; it is also the limit that an invented driver
	// knows. Default: 120.
	OverspeedKmh int64 `yaml:"overspeed_kmh"`
	// StandstillKmh is the largest speed in km/h that is not driving, 0 to 10: 0 for a wheel speed, about 1 for a satellite
	// receiver's. Default: 0.
	StandstillKmh float64 `yaml:"standstill_kmh"`
}

// DriveConfig says how a car is driven.
type DriveConfig struct {
	// Profile is commuter, longhaul or parked. Default: commuter.
	Profile drive.Profile `yaml:"profile"`
	// Seed tells cars of one profile apart. Default: 1.
	Seed uint64 `yaml:"seed"`
	// StepMS is the simulated time between two readings of a moving car in milliseconds, 10 to 2000; it divides 2000. Default: 100.
	StepMS int64 `yaml:"step_ms"`
}

// ReplayConfig says what is replayed.
type ReplayConfig struct {
	// Capture is a file in candump's log format, plain or gzip. Required here or on the command line.
	Capture string `yaml:"capture"`
	// Speed is how many times faster than recorded it is played, 0.01 to 100,000; some 50,000 frames a second are the end.
	// Default: 1.
	Speed float64 `yaml:"speed"`
	// Loop plays it again and again. Default: false.
	Loop bool `yaml:"loop"`
	// DBC is the DBC file that describes its frames. Required.
	DBC string `yaml:"dbc"`
	// Sensors are the signals that the ECU counts from.
	Sensors SensorConfig `yaml:"sensors"`
}

// SensorConfig names the signals that the ECU counts from. A counter whose signal the car lacks rests.
type SensorConfig struct {
	// Bus is the name of the bus that carries them. Default: the first.
	Bus string `yaml:"bus"`
	// Odometer is an odometer or trip counter in mm, m (default), km or mi. Required.
	Odometer SignalConfig `yaml:"odometer"`
	// Speed is in km/h (default), m/s or mph.
	Speed SignalConfig `yaml:"speed"`
	// Assist is other than 0 while driver assistance is engaged.
	Assist SignalConfig `yaml:"assist"`
	// Power is taken from the battery, in W (default) or kW.
	Power SignalConfig `yaml:"power"`
}

// SignalConfig names a signal of the DBC file.
type SignalConfig struct {
	// Signal is Message.Signal, or just Signal where only one message has one of that name. Empty: the car has none.
	Signal string `yaml:"signal"`
	// Unit is the unit of the physical value.
	Unit string `yaml:"unit"`
	// Valid names a signal that must be other than 0 for the value to count. Empty: none.
	Valid string `yaml:"valid"`
}

// Load reads the configuration file at path, whose key `mode` says what plays the car.
func Load(path string) (*Config, error) { return LoadAs(path, "") }

// LoadAs reads the configuration file at path for a mode, whatever its key says; an empty mode leaves it.
func LoadAs(path string, mode Mode) (*Config, error) {
	loading := loading{mode: mode, Config: Config{
		Mode:   ModeDrive,
		ECU:    ECUConfig{OverspeedKmh: 120},
		Drive:  DriveConfig{Profile: drive.Commuter, Seed: 1, StepMS: 100},
		Replay: ReplayConfig{Speed: 1},
	}}
	loading.Replay.Sensors.Odometer.Unit = "m"
	loading.Replay.Sensors.Speed.Unit = "km/h"
	loading.Replay.Sensors.Power.Unit = "W"
	if err := config.Load(path, &loading); err != nil {
		return nil, err
	}
	c := &loading.Config
	config.Resolve(path, &c.Program.File, &c.Program.Root, &c.State, &c.Replay.Capture, &c.Replay.DBC)
	return c, nil
}

// loading is a Config whose mode may be decided by the caller of LoadAs.
type loading struct {
	Config `yaml:",inline"`
	mode   Mode
}

// Validate implements config.Config.
func (l *loading) Validate(f *config.Faults) {
	if l.mode != "" {
		l.Mode = l.mode
	}
	l.Config.Validate(f)
}

// Validate implements config.Config; the section of the other mode is not looked at.
func (c *Config) Validate(f *config.Faults) {
	if c.Program.File == "" {
		f.Add("$.program.file", "must name the signed program document")
	}
	if c.Program.Root == "" {
		f.Add("$.program.root", "must name the file of the root's public key")
	}
	if c.State == "" {
		f.Add("$.state", "must name the directory of the ECU")
	}
	c.validateBuses(f)
	if err := drive.CheckLimit(c.ECU.OverspeedKmh * 1000); err != nil {
		f.Add("$.ecu.overspeed_kmh", "%d is not within 60 to 200", c.ECU.OverspeedKmh)
	}
	if k := c.ECU.StandstillKmh; !(k >= 0 && k <= 10) {
		f.Add("$.ecu.standstill_kmh", "%v is not within 0 to 10", k)
	}
	switch c.Mode {
	case ModeDrive:
		if _, err := drive.ParseProfile(string(c.Drive.Profile)); err != nil {
			f.Add("$.drive.profile", "%v", err)
		}
		if err := drive.CheckStep(c.Drive.StepMS); err != nil {
			f.Add("$.drive.step_ms", "%v", err)
		}
	case ModeReplay:
		c.Replay.validate(f)
	default:
		f.Add("$.mode", "%q is neither drive nor replay", c.Mode)
	}
}

func (c *Config) validateBuses(f *config.Faults) {
	n := len(c.Buses)
	if n == 0 {
		f.Add("$.buses", "must name at least one bus with name and url")
		return
	}
	if n > 16 {
		f.Add("$.buses", "%d buses are more than 16", n)
	}
	if c.Mode == ModeDrive && n > 1 {
		f.Add("$.buses[1]", "a driven car is on one bus; remove the others")
	}
	for i, b := range c.Buses {
		at := fmt.Sprintf("$.buses[%d]", i)
		if b.Name == "" {
			f.Add(at+".name", "must be set")
		}
		if u, err := url.Parse(b.URL); err != nil || u.Host == "" || u.Scheme != "udp" && u.Scheme != "socketcan" {
			f.Add(at+".url", "%q is neither udp://GROUP:PORT nor socketcan://INTERFACE", b.URL)
		}
		for _, other := range c.Buses[:i] {
			if b.Name == other.Name {
				f.Add(at+".name", "%q stands twice", b.Name)
			}
			if b.URL == other.URL {
				f.Add(at+".url", "%q stands twice", b.URL)
			}
		}
	}
	if c.busIndex(c.ECU.Bus) < 0 {
		f.Add("$.ecu.bus", "%q is not the name of a bus", c.ECU.Bus)
	}
	if c.Mode == ModeReplay && c.busIndex(c.Replay.Sensors.Bus) < 0 {
		f.Add("$.replay.sensors.bus", "%q is not the name of a bus", c.Replay.Sensors.Bus)
	}
}

func (r *ReplayConfig) validate(f *config.Faults) {
	if r.DBC == "" {
		f.Add("$.replay.dbc", "must name the DBC file of the capture")
	}
	if err := CheckSpeed(r.Speed); err != nil {
		f.Add("$.replay.speed", "%v", err)
	}
	if r.Sensors.Odometer.Signal == "" {
		f.Add("$.replay.sensors.odometer.signal", "must name the signal of the odometer or trip counter")
	}
	for _, s := range []struct {
		name  string
		unit  string
		units []string
	}{
		{"odometer", r.Sensors.Odometer.Unit, []string{"mm", "m", "km", "mi"}},
		{"speed", r.Sensors.Speed.Unit, []string{"km/h", "m/s", "mph"}},
		{"assist", r.Sensors.Assist.Unit, []string{""}},
		{"power", r.Sensors.Power.Unit, []string{"W", "kW"}},
	} {
		if !slices.Contains(s.units, s.unit) {
			f.Add("$.replay.sensors."+s.name+".unit", "%q is none of %q", s.unit, s.units)
		}
	}
}

// CheckSpeed says why a replay cannot be so many times faster than recorded, or nil.
func CheckSpeed(x float64) error {
	if !(x >= 0.01 && x <= 100_000) {
		return fmt.Errorf("speed %v is not within 0.01 to 100,000", x)
	}
	return nil
}

// busIndex returns the index of the bus of a name, the first for an empty one, -1 for an unknown one.
func (c *Config) busIndex(name string) int {
	if name == "" {
		return 0
	}
	return slices.IndexFunc(c.Buses, func(b BusConfig) bool { return b.Name == name })
}

func (c *Config) standstillMH() int64 { return int64(math.Round(c.ECU.StandstillKmh * 1000)) }

// sensors returns package replay's form of the signals.
func (s *SensorConfig) sensors() replay.SensorConfig {
	return replay.SensorConfig{
		Odometer: replay.SignalConfig(s.Odometer), Speed: replay.SignalConfig(s.Speed),
		Assist: replay.SignalConfig(s.Assist), Power: replay.SignalConfig(s.Power),
	}
}
