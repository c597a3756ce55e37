package daemon

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"rawstone/agent/internal/flash"
	"rawstone/agent/internal/spool"
	"rawstone/pkg/wire"
)

// TestMemoryOfTheProcess runs the agent's own binary over a backlog of 20,000 submissions, half of them reports, and asks the kernel what it
// takes. Package spool measures its part alone.
func TestMemoryOfTheProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	w := newWorld(t, wire.Development)
	w.fetched()
	w.load("mqtt:", "spool: {max_kib: 32768}\nmqtt:")
	backlog(t, w.path("state/state"), 20_000)
	binary := filepath.Join(t.TempDir(), "agent")
	if out, err := exec.Command("go", "build", "-tags", "nethttpomithttp2", "-o", binary, "rawstone/agent").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command(binary, "run", "--config", w.path("agent.yaml"))
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan bool, 1), make(chan string, 1)
	go func() {
		var all bytes.Buffer
		scan := bufio.NewScanner(stderr)
		for scan.Scan() {
			fmt.Fprintln(&all, scan.Text())
			if strings.Contains(scan.Text(), "client certificate is not renewed") { // it runs: all is open, and the identity has asked once
				select {
				case ready <- true:
				default:
				}
			}
		}
		ended <- all.String()
	}()
	defer func() {
		_ = cmd.Process.Signal(os.Interrupt)
		log := <-ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v:\n%s", err, log)
		}
	}()
	select {
	case <-ready:
	case log := <-ended:
		ended <- log
		t.Fatal("the agent ended")
	case <-time.After(2 * time.Minute):
		t.Fatal("the agent does not run")
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	kib := make(map[string]int64)
	for line := range strings.Lines(string(b)) {
		name, rest, _ := strings.Cut(line, ":")
		var n int64
		if _, err := fmt.Sscan(rest, &n); err == nil {
			kib[name] = n
		}
	}
	t.Logf("resident %d KiB (most %d), of it anonymous %d KiB", kib["VmRSS"], kib["VmHWM"], kib["RssAnon"])
	if kib["VmHWM"] > 64<<10 || kib["RssAnon"] > 40<<10 || kib["RssAnon"] == 0 {
		t.Errorf("resident %d KiB, anonymous %d KiB; want at most 64 and 40 MiB", kib["VmHWM"], kib["RssAnon"])
	}
}

// backlog puts submissions as large as real ones into a spool.
func backlog(t *testing.T, dir string, n int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	db, _, err := flash.OpenStore(flash.StoreConfig{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := spool.Open(spool.Config{DB: db, MaxBytes: 32 << 20, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	random, now := rand.NewChaCha8([32]byte{1}), time.Now()
	for range n / 200 {
		var items []spool.Item
		for i := range 200 {
			item := spool.Item{Kind: wire.KindClaim, Created: now, Due: now, Bytes: make([]byte, 420)}
			if i%2 == 0 {
				item.Kind, item.Bytes = wire.KindReport, make([]byte, 900)
			}
			random.Read(item.Bytes)
			items = append(items, item)
		}
		if _, _, err := s.PutAll(items...); err != nil {
			t.Fatal(err)
		}
	}
	if held, _ := s.Depth(); held != n {
		t.Fatalf("%d submissions, want %d", held, n)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
