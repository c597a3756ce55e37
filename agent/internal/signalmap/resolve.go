package signalmap

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"rawstone/agent/internal/vss"
	"rawstone/pkg/can"
	"rawstone/pkg/can/j1939"
	"rawstone/pkg/can/obd"
)

// A Kind is where a source's values come from.
type Kind uint8

// The kinds of source.
const (
	FromDBC Kind = iota
	FromPID
	FromDID
	FromSPN
)

// A Source is a checked signal of a map.
type Source struct {
	Signal vss.Signal
	Kind   Kind
	// Bus is an index into Map.Buses.
	Bus int
	Conversion
	// Name is that of a DBC signal, AnySource whether it is taken from every sender of its J1939 group.
	Name      string
	AnySource bool
	// Origin is the J1939 source address that is taken, -1 for any.
	Origin int
	// ID is a PID or DID, Parameter what its data mean, Pair how it is asked for.
	ID        uint16
	Parameter obd.Parameter
	Pair      Pair
	// SPN is a J1939 parameter.
	SPN j1939.Parameter
	// Every is how often to ask, 0 for never.
	Every time.Duration
}

// A Pair is how an ECU is asked and answers.
type Pair struct {
	Request, Response can.ID
	FD, Unpadded      bool
}

// faults notes what is wrong with one signal.
type faults struct {
	at    string // its YAML path
	add   func(path, format string, args ...any)
	count int
}

// key notes a fault of a key that the text spells out, on notes one of the signal as a whole.
func (f *faults) key(key, format string, args ...any) {
	f.count++
	f.add(f.at+"."+key, format, args...)
}

func (f *faults) on(format string, args ...any) {
	f.count++
	f.add(f.at, format, args...)
}

// Resolve checks the map against itself and its DBC files, tells every fault to add by its YAML path, and returns the signals that
// have none.
func (m *Map) Resolve(add func(path, format string, args ...any)) []Source {
	if m.VSS == "" {
		add("$", "vss must be set: it names the version of the Vehicle Signal Specification, one of %s", strings.Join(vss.Versions(), ", "))
	} else if err := vss.CheckVersion(m.VSS); err != nil {
		add("$.vss", "%v", err)
	}
	if n := len(m.Buses); n < 1 || n > MaxBuses {
		add("$.buses", "%d buses, want 1 to %d", n, MaxBuses)
		return nil
	}
	if n := len(m.Signals); n < 1 || n > MaxSignals {
		add("$.signals", "%d signals, want 1 to %d", n, MaxSignals)
		return nil
	}
	names := make(map[string]int)
	for i, b := range m.Buses {
		at := fmt.Sprintf("$.buses[%d]", i)
		if _, twice := names[b.Name]; b.Name == "" || twice {
			add(at+".name", "%q is empty or stands twice", b.Name)
		} else {
			names[b.Name] = i
		}
		if b.DBC != "" {
			if err := m.database(b.DBC).err; err != nil {
				add(at+".dbc", "%v", err)
			}
		}
	}
	var sources []Source
	pairs := make(map[[2]int64]Pair)
	for i := range m.Signals {
		f := &faults{at: fmt.Sprintf("$.signals[%d]", i), add: add}
		src, ok := m.signal(&m.Signals[i], names, f)
		if ok && (src.Kind == FromPID || src.Kind == FromDID) {
			key := [2]int64{int64(src.Bus), int64(src.Pair.Response)}
			if other, known := pairs[key]; known && other != src.Pair {
				f.on("request, fd or unpadded differ from those of another signal that is answered with %s: give both the same", src.Pair.Response)
				ok = false
			}
			pairs[key] = src.Pair
		}
		if ok {
			sources = append(sources, src)
		}
	}
	return sources
}

