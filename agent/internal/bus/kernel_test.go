//go:build linux

package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/can"
	"rawstone/pkg/can/link"
)

// A kernelSet reads the steady bus, the interface that RAWSTONE_CAN names, and a frail one that the test makes and takes away. It
// needs a kernel with SocketCAN, can-utils and the right to change interfaces: make test-socketcan.
type kernelSet struct {
	*Set
	t              *testing.T
	ctx            context.Context
	steady, frail  string
	metrics        *prometheus.Registry
	frames         chan can.Frame
	steadyN, sentN int
}

func runKernelSet(t *testing.T, frail string, filters []can.Filter) *kernelSet {
	t.Helper()
	steady := os.Getenv("RAWSTONE_CAN")
	if steady == "" {
		t.Skip("set RAWSTONE_CAN to a CAN interface that is up, have can-utils and be root; make test-socketcan does all of it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	k := &kernelSet{t: t, ctx: ctx, steady: steady, frail: frail, metrics: prometheus.NewRegistry(), frames: make(chan can.Frame, 16)}
	var err error
	k.Set, err = Open(Config{
		Buses:  []Bus{{Name: "steady", URL: "socketcan://" + steady}, {Name: "frail", URL: "socketcan://" + frail, Filters: filters}},
		Logger: slog.New(slog.DiscardHandler), Metrics: k.metrics,
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- k.Run(ctx, func(f *can.Frame) {
			select {
			case k.frames <- *f:
			case <-ctx.Done():
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, k.Close()); err != nil {
			t.Error(err)
		}
		_ = exec.Command("ip", "link", "del", frail).Run() // which may be gone
	})
	return k
}

// tool runs a program to its end.
func (k *kernelSet) tool(name string, args ...string) {
	k.t.Helper()
	if out, err := exec.CommandContext(k.ctx, name, args...).CombinedOutput(); err != nil {
		k.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// arrives sends a frame by cansend and waits for it and nothing else.
func (k *kernelSet) arrives(iface string, bus uint8, text string, want can.Frame) {
	k.t.Helper()
	k.tool("cansend", iface, text)
	want.Bus = bus
	select {
	case got := <-k.frames:
		got.Time = 0
		if d := cmp.Diff(want, got); d != "" {
			k.t.Error(d)
		}
	case <-k.ctx.Done():
		k.t.Fatalf("%s on %s did not arrive", text, iface)
	}
}

// goesOn sees the steady bus at work.
func (k *kernelSet) goesOn() {
	k.t.Helper()
	k.steadyN++
	k.arrives(k.steady, 0, "321#", can.Frame{ID: 0x321})
}

// value reads a metric of a bus, with its error class or without.
func (k *kernelSet) value(name, bus, class string) float64 {
	k.t.Helper()
	families, err := k.metrics.Gather()
	if err != nil {
		k.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := make(map[string]string)
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["bus"] == bus && labels["class"] == class {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	k.t.Fatalf("there is no metric %s of bus %s", name, bus)
	return 0
}

// await waits until the metric of the frail bus has the value.
func (k *kernelSet) await(name string, want float64) {
	k.t.Helper()
	for k.value(name, "frail", "") != want {
		if k.ctx.Err() != nil {
			k.t.Fatalf("%s is %v, want %v", name, k.value(name, "frail", ""), want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// sends puts a frame on the frail bus, and candump hears it.
func (k *kernelSet) sends() {
	k.t.Helper()
	k.sentN++
	var out strings.Builder
	cmd := exec.CommandContext(k.ctx, "candump", "-L", "-n", "1", k.frail)
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	for !everything(k.t, k.frail) {
		if k.ctx.Err() != nil {
			k.t.Fatal("candump does not listen")
		}
		time.Sleep(time.Millisecond)
	}
	if err := k.Send(k.ctx, 1, &can.Frame{ID: 0x77, Len: 1}); err != nil {
		k.t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || !strings.HasSuffix(strings.TrimSpace(out.String()), " 077#00") {
		k.t.Errorf("candump: %v, %q", err, out.String())
	}
}

// everything reports whether a socket takes every frame of the interface.
func everything(t *testing.T, iface string) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/net/can/rcvlist_all")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		// device, identifier, mask, function, data, matches, owner
		if f := strings.Fields(line); len(f) == 7 && f[0] == iface {
			return true
		}
	}
	return false
}

// An interface that is not there at first, goes down, and goes away: the bus is opened again each time with its filters, its counters
// go on, and the other bus does not notice.
func TestKernelReopen(t *testing.T) {
	k := runKernelSet(t, "rawbus0", []can.Filter{can.Exact(0x123)})
	const up, reopened = "rawstone_bus_up", "rawstone_bus_reopened_total"
	down := func() {
		t.Helper()
		k.await(up, 0)
		k.goesOn()
		if err := k.Send(k.ctx, 1, &can.Frame{ID: 1}); !errors.Is(err, link.ErrDown) {
			t.Errorf("Send: %v, want link.ErrDown", err)
		}
	}
	link := func(args ...string) { t.Helper(); k.tool("ip", append([]string{"link"}, args...)...) }
	down()
	for i, step := range []struct{ before, after func() }{
		{func() { link("add", k.frail, "type", "vcan") }, func() { link("set", k.frail, "down") }},
		{func() {}, func() { link("del", k.frail) }},
		{func() { link("add", k.frail, "type", "vcan") }, func() { link("set", k.frail, "down") }},
		{func() {}, func() {}},
	} {
		step.before()
		link("set", k.frail, "up")
		k.await(up, 1)
		k.await(reopened, float64(i+1))
		if everything(t, k.frail) {
			t.Error("the kernel delivers everything: the filters are lost")
		}
		k.tool("cansend", k.frail, "124#") // unwanted
		k.tool("cansend", k.frail, "20000040#0000000000000000")
		k.arrives(k.frail, 1, "123#01", can.Frame{ID: 0x123, Len: 1, Data: [64]byte{1}})
		k.sends()
		k.goesOn()
		if step.after(); i < 3 {
			down()
		}
	}
	for _, c := range []struct {
		name, bus, class string
		want             int
	}{
		{"rawstone_bus_frames_received_total", "frail", "", 4},
		{"rawstone_bus_frames_received_total", "steady", "", k.steadyN},
		{"rawstone_bus_frames_sent_total", "frail", "", k.sentN},
		{"rawstone_bus_error_frames_total", "frail", "bus_off", 4},
		{"rawstone_bus_error_frames_total", "steady", "bus_off", 0},
		{"rawstone_bus_overflowed_total", "frail", "", 0},
		{"rawstone_bus_malformed_total", "frail", "", 0},
		{reopened, "steady", "", 0},
		{up, "steady", "", 1},
		{up, "frail", "", 1},
	} {
		if got := k.value(c.name, c.bus, c.class); got != float64(c.want) {
			t.Errorf("%s of %s is %v, want %d", c.name, c.bus, got, c.want)
		}
	}
	if got := k.Received(); got != uint64(4+k.steadyN) {
		t.Errorf("received %d frames of all buses, want %d", got, 4+k.steadyN)
	}
}

// Both buses are flooded at once: nothing is lost, or exactly what the counters say, and each bus keeps its order.
func TestKernelFloods(t *testing.T) {
	k := runKernelSet(t, "rawbus1", nil)
	k.tool("ip", "link", "add", k.frail, "type", "vcan")
	k.tool("ip", "link", "set", k.frail, "up")
	k.await("rawstone_bus_up", 1)
	const n = 20_000
	var floods sync.WaitGroup
	for i, iface := range []string{k.steady, k.frail} {
		floods.Go(func() {
			out, err := exec.CommandContext(k.ctx, "cangen", "-g", "0", "-n", fmt.Sprint(n), "-I", "321", "-L", "8", "-D", "i", iface).CombinedOutput()
			if err == nil {
				out, err = exec.CommandContext(k.ctx, "cansend", iface, "001#").CombinedOutput()
			}
			if err != nil {
				t.Errorf("bus %d: %v: %s", i, err, out)
			}
		})
	}
	var got [2]int
	last := [2]int64{-1, -1}
	for ended := 0; ended < 2; {
		select {
		case f := <-k.frames:
			if got[f.Bus]++; f.ID == 1 {
				ended++
				continue
			}
			number := int64(f.Data[0]) | int64(f.Data[1])<<8
			if number <= last[f.Bus] {
				t.Fatalf("bus %d: frame %d after %d", f.Bus, number, last[f.Bus])
			}
			last[f.Bus] = number
		case <-k.ctx.Done():
			t.Fatalf("the last frames did not arrive, after %v", got)
		}
	}
	floods.Wait()
	for i, b := range k.buses {
		lost := int(k.value("rawstone_bus_overflowed_total", b.Name, ""))
		if got[i]+lost != n+1 {
			t.Errorf("bus %s: received %d and lost %d frames of %d", b.Name, got[i], lost, n+1)
		}
		if received := k.value("rawstone_bus_frames_received_total", b.Name, ""); int(received) != got[i] {
			t.Errorf("bus %s: counted %v frames, handed out %d", b.Name, received, got[i])
		}
	}
}
