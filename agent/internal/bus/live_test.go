package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/can"
	"rawstone/pkg/can/link"
)

// A car is a double of the hardware: interfaces that can be taken away and brought back. Its ports fail as link's do.
type car struct {
	mu    sync.Mutex
	dials []time.Time
	down  error  // what opening fails with
	gate  func() // called by every attempt
	ports []*fakePort
	cfg   link.Config
}

func (c *car) dial(cfg link.Config) (Port, error) {
	c.mu.Lock()
	gate := c.gate
	c.mu.Unlock()
	if gate != nil {
		gate()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dials = append(c.dials, time.Now())
	if c.cfg = cfg; c.down != nil {
		return nil, c.down
	}
	p := &fakePort{frames: make(chan can.Frame), fail: make(chan error, 1), closed: make(chan struct{})}
	c.ports = append(c.ports, p)
	return p, nil
}

// last returns the port opened last.
func (c *car) last() *fakePort {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ports[len(c.ports)-1]
}

// attempts returns when a port was asked for.
func (c *car) attempts() []time.Time {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.dials)
}

func (c *car) setDown(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = err
}

type fakePort struct {
	frames chan can.Frame
	fail   chan error
	closed chan struct{}

	mu    sync.Mutex
	stats link.Stats
}

func (p *fakePort) Receive(ctx context.Context, f *can.Frame) error {
	select {
	case *f = <-p.frames:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stats.Received++
		p.stats.Overflowed += 2
		p.stats.Filtered += 3
		p.stats.Malformed += 5
		p.stats.ErrorFrames[link.BusOff]++
		return nil
	case err := <-p.fail:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-p.closed:
		return net.ErrClosed
	}
}

func (p *fakePort) Send(context.Context, *can.Frame) error {
	select {
	case <-p.closed:
		return fmt.Errorf("cannot send: %w", net.ErrClosed)
	default:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Sent++
	return nil
}

func (p *fakePort) Stats() link.Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

func (p *fakePort) Carried() uint64 { s := p.Stats(); return s.Received + s.Filtered }

func (p *fakePort) Close() error { close(p.closed); return nil }

// A rig is an open Set of one fake bus, running.
type rig struct {
	*car
	set     *Set
	log     *bytes.Buffer
	metrics *prometheus.Registry
	heard   []can.ID
	done    chan error
	cancel  context.CancelFunc
}

func newRig(t *testing.T, c *car, more ...Bus) *rig {
	r := &rig{car: c, log: new(bytes.Buffer), metrics: prometheus.NewRegistry(), done: make(chan error, 1)}
	var err error
	r.set, err = Open(Config{
		Buses:  append([]Bus{{Name: "a", URL: "socketcan://can0", Filters: []can.Filter{can.Exact(7)}}}, more...),
		Logger: slog.New(slog.NewTextHandler(r.log, nil)), Metrics: r.metrics, Dial: c.dial,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	go func() {
		r.done <- r.set.Run(ctx, func(f *can.Frame) { r.heard = append(r.heard, f.ID) })
	}()
	synctest.Wait()
	return r
}

// metric checks a metric of a bus, and its class if it has one.
func (r *rig) metric(t *testing.T, name, bus, class string, want float64) {
	t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := make(map[string]string)
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() == "rawstone_bus_"+name && labels["bus"] == bus && labels["class"] == class {
				if got := m.GetCounter().GetValue() + m.GetGauge().GetValue(); got != want {
					t.Errorf("%s of bus %s is %v, want %v", name, bus, got, want)
				}
				return
			}
		}
	}
	t.Errorf("there is no %s of bus %s", name, bus)
}

func (r *rig) end(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
	if err := r.set.Close(); err != nil {
		t.Error(err)
	}
}

var errDown = fmt.Errorf("no such interface: %w", link.ErrDown)

// An interface that comes and goes: no frame of its good times is lost, and the counters go on.
func TestInterfaceFlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &car{})
		for i := range can.ID(5) {
			r.last().frames <- can.Frame{ID: i}
			if err := r.set.Send(t.Context(), 0, &can.Frame{}); err != nil {
				t.Error(err)
			}
			r.setDown(errDown)
			r.last().fail <- errDown
			time.Sleep(time.Minute)
			if err := r.set.Send(t.Context(), 0, &can.Frame{}); !errors.Is(err, link.ErrDown) {
				t.Errorf("Send while down: %v", err)
			}
			r.metric(t, "up", "a", "", 0)
			r.setDown(nil)
			time.Sleep(maxPause)
			synctest.Wait()
		}
		r.last().frames <- can.Frame{ID: 5}
		synctest.Wait()
		if d := cmp.Diff([]can.ID{0, 1, 2, 3, 4, 5}, r.heard); d != "" {
			t.Error(d)
		}
		want := state{Stats: link.Stats{Received: 6, Sent: 5, Overflowed: 12, Filtered: 18, Malformed: 30, ErrorFrames: link.ErrorCounts{link.BusOff: 6}}, up: true, reopened: 5}
		if d := cmp.Diff(want, r.set.by[0].state(0), cmp.AllowUnexported(state{})); d != "" {
			t.Error(d)
		}
		r.metric(t, "up", "a", "", 1)
		for name, n := range map[string]float64{
			"frames_received_total": 6, "frames_sent_total": 5, "frames_filtered_total": 18, "malformed_total": 30, "overflowed_total": 12,
			"reopened_total": 5, "replay_broken_lines_total": 0,
		} {
			r.metric(t, name, "a", "", n)
		}
		r.metric(t, "error_frames_total", "a", "bus_off", 6)
		r.metric(t, "error_frames_total", "a", "error_passive", 0)
		if d := cmp.Diff([]can.Filter{can.Exact(7)}, r.cfg.Filters); d != "" {
			t.Errorf("opened again with other filters: %s", d)
		}
		r.end(t)
		if n := strings.Count(r.log.String(), "\n"); n != 10 {
			t.Errorf("%d lines for five failures:\n%s", n, r.log)
		}
	})
}

