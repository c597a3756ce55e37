package vehicle

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"rawstone/agent/internal/signalmap"
	"rawstone/agent/internal/vss"
	"rawstone/pkg/can"
	"rawstone/pkg/can/dbc"
	"rawstone/pkg/can/isotp"
	"rawstone/pkg/can/j1939"
	"rawstone/pkg/can/obd"
)

// A Map is a signal map.
type Map = signalmap.Map

// Load reads and checks a map and the DBC files it names; the error joins every fault, each with line and column.
func Load(path string) (*Map, error) { return signalmap.Load(path) }

// Open loads a map and compiles it; what the DBC files cost in broken lines is logged. It returns nil for no map.
func Open(path string, bus func(name string) (uint8, bool), log *slog.Logger) (*Reader, error) {
	if path == "" {
		return nil, nil
	}
	m, err := Load(path)
	if err != nil {
		return nil, err
	}
	r, err := Compile(m, bus, func(w dbc.Warning) {
		log.Warn("line of a DBC file is left out", "file", w.File, "line", w.Line, "reason", w.Reason)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// Compile makes the Reader of a map. bus returns the index that Frame.Bus has for a bus's name; warn, which may be nil, is given what
// the DBC files cost in broken lines. The error joins every fault of the map, of its DBC files and of the buses.
func Compile(m *Map, bus func(name string) (uint8, bool), warn func(dbc.Warning)) (*Reader, error) {
	var problems []error
	sources := m.Resolve(func(path, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: %s", strings.TrimPrefix(path, "$."), fmt.Sprintf(format, args...)))
	})
	index := make([]uint8, len(m.Buses))
	taken := make(map[uint8]string)
	for i, b := range m.Buses {
		at, ok := bus(b.Name)
		if !ok {
			problems = append(problems, fmt.Errorf("buses[%d]: the program has no bus %.40q: rename it in the signal map or configure it", i, b.Name))
			continue
		}
		if other, twice := taken[at]; twice {
			problems = append(problems, fmt.Errorf("buses[%d]: %.40q is the same bus as %.40q: leave one away", i, b.Name, other))
		}
		taken[at], index[i] = b.Name, at
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("cannot use signal map:\n%w", errors.Join(problems...))
	}
	if warn != nil {
		for _, w := range m.Warnings() {
			warn(w)
		}
	}
	r := &Reader{lines: make([]line, int(slices.Max(index))+1)}
	for _, src := range sources {
		r.signals = append(r.signals, src.Signal)
		r.sources = append(r.sources, source{Source: src})
	}
	for i, b := range m.Buses {
		if err := r.addLine(m, i, index[i]); err != nil {
			return nil, fmt.Errorf("cannot read bus %.40q: %w", b.Name, err)
		}
	}
	return r, nil
}

// addLine makes everything that reads one bus.
func (r *Reader) addLine(m *Map, mapIndex int, at uint8) error {
	l := &r.lines[at]
	var companions, wants []dbc.Want
	for i := range r.sources {
		src := &r.sources[i]
		if src.Bus != mapIndex {
			continue
		}
		src.flagAt, companions = r.addCompanion(src.Flag, companions)
		src.validAt, companions = r.addCompanion(src.Valid, companions)
		switch src.Kind {
		case signalmap.FromDBC:
			wants = append(wants, dbc.Want{Signal: src.Name, Tag: i, AnySource: src.AnySource})
		case signalmap.FromPID, signalmap.FromDID:
			if err := r.addDiagnostic(l, at, i); err != nil {
				return err
			}
		case signalmap.FromSPN:
			r.addGroup(l, at, i)
		}
	}
	if len(l.spns) > 0 {
		var err error
		l.transport, err = j1939.New(j1939.Config{
			Want: func(p j1939.PGN) bool {
				return slices.ContainsFunc(l.spns, func(i int) bool { return r.sources[i].SPN.PGN == p })
			},
			Now:     r.clock,
			Deliver: func(msg *j1939.Message) { r.message(l, msg) },
		})
		if err != nil {
			return err
		}
		l.filters = append(l.filters, j1939.Filter(j1939.PGNTransport), j1939.Filter(j1939.PGNTransportData))
	}
	if len(companions)+len(wants) > 0 {
		// A frame's companions are read before what depends on them.
		plan, err := dbc.Compile(m.Database(mapIndex), append(companions, wants...))
		if err != nil {
			return err
		}
		l.plan = plan
		l.filters = append(l.filters, plan.Filters()...)
	}
	l.filters = distinct(l.filters)
	return nil
}

// addCompanion returns the place of a companion's last value, -1 for none.
func (r *Reader) addCompanion(c signalmap.Companion, wants []dbc.Want) (int, []dbc.Want) {
	if c.Name == "" {
		return -1, wants
	}
	for _, w := range wants {
		if w.Signal == c.Name && w.AnySource == c.AnySource {
			return ^w.Tag, wants
		}
	}
	n := 1
	if c.AnySource {
		n = 256
	}
	at := len(r.states)
	r.states = append(r.states, state{values: make([]int64, n), known: make([]bool, n), available: make([]bool, n)})
	return at, append(wants, dbc.Want{Signal: c.Name, Tag: ^at, AnySource: c.AnySource})
}

// addDiagnostic adds a PID or DID.
func (r *Reader) addDiagnostic(l *line, bus uint8, i int) error {
	src := &r.sources[i]
	at := slices.IndexFunc(l.channels, func(c *channel) bool { return c.pair == src.Pair })
	if at < 0 {
		c := &channel{reader: r, bus: bus, pair: src.Pair}
		conn, err := isotp.New(isotp.Config{
			Tx: src.Pair.Request, Rx: src.Pair.Response, FD: src.Pair.FD, Padding: !src.Pair.Unpadded, PadByte: 0xCC,
			MaxLen: signalmap.MaxAnswer, Now: r.clock, Send: c.send, Deliver: c.deliver,
		})
		if err != nil {
			return err
		}
		c.conn = conn
		c.sizes = c.size
		at = len(l.channels)
		l.channels = append(l.channels, c)
		l.filters = append(l.filters, can.Exact(src.Pair.Response))
	}
	c := l.channels[at]
	service := obd.ServiceCurrentData
	if src.Kind == signalmap.FromDID {
		service = obd.ServiceReadData
	}
	c.items = append(c.items, item{service: service, id: src.ID, source: i, request: r.addRequest(request{
		Request: Request{Name: src.Signal.Name, Every: src.Every, Motion: motion(src.Signal.Role), Bus: bus}, channel: c, service: service, id: src.ID,
	})})
	return nil
}

// addGroup adds an SPN.
func (r *Reader) addGroup(l *line, bus uint8, i int) {
	src := &r.sources[i]
	l.spns = append(l.spns, i)
	l.filters = append(l.filters, j1939.Filter(src.SPN.PGN))
	if src.Every == 0 {
		return
	}
	r.addRequest(request{
		Request: Request{Name: fmt.Sprintf("PGN %d", src.SPN.PGN), Every: src.Every, Motion: motion(src.Signal.Role), Bus: bus}, group: src.SPN.PGN,
	})
}

// addRequest adds a request unless there is one that asks for the same, and returns its index.
func (r *Reader) addRequest(q request) int {
	for i := range r.requests {
		have := &r.requests[i]
		if have.Bus == q.Bus && have.channel == q.channel && have.service == q.service && have.id == q.id && have.group == q.group {
			have.Every = min(have.Every, q.Every)
			have.Motion = have.Motion || q.Motion
			return i
		}
	}
	r.requests = append(r.requests, q)
	return len(r.requests) - 1
}

func motion(role vss.Role) bool { return role == vss.Speed || role == vss.Distance }

// distinct sorts filters and removes repetitions.
func distinct(filters []can.Filter) []can.Filter {
	slices.SortFunc(filters, func(a, b can.Filter) int {
		if a.ID != b.ID {
			return int(int64(a.ID) - int64(b.ID))
		}
		return int(int64(a.Mask) - int64(b.Mask))
	})
	return slices.Compact(filters)
}

// A Request is something that can be asked for.
type Request struct {
	// Name is what people call it: "PID A6", "DID 404C", "PGN 65217".
	Name string
	// Every is how often the map wants it.
	Every time.Duration
	// Motion says that an answer shows whether the vehicle moves: a speed or a distance.
	Motion bool
	// Bus is Frame.Bus of the bus on which it is asked for.
	Bus uint8
}

// request is a Request and how it is sent.
type request struct {
	Request
	channel *channel // nil for a group
	service uint8
	id      uint16
	group   j1939.PGN
}
