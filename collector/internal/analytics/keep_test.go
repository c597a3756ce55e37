package analytics

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/wire"
)

// kept is a shelf with reports and the config of an estimator that keeps what it has pooled in a directory.
func kept(t *testing.T, n int) (*shelf, Config, *bytes.Buffer) {
	t.Helper()
	rng := rand.New(rand.NewPCG(9, 9))
	s := &shelf{}
	for range n {
		v := make([]int64, wire.VectorLen)
		for i := range v {
			v[i] = 100 + rng.Int64N(200)
		}
		s.reports = append(s.reports, stored{today - rng.Uint32N(30), wire.AllFamilies, v, []string{"", "A", "B"}[rng.IntN(3)]})
	}
	log := &bytes.Buffer{}
	cfg := config(s, usage(1))
	cfg.Dir, cfg.Logger = t.TempDir(), slog.New(slog.NewTextHandler(log, nil))
	return s, cfg, log
}

func file(t *testing.T, cfg Config) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(cfg.Dir, "*"))
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, %v: want one file", all, err)
	}
	return all[0]
}

// TestRestart: what was saved is not read again, and what came since is.
func TestRestart(t *testing.T) {
	s, cfg, log := kept(t, 3000)
	first := estimator(t, cfg)
	want := estimate(t, first, 0, today)
	if err := first.Save(); err != nil {
		t.Fatal(err)
	}
	if i, err := os.Stat(file(t, cfg)); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: want mode 0600", i, err)
	}
	s.read = 0
	again := estimator(t, cfg)
	if d := cmp.Diff(want, estimate(t, again, 0, today)); d != "" {
		t.Error(d)
	}
	if s.read != 1 {
		t.Errorf("%d reports were read, want the last alone", s.read)
	}
	s.reports = append(s.reports, stored{today, wire.AllFamilies, flat(150), "C"})
	if got := estimate(t, again, 0, today)[0].N; got != 3001 {
		t.Errorf("n = %d, want 3001", got)
	}
	if d := cmp.Diff([]string{"B"}, again.Models()); d != "" { // A has 994, C one
		t.Error(d)
	}
	if log.Len() != 0 {
		t.Errorf("said %s", log)
	}
	// Who is frozen leaves the file as it is.
	cfg.Frozen = true
	before, err := os.ReadFile(file(t, cfg))
	if err != nil {
		t.Fatal(err)
	}
	frozen := estimator(t, cfg)
	if got := estimate(t, frozen, 0, today)[0].N; got != 3001 {
		t.Errorf("n = %d, want 3001", got)
	}
	if err := frozen.Save(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(file(t, cfg)); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file changed (%v)", err)
	}
}

// TestUselessFileIsMadeAnew: what is damaged, of another charter, or of other records than there are now, is never counted.
func TestUselessFileIsMadeAnew(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*testing.T, *shelf, string)
		says  string
	}{
		"flipped bit": {func(t *testing.T, _ *shelf, path string) {
			change(t, path, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		}, "it is damaged"},
		"cut off": {func(t *testing.T, _ *shelf, path string) {
			change(t, path, func(b []byte) []byte { return b[:len(b)-1] })
		}, "it is damaged"},
		"empty": {func(t *testing.T, _ *shelf, path string) { change(t, path, func([]byte) []byte { return nil }) }, "it is damaged"},
		"records of before": {func(_ *testing.T, s *shelf, _ string) {
			s.reports = s.reports[:2000] // a backup was restored
		}, "the records are not those that were read before"},
		"records of before, grown since": {func(_ *testing.T, s *shelf, _ string) {
			s.reports = append(s.reports[:2000], s.reports[:1500]...)
			s.salt = 1
		}, "the records are not those that were read before"},
	} {
		t.Run(name, func(t *testing.T) {
			s, cfg, log := kept(t, 3000)
			first := estimator(t, cfg)
			estimate(t, first, 0, today)
			if err := first.Save(); err != nil {
				t.Fatal(err)
			}
			c.spoil(t, s, file(t, cfg))
			fresh := cfg
			fresh.Dir = ""
			want := estimate(t, estimator(t, fresh), 0, today)
			if d := cmp.Diff(want, estimate(t, estimator(t, cfg), 0, today)); d != "" {
				t.Error(d)
			}
			if !strings.Contains(log.String(), c.says) {
				t.Errorf("the log does not say %q: %s", c.says, log)
			}
		})
	}
}

