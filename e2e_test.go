// Package rawstone_test runs the whole path in the ways that its users would: a recorded drive in one process, and processes that
// are killed at random.
package rawstone_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	agent "rawstone/agent/daemon"
	collector "rawstone/collector/daemon"
	sim "rawstone/firmware-sim/daemon"
	"rawstone/pkg/capturetest"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// TestRealDrive plays a recorded drive of 40,579 m to the whole system in one process.
func TestRealDrive(t *testing.T) {
	capture := capturetest.Find(t, "obd2-trip.candump.log.gz")
	// Noon of a program day; the test jumps to the next day when the drive is over.
	var mu sync.Mutex
	var jump time.Duration
	begin, noon := time.Now(), time.Date(2026, 1, 5, 4, 0, 0, 0, time.UTC)
	now := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return noon.Add(time.Since(begin) + jump)
	}
	url1, url2 := busURL(t), busURL(t)
	wiretap := newTap(t)
	w := newWorld(t, 86400, now, car{
		bus: "can2",
		sim: fmt.Sprintf("mode: replay\nbuses: [{name: can1, url: %q}, {name: can2, url: %q}]\necu: {bus: can2, standstill_kmh: 1}\n"+
			"replay:\n  capture: %q\n  speed: 300\n  dbc: %q\n  sensors:\n    bus: can2\n"+
			"    odometer: {signal: gnss_odo.DistanceTrip, unit: m, valid: gnss_odo.DistanceValid}\n"+
			"    speed: {signal: gnss_speed.Speed, unit: m/s, valid: gnss_speed.SpeedValid}\n", url1, url2, capture, config("vehicles/css-gnss.dbc")),
		buses:   fmt.Sprintf("- {name: can1, url: %q}\n- {name: can2, url: %q}", url1, url2),
		vehicle: config("vehicles/css-gnss.yaml"),
		consent: "hours, speed, trips",
	}, wiretap.addr())
	wiretap.forward(t, w)
	handler := slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})
	logger := slog.New(handler)
	start(t, func(ctx context.Context) error {
		return collector.Run(ctx, w.collector(t), collector.Deps{Logger: logger, Now: now})
	})
	proven := make(chan struct{})
	start(t, func(ctx context.Context) error {
		heard := slog.New(listener{Handler: handler, message: "proof made", heard: sync.OnceFunc(func() { close(proven) })})
		return agent.Run(ctx, w.agent(t), agent.Deps{Logger: heard, Now: now})
	})
	played := make(chan struct{})
	start(t, func(ctx context.Context) error {
		return sim.Run(ctx, w.car(t), sim.Deps{Logger: logger, Now: now, OnReplayDone: func() { close(played) }})
	})
	select {
	case <-played:
	case <-time.After(5 * time.Minute):
		t.Fatal("the capture was not played within 5 minutes")
	}
	if _, n := w.credited(t); n != 0 {
		t.Errorf("%d credits before the day was over", n)
	}
	mu.Lock()
	jump = 20 * time.Hour // to the next program day, and short of the day that the settler does not believe
	mu.Unlock()
	select {
	case <-proven:
	case <-time.After(5 * time.Minute):
		t.Fatal("no claim was made within 5 minutes of the day's end")
	}
	if _, n := w.credited(t); n != 0 {
		t.Errorf("%d credits on the day on which the claim was made", n)
	}
	mu.Lock()
	jump = 40 * time.Hour // to the day after, on which it leaves
	mu.Unlock()
	until(t, 5*time.Minute, "credit", func() bool { _, n := w.credited(t); return n > 0 })
	if km, n := w.credited(t); km != 40 || n != 1 {
		t.Errorf("%d credits of %d km, want one of 40: the highest tier not above 40.579 km", n, km)
	}
	// The report leaves on the day after the one on which it is made, which is whenever the collector's record has been heard.
	jumped := time.Now()
	until(t, 5*time.Minute, "receipt of a report", func() bool {
		if time.Since(jumped) > 10*time.Second {
			mu.Lock()
			jump, jumped = jump+20*time.Hour, time.Now()
			mu.Unlock()
		}
		return len(wiretap.messages(wire.KindReceipt)) >= 2
	})
	truth, err := sim.GroundTruth(w.car(t))
	if err != nil {
		t.Fatal(err)
	}
	last := truth[len(truth)-1].Opening.Counters
	if d := last[wire.OdometerM] - truth[0].Opening.Counters[wire.OdometerM]; d != 40_579 {
		t.Errorf("the ECU counted %d m, want 40,579", d)
	}
	checkWire(t, wiretap, truth, samples(t, capture))
}

// A listener calls heard for each record of a message.
type listener struct {
	slog.Handler
	message string
	heard   func()
}

func (listener) Enabled(context.Context, slog.Level) bool { return true }

func (l listener) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == l.message {
		l.heard()
	}
	if !l.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return l.Handler.Handle(ctx, r)
}

// TestNothingLostNothingTwice kills agent and collector twenty times at random points and compares what was credited with what the
// ECU's own counters are worth; a run without kills shows that the comparison is right.
func TestNothingLostNothingTwice(t *testing.T) {
	for _, c := range []struct {
		name  string
		days  int
		kills int
	}{{"undisturbed", 4, 0}, {"killed", 12, 20}} {
		t.Run(c.name, func(t *testing.T) { lossTest(t, c.days, c.kills) })
	}
}

// childRoles are the processes that are killed, in the order in which they are stopped.
func childRoles() []string { return []string{"agent", "collector", "validator-e2e"} }

