package vehicle

import (
	"context"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rawstone/agent/internal/vss"
	"rawstone/pkg/can"
	"rawstone/pkg/can/obd"
)

// frame reads "7E8#0341" as candump writes it.
func frame(t testing.TB, text string) *can.Frame {
	t.Helper()
	r := can.NewReader(strings.NewReader("(1.000000) can0 " + text))
	f := new(can.Frame)
	if err := r.Next(f); err != nil {
		_, first := r.Broken()
		t.Fatal(text, err, first)
	}
	return f
}

// read reads frames a millisecond apart and returns the samples.
func read(t testing.TB, r *Reader, frames ...string) []vss.Sample {
	t.Helper()
	var samples []vss.Sample
	for i, text := range frames {
		f := frame(t, text)
		f.Time = int64(i) * 1_000_000
		if err := r.Read(t.Context(), f, func(s vss.Sample) { samples = append(samples, s) }); err != nil {
			t.Fatal(err)
		}
	}
	return samples
}

// said is a sample without its time.
type said struct {
	Signal    int
	Origin    uint8
	Value     int64
	Available bool
}

func values(samples []vss.Sample) []said {
	var out []said
	for _, s := range samples {
		out = append(out, said{s.Signal, s.Origin, s.Value, s.Available})
	}
	return out
}

func expect(t *testing.T, got []vss.Sample, want ...said) {
	t.Helper()
	if d := cmp.Diff(want, values(got)); d != "" {
		t.Error(d)
	}
}

func TestCompanions(t *testing.T) {
	t.Parallel()
	r := compile(t, header+
		"  - {path: Vehicle.TraveledDistance, bus: can0, dbc: Car.Odometer, unit: km, unit_flag: {signal: Car.Miles, equals: 1, unit: mi}}\n"+
		"  - {path: Vehicle.TraveledDistance, bus: can0, dbc: Other.Odometer, unit: km, unit_flag: {signal: Car.Miles, equals: 1, unit: mi}, valid: {signal: Car.Quality, values: [2, 3]}}\n"+
		"  - {path: Vehicle.ADAS.CruiseControl.IsActive, bus: can0, dbc: Car.Gear, active: [3, 5]}\n", carDBC)
	// Odometer 1000 · 0.1 km; the flag stands in the same frame, behind the value.
	expect(t, read(t, r, "100#E803000000000300"), said{0, 0, 100_000_000, true}, said{2, 0, 1, true})
	expect(t, read(t, r, "100#E803000100000400"), said{0, 0, 160_934_400, true}, said{2, 0, 0, true})
	// Quality was 0, then 3; the flag says miles.
	expect(t, read(t, r, "101#00000000000A0000"), said{1, 0, 0, false})
	expect(t, read(t, r, "100#E803000103000500", "101#00000000000A0000"), said{0, 0, 160_934_400, true}, said{2, 0, 1, true}, said{1, 0, 16_093_440, true})
	// All ones is not available.
	expect(t, read(t, r, "101#0000000000FFFFFF"), said{1, 0, 0, false})
	expect(t, read(t, r, "7FF#00", "101#R"))

	fresh := compile(t, header+"  - {path: Vehicle.TraveledDistance, bus: can0, dbc: Other.Odometer, unit: km, unit_flag: {signal: Car.Miles, equals: 1, unit: mi}}\n", carDBC)
	expect(t, read(t, fresh, "101#00000000000A0000"), said{0, 0, 0, false})
	expect(t, read(t, fresh, "100#0000000000000000", "101#00000000000A0000"), said{0, 0, 10_000_000, true})

	// Neither is one that says that it does not know.
	unsure := compile(t, header+"  - {path: Vehicle.TraveledDistance, bus: can0, dbc: Other.Odometer, unit: km, unit_flag: {signal: Other.Unit, equals: 1, unit: mi}}\n", carDBC)
	expect(t, read(t, unsure, "101#00000000000A0000", "101#FF000000000A0000", "101#01000000000A0000"),
		said{0, 0, 10_000_000, true}, said{0, 0, 0, false}, said{0, 0, 16_093_440, true})

	// A companion that was never seen is not taken for one of value 0.
	unseen := compile(t, header+"  - {path: Vehicle.TraveledDistance, bus: can0, dbc: Other.Odometer, unit: km, valid: {signal: Car.Quality, values: [0]}}\n", carDBC)
	expect(t, read(t, unseen, "101#00000000000A0000", "100#0000000000000000", "101#00000000000A0000"), said{0, 0, 0, false}, said{0, 0, 10_000_000, true})
}

