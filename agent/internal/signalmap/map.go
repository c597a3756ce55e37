// Package signalmap reads signal maps: YAML files that say, for one kind of vehicle, which DBC signal, OBD-II parameter, UDS data
// identifier or J1939 suspect parameter feeds which path of the Vehicle Signal Specification, in which unit, under which conditions.
//
// Every fault of a map and of its DBC files is reported at once, with line and column. The package decodes no frames. It refuses
// whatever could be read in two ways: a signal without version or unit, a key that is for another kind of source, a counter whose
// wrap is no whole number of millimetres.
package signalmap

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"rawstone/agent/internal/decimal"
	"rawstone/pkg/can/dbc"
	"rawstone/pkg/config"
)

// The bounds of a map.
const (
	// MaxBuses is the largest number of buses.
	MaxBuses = 16
	// MaxSignals is the largest number of signals.
	MaxSignals = 256
	// MaxValues is the largest number of entries of a list of raw values.
	MaxValues = 64
	// MaxAnswer is the longest diagnostic answer in bytes that is put together; what arrives bounds memory, not what is announced.
	MaxAnswer = 4095
)

// A Map is a signal map.
type Map struct {
	// VSS is the version of the COVESA Vehicle Signal Specification that the paths are of: "4.0" to "6.0", see vss.Versions.
	// Required, because versions differ in paths and units.
	VSS string `yaml:"vss"`
	// Buses are the buses that the signals are on, 1 to 16.
	Buses []Bus `yaml:"buses"`
	// Signals are the sources of samples, 1 to 256. Several may have one path.
	Signals []Signal `yaml:"signals"`

	dir   string // that relative DBC paths are relative to
	files map[string]*database
	read  func(path string) ([]byte, error) // nil for dbc.ReadFile
}

// A Bus is one bus of the vehicle.
type Bus struct {
	// Name is the bus's name in the agent's configuration, or in a capture. Required, unique.
	Name string `yaml:"name"`
	// DBC is the file that describes its messages, relative to the map. Default none: then no signal of the bus may use dbc.
	DBC string `yaml:"dbc"`
}

// A Signal says what one source means. Exactly one of DBC, PID, DID and SPN is set.
type Signal struct {
	// Path is the VSS path, see vss.Paths. Required.
	Path string `yaml:"path"`
	// Bus is the name of the bus. Required.
	Bus string `yaml:"bus"`

	// DBC is a signal of the bus's DBC file: Message.Signal, or Signal alone where that is unique.
	DBC string `yaml:"dbc"`
	// PID is a parameter of OBD-II service 01 from the standard's table (SAE J1979), 0x00 to 0xFF.
	PID *int64 `yaml:"pid"`
	// DID is a data identifier of UDS service 22 (ISO 14229-1), 0x0000 to 0xFFFF. 0xF400 to 0xF4FF repeat the PIDs; every other one needs bytes.
	DID *int64 `yaml:"did"`
	// SPN is a suspect parameter of J1939-71 from package j1939's table.
	SPN *int64 `yaml:"spn"`

	// Unit is the unit of the values after scale and offset, as vss.ParseUnit takes it. Required for dbc and for a did with bytes
	// unless the path is a boolean; default for the others: the standard's.
	Unit string `yaml:"unit"`
	// Scale and Offset are decimal numbers on top of the source's own: value · scale + offset. Defaults 1 and 0, up to 15 digits
	// before and after the point; scale is not 0.
	Scale  decimal.Number `yaml:"scale"`
	Offset decimal.Number `yaml:"offset"`
	// Active lists the raw values of a boolean path's source that mean true; every other one means false. At most 64; default: the
	// physical value itself, 0 or 1. For dbc and for a did with bytes.
	Active []int64 `yaml:"active"`
	// WrapBits says that the raw value is a counter of so many bits that starts again from 0: 1 to 32, default 0 for none. For a
	// distance of dbc without offset, unsigned, whose 2^wrap_bits steps are a whole number of millimetres. All ones then is a
	// count as any other.
	WrapBits int `yaml:"wrap_bits"`
	// UnitFlag names a signal that says which unit holds. Default none.
	UnitFlag *UnitFlag `yaml:"unit_flag"`
	// Valid names a signal that says whether the value may be used. Default none.
	Valid *Valid `yaml:"valid"`

	// At, Bytes and Signed are the place of a DID's number in its data: index of the first byte, 0 to 4092, default 0; number of
	// bytes, 1 to 8, most significant first; two's complement, default false.
	At     int  `yaml:"at"`
	Bytes  int  `yaml:"bytes"`
	Signed bool `yaml:"signed"`
	// Request and Response are the CAN identifiers that a PID or DID is asked and answered with; above 0x7FF they are 29-bit ones.
	// Defaults 0x7E0 and 0x7E8. Functional requests (0x7DF, 0x18DB33F1) are refused: an ECU is asked by its own identifier.
	Request  *int64 `yaml:"request"`
	Response *int64 `yaml:"response"`
	// FD lets CAN FD frames be used for requests and answers. Default false.
	FD bool `yaml:"fd"`
	// Unpadded leaves requests at their own length. Default false: 8 bytes, as ISO 15765-4 wants.
	Unpadded bool `yaml:"unpadded"`
	// Every is how often to ask for a PID, DID or SPN, 100ms to 24h. Default 1s for a PID or DID; an SPN is by default not asked for,
	// because most groups are sent anyway.
	Every time.Duration `yaml:"every"`

	// AnySource takes a DBC message of a J1939 database from every source address and priority. Default false.
	AnySource bool `yaml:"any_source"`
	// Source takes an SPN, or a DBC signal with any_source, from one J1939 source address alone: 0 to 253. Default any.
	Source *int64 `yaml:"source"`
}