func lossTest(t *testing.T, days, kills int) {
	const dayS = 2
	w := newWorld(t, dayS, time.Now, drivenCar(busURL(t)), "")
	logger := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	stopCar := start(t, func(ctx context.Context) error { return sim.Run(ctx, w.car(t), sim.Deps{Logger: logger}) })
	w.stopValidator()
	children := make(map[string]*childProcess)
	for _, role := range childRoles() {
		children[role] = startChild(t, w, role)
	}
	defer func() {
		if t.Failed() {
			km, n := w.credited(t)
			t.Logf("%d km in %d credits", km, n)
			for _, c := range children {
				t.Logf("%s said:\n%s", c.role, c.tail())
			}
		}
	}()
	for i := range kills {
		time.Sleep(time.Duration(100+rand.IntN(1900)) * time.Millisecond)
		role := childRoles()[rand.IntN(3)]
		t.Logf("kill %d: %s", i+1, role)
		children[role].kill(t)
		children[role] = startChild(t, w, role)
	}
	signed := func() []sim.Truth {
		truth, err := sim.GroundTruth(w.car(t))
		if err != nil {
			t.Fatal(err)
		}
		return truth
	}
	until(t, 5*time.Minute, "enough days", func() bool { return len(signed()) > days })
	// The car stays on the bus until the credits are there: the agent asks it again for what a kill made it miss.
	due, _ := worth(t, w, signed())
	if due == 0 {
		t.Fatal("the car did not drive: the comparison would prove nothing")
	}
	until(t, 5*time.Minute, fmt.Sprintf("credit of %d km", due), func() bool { km, _ := w.credited(t); return km >= due })
	time.Sleep(2 * time.Second) // what is credited twice would come now
	for _, role := range childRoles() {
		children[role].stop(t)
	}
	stopCar()
	// The last snapshots may be too young to be credited; what is credited must be worth exactly one beginning of the car's life.
	km, n := w.credited(t)
	truth, exact := signed(), false
	for k := range truth {
		km2, n2 := worth(t, w, truth[:k+1])
		exact = exact || km2 == km && n2 == n && km >= due
	}
	if !exact {
		t.Errorf("%d km credited in %d credits: no beginning of the car's %d snapshots is worth that", km, n, len(truth))
	}
	// The records open what the ledger blinds: every credit, weight and draw is replayed.
	if err := collector.WriteOpenings(t.Context(), w.collector(t), w.path("openings.json")); err != nil {
		t.Fatal(err)
	}
	report, err := collector.Audit(t.Context(), w.path("collector/ledger"), w.path("program/root.pub"), w.path("openings.json"))
	if err != nil {
		t.Error(err)
	}
	t.Log(report)
}

// worth computes from the ECU's own snapshots what an agent with a dispatch a day must be credited: each span from the last credited
// snapshot to the next is worth its tier, and one below the lowest tier is carried on.
func worth(t *testing.T, w *world, truth []sim.Truth) (km uint64, n int) {
	t.Helper()
	program, id, err := terms.LoadProgram(w.path("program/root.pub"), w.path("program/program.cose"))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := os.ReadFile(w.path("program/policies/1.cose"))
	if err != nil {
		t.Fatal(err)
	}
	policy, err := terms.OpenPolicy(program.Policy, id, signed)
	if err != nil {
		t.Fatal(err)
	}
	head := truth[0]
	for _, s := range truth[1:] {
		metres := s.Opening.Counters[wire.OdometerM] - head.Opening.Counters[wire.OdometerM]
		floor := uint32(0)
		for _, tier := range policy.Tiers {
			if metres >= 1000*tier.Km {
				floor = tier.Km
			}
		}
		if floor > 0 {
			km += uint64(min(floor, policy.CapKm*(s.Day-head.Day)))
			n++
			head = s
		}
	}
	return km, n
}

// A childProcess is a daemon in a process of its own: the test binary run again.
type childProcess struct {
	role string
	cmd  *exec.Cmd
	log  bytes.Buffer
	// ready ends once the process can be told to stop, or is gone.
	ready *os.File
}

func startChild(t *testing.T, w *world, role string) *childProcess {
	t.Helper()
	c := &childProcess{role: role, cmd: exec.Command(os.Args[0], "-test.run=^$")}
	c.cmd.Env = append(os.Environ(), childRole+"="+role, childConfig+"="+w.path(role+".yaml"))
	c.cmd.Stderr = &c.log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ready, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.ready, c.cmd.ExtraFiles = ready, []*os.File{theirs}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	t.Cleanup(func() {
		if c.cmd.ProcessState == nil {
			c.kill(t)
		}
		c.ready.Close()
	})
	return c
}

// kill ends the process without warning; one that has ended by itself is an error.
func (c *childProcess) kill(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Errorf("%s: %v", c.role, err)
	}
	err := c.cmd.Wait()
	if status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Errorf("%s ended by itself: %v\n%s", c.role, err, c.tail())
	}
}

// stop ends the process in order.
func (c *childProcess) stop(t *testing.T) {
	t.Helper()
	if _, err := io.ReadAll(c.ready); err != nil {
		t.Errorf("%s: %v", c.role, err)
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("%s: %v", c.role, err)
	}
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("%s did not stop well: %v\n%s", c.role, err, c.tail())
	}
}

func (c *childProcess) tail() string {
	lines := strings.Split(strings.TrimSpace(c.log.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-12):], "\n")
}
