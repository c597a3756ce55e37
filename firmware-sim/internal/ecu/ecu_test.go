package ecu

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A rig is an ECU with a clock that the test sets.
type rig struct {
	*ECU
	dir string
	now time.Time

	signed []attest.Message

	mu   sync.Mutex
	got  []attest.Message
	send func() error
}

func (r *rig) config() Config {
	return Config{
		Dir: r.dir, Program: wire.Hash{1}, OverspeedMH: 120e3,
		Record: func(m attest.Message) error { r.signed = append(r.signed, m); return nil },
		Clock:  terms.Clock{Timing: terms.Timing{DayS: 60, DropS: 60}, Now: func() time.Time { return r.now }},
		Send: func(_ context.Context, b []byte) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.send != nil {
				if err := r.send(); err != nil {
					return err
				}
			}
			m, err := attest.DecodeMessage(b)
			if err != nil {
				return err
			}
			r.got = append(r.got, *m)
			return nil
		},
		Logger: slog.New(slog.DiscardHandler),
	}
}

func (r *rig) seqs() (s []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.got {
		s = append(s, m.Snapshot.Seq)
	}
	r.got = nil
	return s
}

// newRig returns an ECU born on day 100.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{dir: filepath.Join(t.TempDir(), "ecu"), now: time.Unix(6000, 0)}
	if _, err := Create(r.config()); err != nil {
		t.Fatal(err)
	}
	r.open(t)
	return r
}

