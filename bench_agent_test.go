package rawstone_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rawstone/pkg/can"
	"rawstone/pkg/can/link"
)

// The load of `make bench-agent`: a classic frame of 8 bytes takes about 125 bits with its stuff bits, so that a full bus of 500 kbit/s
// carries 4,000 of them a second.
const (
	loadBuses  = 4
	loadRate   = 4000     // frames a second and bus
	maxRSS     = 40 << 20 // bytes of the agent in steady state, without proving
	settleTime = 10 * time.Second
)

// TestAgentUnderLoad runs the agent's binary on four full buses and prints what it needs. It fails when a frame is lost or memory is
// beyond its limit. It does not run by itself: `make bench-agent`.
func TestAgentUnderLoad(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("RAWSTONE_BENCH_AGENT"))
	if err != nil {
		t.Skip("runs by `make bench-agent`")
	}
	var urls []string
	var buses, vehicle strings.Builder
	fmt.Fprintf(&vehicle, "vss: \"6.0\"\nbuses:\n")
	for i := range loadBuses {
		urls = append(urls, busURL(t))
		fmt.Fprintf(&buses, "- {name: can%d, url: %q}\n", i, urls[i])
		fmt.Fprintf(&vehicle, "- {name: can%d, dbc: %q}\n", i, config("vehicles/sim.dbc"))
	}
	fmt.Fprint(&vehicle, "signals:\n- {path: Vehicle.TraveledDistance, bus: can0, dbc: Odometer.Odometer, unit: m}\n")
	for i := range loadBuses {
		fmt.Fprintf(&vehicle, "- {path: Vehicle.Speed, bus: can%d, dbc: Motion.VehicleSpeed, unit: km/h}\n", i)
	}
	mapFile := filepath.Join(t.TempDir(), "load.yaml")
	if err := os.WriteFile(mapFile, []byte(vehicle.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	sim := drivenCar(urls[0]).sim
	w := newWorld(t, 86400, time.Now, car{sim: sim, buses: buses.String(), vehicle: mapFile, bus: "can0", consent: "hours, speed, trips, charge, feature"}, "")
	status := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	text, err := os.ReadFile(w.path("agent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "agent.yaml", string(text)+"status: "+status+"\n")

	agent := exec.Command(os.Getenv("RAWSTONE_AGENT"), "run", "--config", w.path("agent.yaml"))
	var log bytes.Buffer
	agent.Stderr = &log
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = agent.Process.Signal(syscall.SIGTERM) // it may have ended by itself, which Wait tells
		if err := agent.Wait(); err != nil {
			t.Errorf("the agent ended badly: %v\n%s", err, log.String())
		}
	}()
	until(t, time.Minute, "the start of the agent", func() bool { _, err := received(status); return err == nil })

	before, err := readUse(agent.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	sent, start := make([]uint64, loadBuses), time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var senders sync.WaitGroup
	for i := range loadBuses {
		senders.Go(func() {
			n, err := load(ctx, urls[i], i)
			if sent[i] = n; err != nil {
				t.Error(err)
			}
		})
	}
	var steady int64
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
		u, err := readUse(agent.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if time.Since(start) > length/6 {
			steady = max(steady, u.rss)
		}
	}
	senders.Wait()
	took := time.Since(start)
	after, err := readUse(agent.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	var total, lost uint64
	until(t, settleTime, "the reading of every frame", func() bool {
		got, err := received(status)
		if err != nil {
			return false
		}
		total, lost = 0, 0
		for i, n := range sent {
			total, lost = total+n, lost+n-got[fmt.Sprintf("can%d", i)]
		}
		return lost == 0
	})
	fmt.Printf("buses %d, time %.1f s, frames sent %d (%.0f a second), lost %d\n", loadBuses, took.Seconds(), total, float64(total)/took.Seconds(), lost)
	fmt.Printf("agent: CPU %.1f %% of one core, RSS %.1f MiB in steady state (limit %d), written to disk %.1f KiB\n",
		100*(after.cpu-before.cpu).Seconds()/took.Seconds(), float64(steady)/(1<<20), maxRSS>>20, float64(after.written-before.written)/1024)
	if steady > maxRSS {
		t.Errorf("the agent takes %d bytes of memory", steady)
	}
}

// load sends full-rate traffic of a moving car on a bus until ctx is done: every 40th frame tells the distance, every 40th the speed, the
// others mean nothing to the agent.
func load(ctx context.Context, url string, seed int) (sent uint64, err error) {
	c, err := link.Open(link.Config{URL: url})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	var drain sync.WaitGroup
	defer drain.Wait()
	defer c.Close()
	drain.Go(func() { // a participant reads, or its frames pile up in the kernel
		var f can.Frame
		for c.Receive(context.Background(), &f) == nil {
		}
	})
	const speed = 50.0 // km/h
	noise := rand.New(rand.NewPCG(uint64(seed), 1))
	start := time.Now()
	for ctx.Err() == nil {
		for due := uint64(time.Since(start).Seconds() * loadRate); sent < due && ctx.Err() == nil; sent++ {
			f := can.Frame{ID: can.ID(noise.IntN(700)), Len: 8}
			binary.LittleEndian.PutUint64(f.Data[:], noise.Uint64())
			switch sent % 40 {
			case 0:
				f = can.Frame{ID: 800, Len: 8}
				binary.LittleEndian.PutUint32(f.Data[:], uint32(1_000_000+speed/3.6*time.Since(start).Seconds()))
				f.Data[4] = 1
			case 20:
				f = can.Frame{ID: 801, Len: 8}
				binary.LittleEndian.PutUint16(f.Data[:], speed*100)
			}
			if err := c.Send(context.Background(), &f); err != nil {
				return sent, err
			}
		}
		time.Sleep(time.Millisecond)
	}
	return sent, nil
}

// received returns the number of frames that the agent has read, by bus: those that the map wants and those that it does not.
func received(status string) (map[string]uint64, error) {
	resp, err := http.Get("http://" + status + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	n := make(map[string]uint64)
	for lines := bufio.NewScanner(io.LimitReader(resp.Body, 1<<20)); lines.Scan(); {
		var what, bus string
		var v float64
		line := strings.NewReplacer("rawstone_bus_frames_", "", "_total{bus=\"", " ", "\"}", "").Replace(lines.Text())
		if _, err := fmt.Sscanf(line, "%s %s %g", &what, &bus, &v); err == nil && (what == "received" || what == "filtered") {
			n[bus] += uint64(v)
		}
	}
	if len(n) == 0 {
		return nil, errors.New("the agent counts no frames of any bus")
	}
	return n, nil
}

// use is what a process has used (proc(5)).
type use struct {
	cpu     time.Duration
	rss     int64 // bytes, now
	written int64 // bytes sent to the disk
}

func readUse(pid int) (u use, err error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	field := func(file, name string) (n int64) {
		b, readErr := os.ReadFile(filepath.Join(dir, file))
		if readErr != nil {
			err = readErr
		}
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, name+":"); ok {
				n, err = strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			}
		}
		return n
	}
	u = use{rss: field("status", "VmRSS") << 10, written: field("io", "write_bytes")}
	stat, statErr := os.ReadFile(filepath.Join(dir, "stat"))
	if statErr != nil {
		return u, statErr
	}
	// The fields after the name in parentheses; utime and stime are the 14th and 15th of all, in hundredths of a second.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return u, fmt.Errorf("cannot read %s/stat: %d fields", dir, len(fields))
	}
	for _, f := range fields[11:13] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return u, err
		}
		u.cpu += time.Duration(ticks) * 10 * time.Millisecond
	}
	return u, err
}