// Not there at start, and for long: tried at pauses that double to the longest, then heard.
func TestNotThereYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &car{down: errDown})
		time.Sleep(10 * time.Minute)
		pause := minPause
		dials := r.attempts()
		for i, at := range dials[1:] {
			if got := at.Sub(dials[i]); got > pause || got < pause/2 {
				t.Errorf("pause %d was %v, want %v or up to a half less", i, got, pause)
			}
			pause = min(2*pause, maxPause)
		}
		if n := len(dials); n < 28 || n > 50 {
			t.Errorf("%d attempts in ten minutes", n)
		}
		if got := r.set.Received(); got != 0 {
			t.Errorf("received %d", got)
		}
		r.setDown(nil)
		time.Sleep(maxPause)
		synctest.Wait()
		r.last().frames <- can.Frame{ID: 9}
		r.end(t)
		if d := cmp.Diff([]can.ID{9}, r.heard); d != "" {
			t.Error(d)
		}
	})
}

// An interface that opens and fails at once, for ever: the pauses grow all the same, and one that was of use is tried soon again.
func TestOpensAndFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &car{})
		for range 20 {
			r.last().fail <- errors.New("input/output error")
			for n := len(r.attempts()); len(r.attempts()) == n; {
				time.Sleep(time.Second)
			}
		}
		dials := r.attempts()
		if d := dials[len(dials)-1].Sub(dials[len(dials)-2]); d < maxPause/2 {
			t.Errorf("after twenty failures the pause was %v", d)
		}
		r.last().frames <- can.Frame{ID: 1}
		before := time.Now()
		r.last().fail <- errDown
		time.Sleep(minPause)
		dials = r.attempts()
		if d := dials[len(dials)-1].Sub(before); d <= 0 || d > minPause {
			t.Errorf("a port that was of use was opened again after %v", d)
		}
		r.end(t)
	})
}

// A mistake that stays fails Open; the same answer later, when the agent runs, is said once and does not end the other buses.
func TestPermanentMistake(t *testing.T) {
	mistake := errors.New("not a CAN interface")
	if _, err := Open(Config{Buses: []Bus{{Name: "a", URL: "socketcan://eth0"}}, Logger: slog.New(slog.DiscardHandler), Dial: (&car{down: mistake}).dial}); !errors.Is(err, mistake) {
		t.Errorf("Open: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &car{})
		r.setDown(mistake)
		r.last().fail <- errDown
		time.Sleep(time.Hour)
		r.setDown(nil)
		time.Sleep(maxPause)
		synctest.Wait()
		r.last().frames <- can.Frame{ID: 1}
		r.end(t)
		if n := strings.Count(r.log.String(), "cannot be opened again"); n != 1 {
			t.Errorf("said %d times:\n%s", n, r.log)
		}
	})
}

// Close ends Run whether the bus is up or awaited, and says why.
func TestCloseEndsRun(t *testing.T) {
	for name, down := range map[string]error{"up": nil, "awaited": errDown} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, &car{down: down})
			if err := r.set.Close(); err != nil {
				t.Error(err)
			}
			if err := <-r.done; !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "bus a") {
				t.Errorf("%s: Run: %v", name, err)
			}
			if err := r.set.Send(t.Context(), 0, &can.Frame{}); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: Send: %v", name, err)
			}
			r.cancel()
		})
	}
}

// A port that is opened while the Set is closed is closed too.
func TestCloseWhileOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &car{down: errDown}
		r := newRig(t, c)
		dialling, dialled := make(chan struct{}), make(chan struct{})
		c.mu.Lock()
		c.down, c.gate = nil, func() { close(dialling); <-dialled }
		c.mu.Unlock()
		<-dialling
		if err := r.set.Close(); err != nil {
			t.Error(err)
		}
		close(dialled)
		if err := <-r.done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Run: %v", err)
		}
		<-r.last().closed
		r.cancel()
	})
}

// Buses that fail and end leave the others alone.
func TestBusesAreIndependent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		url := "replay://" + capture(t, "(1.0) can1 00A#\n(2.0) can2 00B#\n(3.0) can1 00C#\nbroken\n") + "?speed=0"
		r := newRig(t, &car{down: errDown}, Bus{Name: "can2", URL: url}, Bus{Name: "can1", URL: url})
		if d := cmp.Diff([]can.ID{0xA, 0xB, 0xC}, r.heard); d != "" {
			t.Error(d)
		}
		if got := r.set.Received(); got != 3 {
			t.Errorf("received %d", got)
		}
		for _, name := range []string{"a", "can1", "can2"} {
			r.metric(t, "up", name, "", 0)
		}
		r.metric(t, "replay_broken_lines_total", "can2", "", 1)
		if err := r.set.Send(t.Context(), 2, &can.Frame{}); !errors.Is(err, ErrRecorded) {
			t.Errorf("Send into a recorded drive: %v", err)
		}
		r.setDown(nil)
		time.Sleep(maxPause)
		synctest.Wait()
		r.last().frames <- can.Frame{ID: 0xD}
		r.end(t)
		if d := cmp.Diff([]can.ID{0xA, 0xB, 0xC, 0xD}, r.heard); d != "" {
			t.Error(d)
		}
	})
}