// A UnitFlag is a companion signal that says which unit holds.
type UnitFlag struct {
	// Signal is a DBC signal of the same bus, in the same or another message. Its last value counts; until one was seen the value is
	// not available. Required.
	Signal string `yaml:"signal"`
	// Equals is its raw value, as VAL_ lines write it, with which the unit is Unit in place of the signal's own. Default 0.
	Equals int64 `yaml:"equals"`
	// Unit is that unit. Required.
	Unit string `yaml:"unit"`
}

// A Valid is a companion signal that says whether the value may be used.
type Valid struct {
	// Signal is as in UnitFlag. Required.
	Signal string `yaml:"signal"`
	// Values are its raw values, as VAL_ lines write them, with which the value is available; 1 to 64.
	Values []int64 `yaml:"values"`
}

// Load reads and checks a map and the DBC files it names. Relative DBC paths are relative to the map's file. The error joins
// every fault, each with line and column.
func Load(path string) (*Map, error) {
	m := &Map{dir: filepath.Dir(path)}
	if err := config.Load(path, m); err != nil {
		return nil, err
	}
	return m, nil
}

// Decode reads and checks the text of a map; name stands for it in faults, and read, nil for files, returns the DBC files by path.
func Decode(name string, text []byte, read func(path string) ([]byte, error)) (*Map, error) {
	m := &Map{dir: filepath.Dir(name), read: read}
	if err := config.Decode(name, text, m); err != nil {
		return nil, err
	}
	return m, nil
}

// Validate implements config.Config.
func (m *Map) Validate(f *config.Faults) { m.Resolve(f.Add) }

// Warnings returns what the DBC files of a loaded map cost in broken lines, in the order of the buses.
func (m *Map) Warnings() []dbc.Warning {
	var all []dbc.Warning
	seen := make(map[*database]bool)
	for _, b := range m.Buses {
		if db := m.files[b.DBC]; db != nil && !seen[db] {
			seen[db] = true
			all = append(all, db.warnings...)
		}
	}
	return all
}

// Database returns the DBC file of the bus with that index in Buses, nil when there is none or it cannot be read.
func (m *Map) Database(bus int) *dbc.File {
	if m.Buses[bus].DBC == "" {
		return nil
	}
	return m.database(m.Buses[bus].DBC).file
}

// database is a DBC file that was read.
type database struct {
	file     *dbc.File
	warnings []dbc.Warning
	err      error
}

// database reads the DBC file that a bus names, once.
func (m *Map) database(name string) *database {
	if db := m.files[name]; db != nil {
		return db
	}
	path, read := name, m.read
	if read == nil {
		read = dbc.ReadFile
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(m.dir, path)
	}
	db := &database{}
	text, err := read(path)
	if err != nil {
		db.err = err
	} else {
		db.file, db.warnings = dbc.Parse(path, text)
	}
	if m.files == nil {
		m.files = make(map[string]*database)
	}
	m.files[name] = db
	return db
}

// only returns the part of a file whose messages have a signal that name may mean, so that looking it up is cheap.
func (db *database) only(name string) *dbc.File {
	part := &dbc.File{}
	for _, msg := range db.file.Messages {
		for _, s := range msg.Signals {
			if tail, ok := strings.CutPrefix(name, msg.Name+"."); s.Name == name || ok && tail == s.Name {
				part.Messages = append(part.Messages, msg)
				break
			}
		}
	}
	return part
}

// find returns the one signal that name means.
func (db *database) find(name string, anySource bool) (*dbc.Signal, error) {
	part := db.only(name)
	if _, err := dbc.Compile(part, []dbc.Want{{Signal: name}}); err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "cannot decode "))
	}
	for _, msg := range part.Messages {
		for _, s := range msg.Signals {
			if s.Name == name || msg.Name+"."+s.Name == name {
				if anySource && !msg.ID.IsExtended() {
					return nil, fmt.Errorf("message %s has an 11-bit identifier, and any_source is for the 29-bit ones of J1939", msg.Name)
				}
				return s, nil
			}
		}
	}
	return nil, fmt.Errorf("signal %q is not there", name)
}