func TestWrap(t *testing.T) {
	t.Parallel()
	r := compile(t, header+
		"  - {path: Vehicle.TraveledDistance, bus: can0, dbc: Car.Count, unit: m, wrap_bits: 8}\n"+
		"  - {path: Vehicle.TraveledDistance, bus: can0, dbc: Car.Count, unit: m, wrap_bits: 5}\n"+
		"  - {path: Vehicle.TraveledDistance, bus: can0, dbc: Car.Count, unit: m}\n", carDBC)
	expect(t, read(t, r, "100#0000000000FE0000", "100#0000000000FF0000", "100#00000000001F0000"),
		said{0, 0, 50_800, true}, said{1, 0, 0, false}, said{2, 0, 50_800, true},
		said{0, 0, 51_000, true}, said{1, 0, 0, false}, said{2, 0, 0, false},
		said{0, 0, 6200, true}, said{1, 0, 6200, true}, said{2, 0, 6200, true})
}

// Companions of a message that any control unit may send are kept by its sender.
func TestAnySource(t *testing.T) {
	t.Parallel()
	text := header + "  - {path: Vehicle.Speed, bus: can0, dbc: CCVS.Speed, unit: km/h, any_source: true, valid: {signal: CCVS.SpeedOK, values: [1]}"
	r := compile(t, text+"}\n", carDBC)
	expect(t, read(t, r, "18FEF100#01002D0000000000", "0CFEF117#00002D0000000000", "18FEF117#01005A0000000000", "18FEF200#01002D0000000000"),
		said{0, 0, 12_500, true}, said{0, 0x17, 0, false}, said{0, 0x17, 25_000, true})
	one := compile(t, text+", source: 0x17}\n", carDBC)
	expect(t, read(t, one, "18FEF100#01002D0000000000", "18FEF117#01005A0000000000"), said{0, 0x17, 25_000, true})
}

func TestTruck(t *testing.T) {
	t.Parallel()
	r := open(t, "j1939-truck.yaml")
	expect(t, read(t, r,
		"18FEC1EE#0A00000000000000", // 917: 10 · 5 m
		"18FEC117#FFFFFFFFFFFFFFFF",
		"18FEE027#0000000008000000",                                              // 245: 8 · 0.125 km
		"18FEF100#F300500004000000", "18FEF100#FFFFFFFFFFFFFFFF", "18FEF1FE#00"), // 84: 80 km/h, 595: 0
		said{0, 0xEE, 50_000, true}, said{0, 0x17, 0, false}, said{1, 0x27, 1_000_000, true},
		said{2, 0, 22_222, true}, said{3, 0, 0, true}, said{2, 0, 0, false}, said{3, 0, 0, false}, said{2, 0xFE, 0, false}, said{3, 0xFE, 0, false})
	// The group of 245 as a broadcast of two packets, another's between them.
	expect(t, read(t, r, "1CECFF27#20090002FFE0FE00", "1CECFF30#20090002FFE0FE00",
		"1CEBFF27#0100000000080000", "1CEBFF30#0100000000100000", "1CEBFF27#020000FFFFFFFFFF", "1CEBFF30#020000FFFFFFFFFF"),
		said{1, 0x27, 1_000_000, true}, said{1, 0x30, 2_000_000, true})
	if len(r.Requests()) != 0 {
		t.Error("a truck is asked without every")
	}
	for _, id := range []can.ID{0x18FEC1EE, 0x0CFEC100, 0x18FEE027, 0x18FEF100, 0x1CECFF27, 0x1CEB00FF} {
		if !passes(r.Filters(0), id|can.Extended) {
			t.Errorf("%v is not received", id)
		}
	}
	for _, id := range []can.ID{0x18FEC200 | can.Extended, 0x18EAFFFE | can.Extended, 0x7E8, 0x0CF00400 | can.Extended} {
		if passes(r.Filters(0), id) {
			t.Errorf("%v is received", id)
		}
	}
	if r.Filters(9) != nil {
		t.Error("a bus that is not there has filters")
	}
}