func change(t *testing.T, path string, with func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, with(b), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestWrongClockLosesNothing: reports that were passed over or forgotten while the clock was wrong count once it is right.
func TestWrongClockLosesNothing(t *testing.T) {
	for name, wrong := range map[string]uint32{"behind": today - 300, "ahead": today + 5000} {
		t.Run(name, func(t *testing.T) {
			_, cfg, log := kept(t, 2000)
			now := uint32(today)
			cfg.Today = func() uint32 { return now }
			e := estimator(t, cfg)
			want := estimate(t, e, 0, today)
			now = wrong
			if got := estimate(t, e, 0, today); got[0].N != 0 && name == "ahead" {
				t.Errorf("n = %d after the retention", got[0].N)
			}
			if err := e.Save(); err != nil {
				t.Fatal(err)
			}
			e = estimator(t, cfg)
			estimate(t, e, 0, today)
			now = today
			if d := cmp.Diff(want, estimate(t, e, 0, today)); d != "" {
				t.Error(d)
			}
			if !strings.Contains(log.String(), "the clock was corrected") {
				t.Error("nothing is said")
			}
		})
	}
}

// TestManyBatches reads more than fit one batch, of which a late one fails: what was merged before it stays.
func TestManyBatches(t *testing.T) {
	s, cfg, _ := kept(t, batch+5)
	s.broken = os.ErrDeadlineExceeded // at the last report
	e := estimator(t, cfg)
	if err := e.Refresh(t.Context()); err == nil {
		t.Fatal("no error")
	}
	if n := ask(t, e, Query{Window: Window{From: 0, To: today}})[0].Families[0].N; n != batch {
		t.Errorf("n = %d, want %d", n, batch)
	}
	s.broken = nil
	if n := estimate(t, e, 0, today)[0].N; n != batch+5 {
		t.Errorf("n = %d, want %d", n, batch+5)
	}
}

// TestErasedReportsLeave: the day after a person's reports were erased they are in no estimate and in no file, also after a restart.
func TestErasedReportsLeave(t *testing.T) {
	for _, restart := range []bool{false, true} {
		s, cfg, log := kept(t, 3000)
		now := uint32(today)
		cfg.Today = func() uint32 { return now }
		e := estimator(t, cfg)
		estimate(t, e, 0, today)
		if err := e.Save(); err != nil {
			t.Fatal(err)
		}
		s.gone, s.erased = map[int]bool{5: true, 700: true}, 1
		if n := estimate(t, e, 0, today)[0].N; n != 3000 {
			t.Errorf("n = %d on the same day, want 3000", n)
		}
		now++
		if restart {
			e = estimator(t, cfg)
		}
		got := estimate(t, e, 0, today)
		fresh := cfg
		fresh.Dir = ""
		if d := cmp.Diff(estimate(t, estimator(t, fresh), 0, today), got); d != "" || got[0].N != 2998 {
			t.Errorf("n = %d: %s", got[0].N, d)
		}
		cfg.Frozen = true
		s.read = 0
		if n := estimate(t, estimator(t, cfg), 0, today)[0].N; n != 2998 || s.read != 1 {
			t.Errorf("n = %d from the file, %d read", n, s.read)
		}
		if n := strings.Count(log.String(), "persons' reports were erased"); n != 1 {
			t.Errorf("said %d times", n)
		}
	}
}