func (r *rig) open(t *testing.T) {
	t.Helper()
	e, err := Open(r.config())
	if err != nil {
		t.Fatal(err)
	}
	r.ECU = e
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (r *rig) observe(t *testing.T, s Sample) {
	t.Helper()
	if err := r.Observe(s); err != nil {
		t.Fatal(err)
	}
}

// drive drives so many metres in one second.
func (r *rig) drive(t *testing.T, metres int64) {
	t.Helper()
	r.observe(t, odometer(0, 0))
	r.observe(t, odometer(time.Second, metres*1000))
}

func (r *rig) nextDay(t *testing.T) {
	t.Helper()
	r.now = r.now.Add(time.Minute)
	if err := r.Power(); err != nil {
		t.Fatal(err)
	}
}

func TestBirth(t *testing.T) {
	r := &rig{dir: filepath.Join(t.TempDir(), "deep", "ecu"), now: time.Unix(6000, 0)}
	id, err := Create(r.config())
	if err != nil {
		t.Fatal(err)
	}
	pub, err := id.Key.Key()
	if err != nil {
		t.Fatal(err)
	}
	if err := attest.Verify(pub, wire.Hash{1}, id.Snapshot); err != nil {
		t.Error(err)
	}
	if id.Snapshot.Seq != 0 || id.Snapshot.Day != 100 {
		t.Errorf("born with seq %d on day %d, want 0 on 100", id.Snapshot.Seq, id.Snapshot.Day)
	}
	truth := r.signed
	if len(truth) != 1 || truth[0].Opening.Counters != (wire.Counters{}) || claim.Commit(truth[0].Opening) != id.Snapshot.Commitment {
		t.Errorf("truth %+v does not open the birth snapshot", truth)
	}
	for name, want := range map[string]os.FileMode{keyFile: 0o600, stateFile: 0o600, ".": 0o700} {
		if info, err := os.Stat(filepath.Join(r.dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, error %v; want %v", name, info.Mode().Perm(), err, want)
		}
	}
	if _, err := Create(r.config()); err == nil || !strings.Contains(err.Error(), "holds one already") {
		t.Errorf("made a second ECU over the first: %v", err)
	}
	if again, err := ReadIdentity(r.dir, wire.Hash{1}); err != nil || *again != *id {
		t.Errorf("identity read back: %v, %v", again, err)
	}
}

func TestSnapshotADay(t *testing.T) {
	r := newRig(t)
	r.drive(t, 500)
	if got := r.Identity().Snapshot; got.Seq != 0 {
		t.Fatalf("signed again on the day of birth: seq %d", got.Seq)
	}
	for range 3 {
		r.nextDay(t)
		r.drive(t, 1000)
	}
	r.now = r.now.Add(5 * time.Minute)
	r.drive(t, 100) // the first sample of a day signs before it counts
	r.now = r.now.Add(-3 * time.Minute)
	r.drive(t, 10) // a clock corrected downwards: the sequence still rises
	var got [][3]uint64
	for _, s := range r.signed {
		got = append(got, [3]uint64{s.Snapshot.Seq, uint64(s.Snapshot.Day), uint64(s.Opening.Counters[wire.OdometerM])})
	}
	want := [][3]uint64{{0, 100, 0}, {1, 101, 500}, {2, 102, 1500}, {3, 103, 2500}, {4, 108, 3500}, {5, 105, 3600}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("seq, day and metres of the snapshots (-want +got):\n%s", d)
	}
	salts := make(map[wire.Salt]bool)
	for _, s := range r.signed {
		if salts[s.Opening.Salt] || s.Opening.Salt == (wire.Salt{}) {
			t.Error("a salt was used twice or is empty")
		}
		salts[s.Opening.Salt] = true
		if claim.Commit(s.Opening) != s.Snapshot.Commitment {
			t.Errorf("snapshot %d does not commit to its counters", s.Snapshot.Seq)
		}
	}
}

func TestRestartKeepsSeqAndCounters(t *testing.T) {
	r := newRig(t)
	r.nextDay(t)
	r.now = r.now.Add(2 * time.Second)
	r.observe(t, odometer(0, 0))
	r.observe(t, odometer(time.Second, 1_000_000))
	r.observe(t, odometer(time.Second, 1_234_567)) // too soon after the one before to be written down at once
	before, id := r.Counters(), r.Identity()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Power(); !errors.Is(err, errClosed) {
		t.Errorf("closed ECU: %v", err)
	}
	r.open(t)
	if got := r.Counters(); got != before || r.Identity() != id {
		t.Errorf("after restart %v, want %v", got, before)
	}
	r.observe(t, odometer(2*time.Second, 9_000_000)) // a new base
	r.observe(t, odometer(3*time.Second, 9_000_433)) // with what was left of a metre
	if got := r.Counters()[wire.OdometerM]; got != 1235 {
		t.Errorf("odometer %d m, want 1235", got)
	}
	r.nextDay(t)
	if got := r.Identity().Snapshot.Seq; got != 2 {
		t.Errorf("seq %d after restart, want 2", got)
	}
}

// TestCrash drops an ECU without closing it: what is on disk is no older than a second of driving.
func TestCrash(t *testing.T) {
	r := newRig(t)
	r.observe(t, odometer(0, 0))
	for i := range int64(40) {
		r.now = r.now.Add(100 * time.Millisecond)
		r.observe(t, odometer(time.Duration(i), (i+1)*1000))
	}
	s, err := readState(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Total.Counters[wire.OdometerM]; got < 30 || got > 40 {
		t.Errorf("%d of 40 m on disk", got)
	}
}

func TestSavesAtMostOnceASecond(t *testing.T) {
	r := newRig(t)
	r.observe(t, odometer(0, 0))
	var last []byte
	writes := 0
	for i := range int64(100) { // 10 s
		r.now = r.now.Add(100 * time.Millisecond)
		r.observe(t, odometer(time.Duration(i), (i+1)*1000))
		b, err := os.ReadFile(filepath.Join(r.dir, stateFile))
		if err != nil {
			t.Fatal(err)
		}
		if last != nil && !bytes.Equal(b, last) {
			writes++
		}
		last = b
	}
	if writes < 9 || writes > 10 {
		t.Errorf("%d writes in 10 s of driving", writes)
	}
}

func TestOpenRefuses(t *testing.T) {
	r := newRig(t)
	if _, err := Open(r.config()); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("second process: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	other := r.config()
	other.Program = wire.Hash{2}
	if _, err := Open(other); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("other program: %v", err)
	}
	missing := r.config()
	missing.Dir += "x"
	if _, err := Open(missing); err == nil || !strings.Contains(err.Error(), "ecu init") {
		t.Errorf("no directory: %v", err)
	}
	missing.Dir = t.TempDir()
	if _, err := Open(missing); err == nil || !strings.Contains(err.Error(), "ecu init") {
		t.Errorf("empty directory: %v", err)
	}
	stranger := &rig{dir: filepath.Join(t.TempDir(), "ecu"), now: r.now}
	if _, err := Create(stranger.config()); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(stranger.dir, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, keyFile), key, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(r.config()); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Errorf("another key: %v", err)
	}
	for name, alter := range map[string]func(*Config){
		"no directory": func(c *Config) { c.Dir = "" },
		"no program":   func(c *Config) { c.Program = wire.Hash{} },
		"no clock":     func(c *Config) { c.Clock = terms.Clock{} },
		"no limit":     func(c *Config) { c.OverspeedMH = 0 },
		"no sender":    func(c *Config) { c.Send = nil },
	} {
		c := stranger.config()
		alter(&c)
		if _, err := Open(c); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

// TestSnapshotIsOnDiskBeforeItIsSent breaks the disk: nothing may be handed out that a restart would not know.
func TestSnapshotIsOnDiskBeforeItIsSent(t *testing.T) {
	r := newRig(t)
	if err := os.Mkdir(filepath.Join(r.dir, stateFile+".tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.now = r.now.Add(time.Minute)
	if err := r.Power(); err == nil {
		t.Fatal("signed without a disk")
	}
	if r.Identity().Snapshot.Seq != 0 || len(r.take()) != 0 {
		t.Error("a snapshot that is not on disk is handed out")
	}
	if err := os.Remove(filepath.Join(r.dir, stateFile+".tmp")); err != nil {
		t.Fatal(err)
	}
	if err := r.Power(); err != nil {
		t.Fatal(err)
	}
	// The one that was never handed out stands in the record too, before the one that was.
	if n := len(r.signed); n != 3 || r.signed[2].Snapshot != r.Identity().Snapshot || r.signed[2].Snapshot.Seq != 1 || r.signed[1].Snapshot.Seq != 1 {
		t.Errorf("record of %d snapshots does not end with the one that was handed out", n)
	}
}

func TestMetricsRegisterOnce(t *testing.T) {
	r := &rig{dir: filepath.Join(t.TempDir(), "ecu"), now: time.Unix(6000, 0)}
	if _, err := Create(r.config()); err != nil {
		t.Fatal(err)
	}
	cfg := r.config()
	cfg.Registerer = prometheus.NewRegistry()
	e, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg); err == nil {
		t.Error("registered the same metrics twice")
	}
}
