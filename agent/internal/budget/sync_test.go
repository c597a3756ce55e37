package budget

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"rawstone/agent/internal/flash"
	"rawstone/pkg/dp"
	"rawstone/pkg/wire"
)

const (
	syncsWork = "syncs"
	traced    = 20 // releases
)

// syncs makes reports, and says on w when those begin and end that are traced.
func syncs(dir string, w io.Writer) error {
	db, err := flash.Open(flash.Config{Dir: filepath.Join(dir, "store"), Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	defer db.Close()
	limit, err := YearLimit(week, 100_000)
	if err != nil {
		return err
	}
	l, err := New(Config{DB: db, Anchor: filepath.Join(dir, "budget.anchor"), Limit: limit})
	if err != nil {
		return err
	}
	defer l.Close()
	g, err := vector()
	if err != nil {
		return err
	}
	if _, err := release(l, g, 1); err != nil {
		return err
	}
	fmt.Fprintln(w, "begin")
	for epoch := range uint64(traced) {
		if _, err := release(l, g, 2+epoch); err != nil {
			return err
		}
	}
	fmt.Fprintln(w, "end")
	return nil
}

// vector is the noise of a vehicle's whole vector.
func vector() (*dp.Gaussian, error) {
	p := dp.Params{Epsilon: 1, Delta: 1e-6, Clip: 2000, Coordinates: make([]dp.Coordinate, wire.VectorLen)}
	for i := range p.Coordinates {
		p.Coordinates[i] = dp.Coordinate{Max: 2000, Scale: 1}
	}
	return dp.NewGaussian(p)
}

// release makes one report: the charge, the draw and the bytes, which are as long as a sealed report's.
func release(l *Ledger, g *dp.Gaussian, epoch uint64) ([]byte, error) {
	ctx := context.Background()
	permit, err := l.Charge(ctx, epoch, week)
	if err != nil {
		return nil, err
	}
	values, err := permit.Release(g, make([]int64, wire.VectorLen))
	if err != nil {
		return nil, err
	}
	sealed := make([]byte, 0, 1024)
	for _, v := range values {
		sealed = binary.BigEndian.AppendUint64(sealed, uint64(v))
	}
	return sealed[:cap(sealed)], l.Store(ctx, permit, sealed[:cap(sealed)])
}

// TestThreeSyncs counts the system calls that wait for flash: at most three a release.
func TestThreeSyncs(t *testing.T) {
	if err := exec.Command("strace", "-o", os.DevNull, os.Args[0], "-test.run=^$").Run(); err != nil {
		t.Skip("skipped: counting a release's syncs; install strace, and let it trace: ", err)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command("strace", "-f", "-o", trace, "-e", "trace=fsync,fdatasync,msync,sync,syncfs,sync_file_range,open,openat,write", os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+t.TempDir(), workVariable+"="+syncsWork)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, rest, begun := strings.Cut(string(readFile(t, trace)), `write(1, "begin\n"`)
	within, _, ended := strings.Cut(rest, `write(1, "end\n"`)
	if !begun || !ended {
		t.Fatal("the trace has neither beginning nor end")
	}
	counts := map[string]int{}
	total := 0
	for line := range strings.Lines(within) {
		_, call, _ := strings.Cut(line, " ")
		name, _, isCall := strings.Cut(strings.TrimSpace(call), "(")
		if !isCall || strings.HasPrefix(name, "<") {
			continue
		}
		counts[name]++
		if strings.Contains(name, "sync") {
			total++
		}
		if strings.Contains(line, "O_SYNC") || strings.Contains(line, "O_DSYNC") {
			t.Errorf("a file whose every write waits: %s", line)
		}
	}
	t.Logf("%d releases: %v", traced, counts)
	if total > 3*traced {
		t.Errorf("%d releases took %d syncs, want at most 3 each: %v", traced, total, counts)
	}
	if counts["fsync"] != traced || counts["msync"] < traced {
		t.Errorf("a charge is synced in the anchor and a report in the store: %v in %d releases", counts, traced)
	}
}

// BenchmarkRelease is one report of a whole vector: charge, draw, store. cpu-ms/op is the time of all processors, without waiting for
// flash; the aim is 2.
func BenchmarkRelease(b *testing.B) {
	p := newPlace(b)
	l := p.ledger(b)
	g, err := vector()
	if err != nil {
		b.Fatal(err)
	}
	before := cpu(b)
	epoch := uint64(0)
	for b.Loop() {
		epoch += DefaultWindow
		if _, err := release(l, g, epoch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpu(b)-before)/1e6/float64(b.N), "cpu-ms/op")
}

// cpu returns the nanoseconds that the process has computed.
func cpu(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