// signal checks one signal.
func (m *Map) signal(s *Signal, names map[string]int, f *faults) (Source, bool) {
	src := Source{Origin: -1}
	spec, err := vss.Lookup(s.Path, m.VSS)
	if err != nil && vss.CheckVersion(m.VSS) == nil {
		f.key("path", "%v", err)
	}
	known := err == nil
	bus, ok := names[s.Bus]
	if !ok {
		f.key("bus", "there is no bus %.40q among buses", s.Bus)
	}
	src.Bus = bus
	src.Signal = vss.Signal{Path: s.Path, Role: spec.Role, Resets: spec.Resets}
	decided := src.decideKind(s, f)
	src.resolveOrigin(s, f)
	scale, offset := s.numbers(f)
	if !decided {
		return Source{}, false
	}
	step, unit := 0.0, s.Unit
	switch src.Kind {
	case FromDBC:
		if !ok {
			return Source{}, false
		}
		sig := m.find(bus, s.DBC, s.AnySource, "dbc", f)
		if sig == nil {
			return Source{}, false
		}
		src.Name, src.AnySource, step = s.DBC, s.AnySource, sig.Scale
		src.Signal.Name = sig.Name
		if sig.Float {
			step = 0
		}
		if s.WrapBits != 0 && (sig.Float || sig.Signed || sig.Offset != 0 || s.WrapBits > sig.Length) {
			f.key("wrap_bits", "signal %s must be an unsigned integer of at least %d bits without offset", sig.Name, s.WrapBits)
		}
	case FromPID, FromDID:
		src.resolvePair(s, f)
		step = src.Parameter.Scale
		if unit == "" {
			unit = src.Parameter.Unit
		}
	case FromSPN:
		step = src.SPN.Scale
		if unit == "" {
			unit = src.SPN.Unit
		}
	}
	if known && scale != nil && offset != nil {
		src.resolveConversion(s, unit, step, scale, offset, f)
	}
	if ok {
		m.resolveCompanions(s, &src, known, f)
	}
	return src, known && f.count == 0
}

// decideKind finds out where the signal comes from and refuses keys that are for another kind.
func (src *Source) decideKind(s *Signal, f *faults) bool {
	s.checkKeys(f)
	given := 0
	for _, set := range []bool{s.DBC != "", s.PID != nil, s.DID != nil, s.SPN != nil} {
		if set {
			given++
		}
	}
	if given != 1 {
		f.on("%d of dbc, pid, did and spn are set, want exactly one", given)
		return false
	}
	switch {
	case s.DBC != "":
		src.Kind = FromDBC
	case s.PID != nil:
		src.Kind = FromPID
		p, ok := obd.PID(uint8(*s.PID))
		if *s.PID < 0 || *s.PID > 0xFF || !ok {
			f.key("pid", "%#x is no parameter of service 01 that is known here", *s.PID)
			return false
		}
		src.Parameter, src.ID = p, uint16(*s.PID)
		src.Signal.Name = fmt.Sprintf("PID %02X", src.ID)
	case s.DID != nil:
		src.Kind = FromDID
		if !src.resolveDID(s, f) {
			return false
		}
	case s.SPN != nil:
		src.Kind = FromSPN
		p, ok := j1939.SPN(uint32(*s.SPN))
		if *s.SPN < 0 || *s.SPN > math.MaxUint32 || !ok {
			f.key("spn", "%d is no suspect parameter that is known here", *s.SPN)
			return false
		}
		src.SPN, src.Every = p, s.Every
		src.Signal.Name = fmt.Sprintf("SPN %d", *s.SPN)
	}
	return true
}

// checkKeys refuses keys that are for another kind of source than the signal names, and an interval out of bounds.
func (s *Signal) checkKeys(f *faults) {
	did := s.DID != nil
	diagnostic := s.PID != nil || did
	for _, k := range []struct {
		key    string
		set    bool
		right  bool
		remedy string
	}{
		{"bytes", s.Bytes != 0, did, "a did"},
		{"at", s.At != 0, did && s.Bytes != 0, "a did with bytes"},
		{"signed", s.Signed, did && s.Bytes != 0, "a did with bytes"},
		{"request", s.Request != nil, diagnostic, "a pid or did"},
		{"response", s.Response != nil, diagnostic, "a pid or did"},
		{"fd", s.FD, diagnostic, "a pid or did"},
		{"unpadded", s.Unpadded, diagnostic, "a pid or did"},
		{"every", s.Every != 0, diagnostic || s.SPN != nil, "a pid, did or spn"},
		{"wrap_bits", s.WrapBits != 0, s.DBC != "", "dbc"},
		{"any_source", s.AnySource, s.DBC != "", "dbc"},
		{"source", s.Source != nil, s.SPN != nil || s.AnySource, "an spn, or dbc with any_source"},
	} {
		if k.set && !k.right {
			f.key(k.key, "is for %s: remove it", k.remedy)
		}
	}
	if s.Every != 0 && (s.Every < 100*time.Millisecond || s.Every > 24*time.Hour) {
		f.key("every", "%v is not within 100ms to 24h", s.Every)
	}
}

