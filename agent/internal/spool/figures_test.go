package spool

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"rawstone/agent/internal/flash"
	"rawstone/pkg/wire"
)

// claimLen is the size of a claim with one proof, and a little more.
const claimLen = 640

// bodies makes submissions that do not compress.
func bodies(r *rand.ChaCha8, n int) (items []Item) {
	for range n {
		b := make([]byte, claimLen)
		r.Read(b)
		items = append(items, Item{Kind: wire.KindClaim, Created: epoch, Due: epoch, Bytes: b})
	}
	return items
}

// procNumber reads a number from a file of /proc whose lines are NAME: NUMBER.
func procNumber(t testing.TB, path, name string) (n int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Skipf("no figures here: %v", err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			if _, err := fmt.Sscan(rest, &n); err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Skipf("%s has no %s", path, name)
	return 0
}

// BenchmarkDevice keeps 100,000 submissions in groups of a hundred, of which 5,000 wait at any time, and frees them in groups.
func BenchmarkDevice(b *testing.B) {
	const records, group, waiting = 100_000, 100, 50
	for range b.N {
		dir := filepath.Join(b.TempDir(), "store")
		db, _, err := flash.OpenStore(flash.StoreConfig{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		s := open(b, db, 16<<20)
		before := procNumber(b, "/proc/self/io", "write_bytes")
		r := rand.NewChaCha8([32]byte{})
		var queue [][]wire.Hash
		var most int64
		for n := range records / group {
			ids, _, err := s.PutAll(bodies(r, group)...)
			if err != nil {
				b.Fatal(err)
			}
			if queue = append(queue, ids); len(queue) > waiting {
				if err := s.FreeAll(queue[0]...); err != nil {
					b.Fatal(err)
				}
				queue = queue[1:]
			}
			if n%20 == 0 {
				most = max(most, diskUse(b, dir))
			}
		}
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
		written := procNumber(b, "/proc/self/io", "write_bytes") - before
		ratio := float64(written) / (records * claimLen)
		if ratio > 6 {
			b.Errorf("%.1f bytes are written for each of payload, want at most 6", ratio)
		}
		b.ReportMetric(ratio, "device-B/payload-B")
		b.ReportMetric(float64(most)/(waiting*group*claimLen), "x-disk/backlog")
	}
}

func diskUse(t testing.TB, dir string) (total int64) {
	t.Helper()
	out, err := exec.Command("du", "-sB1", dir).Output()
	if err != nil {
		return 0 // a file went meanwhile
	}
	fmt.Sscan(string(out), &total)
	return total
}

const backlogEnv = "RAWSTONE_SPOOL_BACKLOG"

// backlog fills a spool, or opens a full one, in the memory that the agent is given, and says what it took.
func backlog(dir string, w io.Writer) error {
	db, finding, err := flash.OpenStore(flash.StoreConfig{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer db.Close()
	s, err := Open(Config{DB: db, MaxBytes: 32 << 20, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	r := rand.NewChaCha8([32]byte{1})
	for n, _ := s.Depth(); n < 20_000; n += 100 {
		if _, _, err := s.PutAll(bodies(r, 100)...); err != nil {
			return err
		}
	}
	n, _ := s.Depth()
	fmt.Fprintf(w, "items: %d\nfinding: %q\n", n, finding)
	b, err := os.ReadFile("/proc/self/status")
	if err == nil {
		_, err = w.Write(b)
	}
	return err
}

// raced reports whether this binary was built with the race detector.
func raced() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// A backlog of 20,000 leaves the agent within what a head unit has, while it is made and after a restart.
func TestMemoryWithBacklog(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	if raced() {
		t.Skip("the race detector keeps several words for each of the agent's")
	}
	dir := filepath.Join(t.TempDir(), "store")
	for _, when := range []string{"filled", "restarted"} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), backlogEnv+"="+dir, "GOMEMLIMIT=32MiB", "GOGC=50")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		got := make(map[string]int64)
		for scan := bufio.NewScanner(strings.NewReader(string(out))); scan.Scan(); {
			name, rest, _ := strings.Cut(scan.Text(), ":")
			var n int64
			if _, err := fmt.Sscan(rest, &n); err == nil {
				got[name] = n
			}
		}
		t.Logf("%s: %d submissions, resident %d KiB (most %d), anonymous %d KiB", when, got["items"], got["VmRSS"], got["VmHWM"], got["RssAnon"])
		if got["items"] != 20_000 {
			t.Errorf("%s: %s", when, out)
		}
		if got["VmHWM"] > 64<<10 || got["RssAnon"] > 40<<10 || got["RssAnon"] == 0 {
			t.Errorf("%s: resident %d KiB, anonymous %d KiB; want at most 64 and 40 MiB", when, got["VmHWM"], got["RssAnon"])
		}
	}
}
