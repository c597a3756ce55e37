package reader

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/agent/internal/bus"
	"rawstone/agent/internal/vehicle"
	"rawstone/agent/internal/vss"
	"rawstone/pkg/attest"
	"rawstone/pkg/can"
	"rawstone/pkg/can/isotp"
	"rawstone/pkg/can/link"
	"rawstone/pkg/can/obd"
)

// patience bounds the wait for an event that must come; only a failing test waits that long.
const patience = 30 * time.Second

// busURL returns a multicast bus that no other test uses now.
func busURL(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprintf("udp://239.64.147.1:%d", l.Addr().(*net.TCPAddr).Port)
}

// join starts a participant that reads until the test ends.
func join(t *testing.T, url string, handle func(c *link.Conn, f *can.Frame)) *link.Conn {
	t.Helper()
	c, err := link.Open(link.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	reading.Go(func() {
		for f := (can.Frame{}); c.Receive(ctx, &f) == nil; {
			handle(c, &f)
		}
	})
	t.Cleanup(func() {
		cancel()
		reading.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// run runs a reader until the test ends.
func run(t *testing.T, r *Reader) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
}

func wait[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s", what)
		panic("unreachable")
	}
}

// engine answers the PIDs of a car with OBD-II: 50 km/h, an odometer of 12,345.6 km, and nothing else.
func engine(t *testing.T, url string) (asked <-chan uint8) {
	t.Helper()
	pids := make(chan uint8, 1024)
	var answers *isotp.Conn
	var bus *link.Conn
	ready := make(chan struct{})
	requests := make(chan []byte, 64)
	var err error
	answers, err = isotp.New(isotp.Config{
		Tx: 0x7E8, Rx: 0x7E0, Padding: true,
		Send:    func(ctx context.Context, f *can.Frame) error { return bus.Send(ctx, f) },
		Deliver: func(msg []byte) { requests <- append([]byte(nil), msg...) },
	})
	if err != nil {
		t.Fatal(err)
	}
	bus = join(t, url, func(_ *link.Conn, f *can.Frame) {
		<-ready
		if err := answers.Handle(context.Background(), f); err != nil {
			t.Error(err)
		}
	})
	close(ready)
	var answering sync.WaitGroup
	stop := make(chan struct{}) // and not the end of requests, which the bus's goroutine may still be writing to
	t.Cleanup(func() { close(stop); answering.Wait() })
	answering.Go(func() {
		for {
			var msg []byte
			select {
			case msg = <-requests:
			case <-stop:
				return
			}
			service, ids, err := obd.ParseRequest(msg)
			if err != nil {
				t.Error(err)
				continue
			}
			answer := []byte{0x7F, service, byte(obd.RequestOutOfRange)}
			if service == obd.ServiceCurrentData {
				pids <- uint8(ids[0])
				switch ids[0] {
				case 0x0D:
					answer = []byte{0x41, 0x0D, 50}
				case 0xA6:
					answer = []byte{0x41, 0xA6, 0x00, 0x01, 0xE2, 0x40}
				}
			}
			if err := answers.Write(context.Background(), answer); err != nil {
				t.Error(err)
			}
		}
	})
	return pids
}

func openOBD(t *testing.T, url string, poll bool, observe func(vss.Sample)) *Reader {
	t.Helper()
	v, err := vehicle.Compile(shipped(t, "obd2.yaml"), func(string) (uint8, bool) { return 0, true }, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(Config{
		Buses: []bus.Bus{{Name: "can1", URL: url}}, Vehicle: v, Poll: poll, Observe: observe,
		Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestAsksTheCar holds a whole round: requests go out over the bus, a peer's answers come back as samples.
func TestAsksTheCar(t *testing.T) {
	url := busURL(t)
	asked := engine(t, url)
	speeds, distances := make(chan vss.Sample, 64), make(chan vss.Sample, 64)
	var r *Reader
	signals := func(i int) vss.Signal { return r.vehicle.Signals()[i] }
	r = openOBD(t, url, true, func(s vss.Sample) {
		to := distances
		if signals(s.Signal).Role == vss.Speed {
			to = speeds
		}
		select {
		case to <- s:
		default:
		}
	})
	run(t, r)
	wait(t, asked, "request")
	if s := wait(t, speeds, "speed"); !s.Available || s.Value != 13_889 {
		t.Errorf("speed %+v, want 50 km/h", s)
	}
	if s := wait(t, distances, "distance"); !s.Available || s.Value != 12_345_600_000 {
		t.Errorf("distance %+v, want 12,345.6 km", s)
	}
}

func TestMoves(t *testing.T) {
	r := &Reader{roles: []vss.Signal{{Role: vss.Speed}, {Role: vss.Distance}, {Role: vss.Charge}}, distances: make([]int64, 3)}
	for i, c := range []struct {
		s    vss.Sample
		want bool
	}{
		{vss.Sample{Signal: 0, Value: moving - 1, Available: true}, false},
		{vss.Sample{Signal: 0, Value: moving, Available: true}, true},
		{vss.Sample{Signal: 0, Value: moving}, false},
		{vss.Sample{Signal: 1, Value: 5000, Available: true}, false}, // the first: nothing to compare with
		{vss.Sample{Signal: 1, Value: 5000, Available: true}, false},
		{vss.Sample{Signal: 1, Value: 6000}, false},
		{vss.Sample{Signal: 1, Value: 6000, Available: true}, true},
		{vss.Sample{Signal: 2, Value: 5000, Available: true}, false},
	} {
		if got := r.moves(&c.s); got != c.want {
			t.Errorf("sample %d, %+v: %v", i, c.s, got)
		}
	}
}

// TestListensOnly holds that an agent without polling sends nothing at all, whatever its map could ask for, and reads the answers to
// somebody else's questions.
func TestListensOnly(t *testing.T) {
	url := busURL(t)
	heard := make(chan can.ID, 64)
	tester := join(t, url, func(_ *link.Conn, f *can.Frame) { heard <- f.ID })
	speeds := make(chan vss.Sample, 64)
	run(t, openOBD(t, url, false, func(s vss.Sample) { speeds <- s }))
	f := can.Frame{ID: 0x7E8}
	f.SetPayload([]byte{0x03, 0x41, 0x0D, 72})
	long := can.Frame{ID: 0x7E8} // the beginning of a long answer, which the tester controls
	long.SetPayload([]byte{0x10, 0x14, 0x62, 0xF4, 0xA6, 0, 0, 0})
	for _, f := range []*can.Frame{&long, &f} {
		if err := tester.Send(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	if s := wait(t, speeds, "speed"); !s.Available || s.Value != 20_000 {
		t.Errorf("speed %+v, want 72 km/h", s)
	}
	select {
	case id := <-heard:
		t.Errorf("a listener sent %s", id)
	default:
	}
}

// TestECUMessages holds that the attestation ECU is reached in both directions, beside a vehicle map and without one, and that a queue
// that nobody empties stops nothing.
func TestECUMessages(t *testing.T) {
	url := busURL(t)
	requests := make(chan []byte, 8)
	var ecu *isotp.Conn
	var conn *link.Conn
	ready := make(chan struct{})
	var err error
	ecu, err = isotp.New(isotp.Config{
		Tx: attest.TxID, Rx: attest.RxID, Padding: true,
		Send:    func(ctx context.Context, f *can.Frame) error { return conn.Send(ctx, f) },
		Deliver: func(msg []byte) { requests <- append([]byte(nil), msg...) },
	})
	if err != nil {
		t.Fatal(err)
	}
	conn = join(t, url, func(_ *link.Conn, f *can.Frame) {
		<-ready
		if err := ecu.Handle(context.Background(), f); err != nil {
			t.Error(err)
		}
	})
	close(ready)
	registry := prometheus.NewRegistry()
	r, err := Open(Config{
		Buses: []bus.Bus{{Name: "can0", URL: url}}, Observe: func(vss.Sample) { t.Error("a sample without a map") }, Logger: slog.New(slog.DiscardHandler),
		Metrics: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, r)
	if err := r.Request(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	msg := wait(t, requests, "request")
	if q, err := attest.DecodeRequest(msg); err != nil || q.Last != 7 {
		t.Errorf("request %v, %v", q, err)
	}
	for i := range inbox + 5 { // more than the queue holds
		if err := ecu.Write(t.Context(), []byte{byte(i), 1, 2, 3, 4, 5, 6, 7, 8, 9}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Request(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	wait(t, requests, "request while the queue is full")
	for counted(t, registry, "reader_messages_dropped") < 5 { // the last may still be on its way
		runtime.Gosched()
	}
	for i := range inbox {
		if msg := wait(t, r.Messages(), "message"); msg[0] != byte(i) || len(msg) != 10 {
			t.Fatalf("message %d is %v", i, msg)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	good := Config{Buses: []bus.Bus{{Name: "can0", URL: "udp://239.64.147.1:41000"}}, Observe: func(vss.Sample) {}, Logger: slog.New(slog.DiscardHandler)}
	if v, err := vehicle.Compile(shipped(t, "obd2.yaml"), func(string) (uint8, bool) { return 0, true }, nil); err != nil {
		t.Fatal(err)
	} else if r, err := Open(Config{
		Buses: []bus.Bus{{Name: "can0", URL: "tty://1"}}, Vehicle: v, Poll: true, Observe: good.Observe, Logger: good.Logger,
	}); err == nil || r != nil {
		t.Errorf("opened %v with %v", r, err)
	}
	for name, change := range map[string]func(*Config){
		"observer": func(c *Config) { c.Observe = nil }, "logger": func(c *Config) { c.Logger = nil },
		"bus of the ECU": func(c *Config) { c.ECUBus = 1 }, "buses": func(c *Config) { c.Buses = nil },
		"url": func(c *Config) { c.Buses = []bus.Bus{{Name: "can0", URL: "tty://1"}} },
	} {
		c := good
		change(&c)
		if r, err := Open(c); err == nil {
			r.Close()
			t.Errorf("%s: opened", name)
		}
	}
}