// resolveDID finds out how the data of a data identifier are laid out.
func (src *Source) resolveDID(s *Signal, f *faults) bool {
	if *s.DID < 0 || *s.DID > 0xFFFF {
		f.key("did", "%#x is not within 0x0000 to 0xFFFF", *s.DID)
		return false
	}
	src.ID = uint16(*s.DID)
	src.Signal.Name = fmt.Sprintf("DID %04X", src.ID)
	if s.Bytes == 0 {
		p, ok := obd.DID(src.ID)
		if !ok {
			f.key("did", "the layout of %04X is not known here: add bytes, and at, signed, scale, offset and unit as needed", src.ID)
		}
		src.Parameter = p
		return ok
	}
	src.Parameter = obd.Parameter{
		Layout: obd.Layout{Offset: s.At, Length: s.Bytes, Signed: s.Signed, AllOnesAbsent: !s.Signed, Scale: 1},
		Min:    math.Inf(-1), Max: math.Inf(1),
	}
	if err := src.Parameter.Check(); err != nil || s.At+s.Bytes > MaxAnswer-3 {
		f.key("bytes", "%d bytes at %d are no number within an answer: bytes is 1 to 8, at 0 to %d", s.Bytes, s.At, MaxAnswer-3-8)
		return false
	}
	return true
}

// resolvePair checks the identifiers and the interval of a diagnostic signal.
func (src *Source) resolvePair(s *Signal, f *faults) {
	src.Every = s.Every
	if src.Every == 0 {
		src.Every = time.Second
	}
	src.Pair = Pair{Request: 0x7E0, Response: 0x7E8, FD: s.FD, Unpadded: s.Unpadded}
	for _, k := range []struct {
		key   string
		value *int64
		id    *can.ID
	}{{"request", s.Request, &src.Pair.Request}, {"response", s.Response, &src.Pair.Response}} {
		switch v := k.value; {
		case v == nil:
		case *v < 0 || *v > int64(can.MaxExtended):
			f.key(k.key, "%#x is no CAN identifier: they go up to 0x7FF, or 0x1FFFFFFF for 29 bits", *v)
		case *v <= int64(can.MaxStandard):
			*k.id = can.ID(*v)
		default:
			*k.id = can.ID(*v) | can.Extended
		}
	}
	switch {
	case src.Pair.Request == 0x7DF || src.Pair.Request.IsExtended() && src.Pair.Request.Raw()&0xFF0000 == 0xDB0000:
		f.key("request", "%s is everybody's: ask the ECU by its own identifier, such as 0x7E0", src.Pair.Request)
	case src.Pair.Request == src.Pair.Response:
		f.on("request and response are both %s: they must differ", src.Pair.Request)
	}
}

func (src *Source) resolveOrigin(s *Signal, f *faults) {
	if s.Source == nil {
		return
	}
	if *s.Source < 0 || *s.Source > int64(j1939.MaxAddress) {
		f.key("source", "%d is no address of a unit: they go from 0 to %d", *s.Source, j1939.MaxAddress)
		return
	}
	src.Origin = int(*s.Source)
}

// resolveCompanions finds the companion signals.
func (m *Map) resolveCompanions(s *Signal, src *Source, known bool, f *faults) {
	if flag := s.UnitFlag; flag != nil {
		if m.companion(src, flag.Signal, "unit_flag.signal", f) {
			src.Flag = Companion{src.Bus, flag.Signal, src.AnySource}
		}
		src.Equals = flag.Equals
		if !known {
			return
		}
		other, err := vss.ParseUnit(src.Signal.Role, flag.Unit)
		if err != nil {
			f.key("unit_flag.unit", "%v", err)
			return
		}
		if s.WrapBits != 0 {
			f.key("unit_flag", "a counter that wraps cannot change its unit: remove unit_flag or wrap_bits")
		}
		if src.Signal.Role == vss.Distance && src.step != nil {
			src.Signal.Resolution = max(src.Signal.Resolution, resolution(src.step, other))
		}
		src.Other = other
	}
	if valid := s.Valid; valid != nil {
		if m.companion(src, valid.Signal, "valid.signal", f) {
			src.Valid = Companion{src.Bus, valid.Signal, src.AnySource}
		}
		if n := len(valid.Values); n < 1 || n > MaxValues {
			f.key("valid", "%d values, want 1 to %d", n, MaxValues)
		}
		src.Values = slices.Clone(valid.Values)
	}
}

func (m *Map) companion(src *Source, name, key string, f *faults) bool {
	if name == "" {
		f.key(strings.TrimSuffix(key, ".signal"), "signal must be set")
		return false
	}
	sig := m.find(src.Bus, name, src.AnySource, key, f)
	if sig == nil {
		return false
	}
	if sig.Float {
		f.key(key, "signal %s is a float, and a companion is an integer", sig.Name)
		return false
	}
	return true
}