func passes(filters []can.Filter, id can.ID) bool {
	for _, f := range filters {
		if f.Match(id) {
			return true
		}
	}
	return false
}

const diagnostic = `vss: "5.1"
buses: [{name: can0}]
signals:
  - {path: Vehicle.Speed, bus: can0, pid: 0x0D}
  - {path: Vehicle.TraveledDistance, bus: can0, pid: 0xA6, every: 10s}
  - {path: Vehicle.TraveledDistance, bus: can0, did: 0x404C, bytes: 3, at: 1, scale: 0.1, unit: km, every: 5s}
  - {path: Vehicle.TraveledDistance, bus: can0, did: 0x404C, bytes: 3, at: 1, scale: 0.1, unit: mi, every: 2s}
  - {path: Vehicle.TraveledDistance, bus: can0, did: 0x1234, bytes: 8, at: 4, unit: m, request: 0x18DA10F1, response: 0x18DAF110}
  - {path: Vehicle.TraveledDistance, bus: can0, spn: 917, every: 1m}
`

func TestListening(t *testing.T) {
	t.Parallel()
	r := compile(t, diagnostic)
	if d := cmp.Diff([]Request{
		{"PID 0D", time.Second, true, 0}, {"PID A6", 10 * time.Second, true, 0}, {"DID 404C", 2 * time.Second, true, 0}, {"DID 1234", time.Second, true, 0}, {"PGN 65217", time.Minute, true, 0},
	}, r.Requests()); d != "" {
		t.Error(d)
	}
	expect(t, read(t, r, "7E8#03410D24AAAAAAAA", "7E8#037F22318888", "7E8#0762404C99000064", "7E9#03410D24"),
		said{0, 0, 10_000, true}, said{2, 0, 10_000_000, true}, said{3, 0, 16_093_440, true})
	// Several parameters in a long answer, whose flow control is another tester's.
	expect(t, read(t, r, "7E8#100B410D480C1234", "7E8#21A6000003E8AAAA"), said{0, 0, 20_000, true}, said{1, 0, 100_000_000, true})
	expect(t, read(t, r, "18DAF110#100F621234AABBCC", "18DAF110#21DD000000000000", "18DAF110#22123400"), said{4, 0, 4_660_000, true})
	// A length that is unknown, data that are missing, and a message that is cut short.
	expect(t, read(t, r, "7E8#0341A700", "7E8#0341A600", "7E8#100B410D480C1234", "7E8#03410D24"), said{0, 0, 10_000, true})
	expect(t, read(t, r, "7E8#0462404C00"), said{2, 0, 0, false}, said{3, 0, 0, false})
	expect(t, read(t, r, "7E8#0762404C00FFFFFF"), said{2, 0, 0, false}, said{3, 0, 0, false})
	if got, want := r.Stats(), (Stats{Answers: 7, Negative: 1, Refused: 2, Transport: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if err := r.Ask(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "listens only") {
		t.Errorf("asked without a link: %v", err)
	}
}

// car is a Reader with a link whose frames and answers are written down.
type car struct {
	*Reader
	now  time.Time
	sent []string
	told []string
}

func connect(t *testing.T, r *Reader) *car {
	c := &car{Reader: r, now: time.Unix(1000, 0)}
	r.Connect(Link{
		Send: func(_ context.Context, bus uint8, f *can.Frame) error {
			if f.Bus != bus {
				t.Errorf("frame of bus %d to bus %d", f.Bus, bus)
			}
			c.sent = append(c.sent, f.ID.String()+"#"+strings.ToUpper(hex.EncodeToString(f.Payload())))
			return nil
		},
		Answered: func(i int, code obd.NRC) { c.told = append(c.told, r.Requests()[i].Name+" "+code.String()) },
		Now:      func() time.Time { return c.now },
	})
	return c
}

func (c *car) check(t *testing.T, sent, told []string) {
	t.Helper()
	if d := cmp.Diff(sent, c.sent); d != "" {
		t.Errorf("sent: %s", d)
	}
	if d := cmp.Diff(told, c.told); d != "" {
		t.Errorf("told: %s", d)
	}
	c.sent, c.told = nil, nil
}

func TestAsking(t *testing.T) {
	t.Parallel()
	c := connect(t, compile(t, diagnostic))
	const long1, long2 = "7E8#100B410D480C1234", "7E8#21A6000003E8AAAA"

	// Another tester's long answer: it is read, and nothing is sent.
	if got := len(read(t, c.Reader, long1, long2)); got != 2 {
		t.Errorf("%d samples", got)
	}
	c.check(t, nil, []string{"PID 0D code 00", "PID A6 code 00"})

	// Ours is asked for, padded, and controlled.
	if err := c.Ask(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if got := len(read(t, c.Reader, long1, long2)); got != 2 {
		t.Errorf("%d samples", got)
	}
	c.check(t, []string{"7E0#0201A6CCCCCCCCCC", "7E0#300000CCCCCCCCCC"}, []string{"PID 0D code 00", "PID A6 code 00"})

	// It was answered: the next long answer is not ours.
	read(t, c.Reader, long1, long2)
	c.check(t, nil, []string{"PID 0D code 00", "PID A6 code 00"})

	// A request that was not answered in time gives no right to control later ones.
	if err := c.Ask(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	c.now = c.now.Add(answerWindow)
	read(t, c.Reader, long1, long2, "7E8#037F2231")
	c.check(t, []string{"7E0#0322404CCCCCCCCC"}, []string{"PID 0D code 00", "PID A6 code 00"})

	// "Response pending" keeps it open; the refusal ends it. A refusal of another service is not ours.
	if err := c.Ask(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	read(t, c.Reader, "18DAF110#037F2278")
	c.now = c.now.Add(answerWindow)
	read(t, c.Reader, "18DAF110#037F1011", "18DAF110#037F2231", "18DAF110#037F2231", "18DAF110#100F621234AABBCC")
	c.check(t, []string{"18DA10F1#03221234CCCCCCCC"}, []string{"DID 1234 requestCorrectlyReceivedResponsePending", "DID 1234 requestOutOfRange"})

	// A J1939 group is asked of everybody.
	if err := c.Ask(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	read(t, c.Reader, "18FEC1EE#0A00000000000000")
	c.check(t, []string{"18EAFFFE#C1FE00"}, []string{"PGN 65217 code 00"})
	if err := c.Ask(t.Context(), 5); err == nil {
		t.Error("a request that is not there was sent")
	}
}

// Ask and Stats may be called beside Read.
func TestConcurrentAsk(t *testing.T) {
	t.Parallel()
	r := compile(t, diagnostic)
	r.Connect(Link{Send: func(context.Context, uint8, *can.Frame) error { return nil }})
	done := make(chan error, 1)
	go func() {
		var err error
		for i := range 1000 {
			if e := r.Ask(context.Background(), i%len(r.Requests())); e != nil {
				err = e
			}
			r.Stats()
		}
		done <- err
	}()
	for range 300 {
		read(t, r, "7E8#100B410D480C1234", "7E8#21A6000003E8AAAA", "7E8#037F2231", "18FEC1EE#0A00000000000000")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
