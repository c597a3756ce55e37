//go:build linux

package link

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/can"
)

// The tests of this file speak with the kernel's SocketCAN and with can-utils on the interface that RAWSTONE_CAN names, a vcan
// with mtu 72 that nobody else uses. `make test-socketcan` runs them in an emulated Debian kernel, which is slow: they wait for
// events.

func kernelBus(t *testing.T) (iface string, ctx context.Context) {
	t.Helper()
	iface = os.Getenv("RAWSTONE_CAN")
	if iface == "" {
		t.Skip("set RAWSTONE_CAN to a CAN interface that is up, with mtu 72, and have can-utils; make test-socketcan does both")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	t.Cleanup(cancel)
	return iface, ctx
}

// tool runs one of can-utils to its end and returns what it wrote.
func tool(t *testing.T, ctx context.Context, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// A subscription is one line of the kernel's receive lists (/proc/net/can/rcvlist_*).
type subscription struct {
	List, ID, Mask string
	Matches        uint64
}

// subscriptions returns what the kernel delivers from an interface, and to how many frames it did.
func subscriptions(t *testing.T, iface string) (all []subscription) {
	t.Helper()
	files, err := filepath.Glob("/proc/net/can/rcvlist_*")
	if err != nil || len(files) == 0 {
		t.Fatalf("the kernel shows no receive lists: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			// device, identifier, mask, function, data, matches, owner
			if f := strings.Fields(line); len(f) == 7 && f[0] == iface {
				s := subscription{List: strings.TrimPrefix(filepath.Base(file), "rcvlist_"), ID: f[1], Mask: f[2]}
				if _, err := fmt.Sscan(f[5], &s.Matches); err != nil {
					t.Fatalf("%s: %q", file, line)
				}
				all = append(all, s)
			}
		}
	}
	return all
}

// dump runs candump until it has n frames; wait returns them.
func dump(t *testing.T, ctx context.Context, iface string, n int) (wait func() []can.Frame) {
	t.Helper()
	before := len(subscriptions(t, iface))
	var out, diagnostics bytes.Buffer
	cmd := exec.CommandContext(ctx, "candump", "-L", "-r", "4194304", "-n", fmt.Sprint(n), iface)
	cmd.Stdout, cmd.Stderr = &out, &diagnostics
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for len(subscriptions(t, iface)) == before {
		if ctx.Err() != nil {
			t.Fatal("candump does not listen")
		}
		time.Sleep(time.Millisecond)
	}
	return func() (frames []can.Frame) {
		t.Helper()
		if err := cmd.Wait(); err != nil {
			t.Fatalf("candump: %v\n%s", err, diagnostics.Bytes())
		}
		r := can.NewReader(&out)
		for {
			var f can.Frame
			if err := r.Next(&f); err != nil {
				break
			}
			frames = append(frames, f)
		}
		if n, first := r.Broken(); n != 0 {
			t.Errorf("%d lines of candump are broken: %s", n, first)
		}
		return frames
	}
}

// timeless returns the frames without their times, after it saw that these lie from from to to and never go back.
func timeless(t *testing.T, frames []can.Frame, from, to int64) []can.Frame {
	t.Helper()
	last := from
	for i := range frames {
		if at := frames[i].Time; at < last || at > to {
			t.Fatalf("frame %d has time %d, want %d to %d", i, at, last, to)
		}
		last, frames[i].Time = frames[i].Time, 0
	}
	return frames
}

// kinds returns frames of every form that a bus can carry.
func kinds() (all []can.Frame) {
	data := make([]byte, can.MaxData)
	for i := range data {
		data[i] = byte(0xA0 + i)
	}
	for _, id := range []can.ID{0, 0x123, can.MaxStandard, can.Extended, can.Extended | 0x123, can.Extended | can.MaxExtended} {
		for n := range 9 {
			all = append(all, frame(id, 0, data[:n]...), can.Frame{ID: id, Flags: can.Remote, Len: uint8(n)})
		}
		for _, flags := range []can.Flags{0, can.BitRateSwitch, can.ErrorState, can.BitRateSwitch | can.ErrorState} {
			for _, n := range []int{0, 1, 7, 8, 12, 16, 20, 24, 32, 48, 64} {
				all = append(all, frame(id, can.FD|flags, data[:n]...))
			}
		}
	}
	return all
}

// play puts frames on the bus by canplayer.
func play(t *testing.T, ctx context.Context, iface string, frames []can.Frame) {
	t.Helper()
	var log []byte
	for i := range frames {
		log = can.AppendLine(log, "can2", &frames[i])
	}
	file := filepath.Join(t.TempDir(), "drive.log")
	if err := os.WriteFile(file, log, 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, ctx, "canplayer", "-t", "-I", file, iface+"=can2")
}

// What canplayer plays arrives, and nothing else.
func TestKernelPlayer(t *testing.T) {
	iface, ctx := kernelBus(t)
	c := open(t, Config{URL: "socketcan://" + iface, Now: fixed(1)})
	want := kinds()
	before := time.Now().UnixNano()
	play(t, ctx, iface, want)
	after := time.Now().UnixNano()
	tool(t, ctx, "cansend", iface, "001#")
	var got []can.Frame
	for {
		f := receive(t, ctx, c)
		if f.ID == 1 {
			break
		}
		got = append(got, f)
	}
	if d := cmp.Diff(want, timeless(t, got, before, after)); d != "" {
		t.Error(d)
	}
	if s := c.Stats(); s.Malformed != 0 {
		t.Errorf("counters: %+v", s)
	}
}

// candump sees what Send put on the bus, and Reader reads what candump wrote.
func TestKernelDump(t *testing.T) {
	iface, ctx := kernelBus(t)
	c := open(t, Config{URL: "socketcan://" + iface})
	want := kinds()
	wait := dump(t, ctx, iface, len(want))
	before := time.Now().Truncate(time.Microsecond).UnixNano() // candump's clock has microseconds
	for _, f := range want {
		send(t, ctx, c, f)
	}
	if d := cmp.Diff(want, timeless(t, wait(), before, time.Now().UnixNano())); d != "" {
		t.Error(d)
	}
}

// A single frame of each kind, both ways, written as a person would write it.
func TestKernelSend(t *testing.T) {
	iface, ctx := kernelBus(t)
	c := open(t, Config{URL: "socketcan://" + iface})
	long := bytes.Repeat([]byte{0x11, 0xEE}, 32)
	for text, want := range map[string]can.Frame{
		"7DF#02010D":                            frame(0x7DF, 0, 2, 1, 0x0D),
		"18DAF110#023E00":                       frame(can.Extended|0x18DAF110, 0, 2, 0x3E, 0),
		"00000123#":                             frame(can.Extended|0x123, 0),
		"7FF#R":                                 {ID: 0x7FF, Flags: can.Remote},
		"7FF#R8":                                {ID: 0x7FF, Flags: can.Remote, Len: 8},
		"123##1" + strings.Repeat("11EE", 32):   frame(0x123, can.FD|can.BitRateSwitch, long...),
		"1FFFFFFF##0" + strings.Repeat("11", 5): frame(can.Extended|0x1FFFFFFF, can.FD, 0x11, 0x11, 0x11, 0x11, 0x11),
	} {
		tool(t, ctx, "cansend", iface, text)
		got := receive(t, ctx, c)
		got.Time = 0
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", text, d)
		}
		wait := dump(t, ctx, iface, 1)
		send(t, ctx, c, want)
		back := wait()
		for i := range back {
			back[i].Time = 0
		}
		if d := cmp.Diff([]can.Frame{want}, back); d != "" {
			t.Errorf("%s as sent: %s", text, d)
		}
	}
}

// Frame time is the kernel's: taken when the frame was on the bus, not when somebody read it.
func TestKernelTimestamps(t *testing.T) {
	iface, ctx := kernelBus(t)
	host := time.Unix(1, 0)
	c := open(t, Config{URL: "socketcan://" + iface, Now: func() time.Time { return host }})
	var edges []int64
	const n = 5
	for i := range n {
		edges = append(edges, time.Now().UnixNano())
		tool(t, ctx, "cansend", iface, fmt.Sprintf("%03X#", i))
	}
	edges = append(edges, time.Now().UnixNano())
	for i := range n { // only now
		f := receive(t, ctx, c)
		if f.ID != can.ID(i) || f.Time < edges[i] || f.Time > edges[i+1] {
			t.Errorf("frame %s has time %d, want %03X within %d and %d", f.ID, f.Time, i, edges[i], edges[i+1])
		}
	}
}

// flood sends n frames of identifier 321 as fast as cangen can, with their number as data.
func flood(t *testing.T, ctx context.Context, iface string, n int) {
	t.Helper()
	tool(t, ctx, "cangen", "-g", "0", "-n", fmt.Sprint(n), "-I", "321", "-L", "8", "-D", "i", iface)
}

// An unpaced flood loses nothing while somebody reads: einride's socket, with the default receive queue, does.
func TestKernelFlood(t *testing.T) {
	iface, ctx := kernelBus(t)
	c := open(t, Config{URL: "socketcan://" + iface})
	const n = 20_000
	type result struct {
		frames, gaps int
		err          error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		var f can.Frame
		last := -1
		for r.err = c.Receive(ctx, &f); r.err == nil && f.ID != 1; r.err = c.Receive(ctx, &f) {
			if i := int(binary.LittleEndian.Uint64(f.Data[:])); i != last+1 {
				r.gaps++
				last = i
			} else {
				last++
			}
			r.frames++
		}
		done <- r
	}()
	flood(t, ctx, iface, n)
	tool(t, ctx, "cansend", iface, "001#")
	if r := <-done; r.err != nil || r.frames != n || r.gaps != 0 {
		t.Errorf("received %d of %d frames with %d gaps: %v", r.frames, n, r.gaps, r.err)
	}
}
