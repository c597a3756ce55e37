package privacy

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rawstone/agent/internal/flash"
	"rawstone/agent/internal/report"
	"rawstone/pkg/dp"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func timing() terms.Timing { return terms.Timing{DayS: 86400, DropS: 600} }

const today = 20_000

func gaussian(yearly uint16) *terms.Usage {
	return &terms.Usage{
		Families: wire.AllFamilies, EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 1000, Scale: []uint16{1, 1, 10, 1, 1}, YearlyDispatches: yearly,
	}
}

// config is of a purse in dir.
func config(dir string, u *terms.Usage) Config {
	return Config{Dir: filepath.Join(dir, "budget"), Anchor: filepath.Join(dir, "anchor"), Usage: u, Logger: slog.New(slog.DiscardHandler)}
}

func open(t *testing.T, cfg Config) *Purse {
	t.Helper()
	p, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func charge(t *testing.T, p *Purse, epochs ...uint64) {
	t.Helper()
	for _, e := range epochs {
		if _, err := p.Ledger().Charge(t.Context(), e, p.cost); err != nil {
			t.Fatal(err)
		}
	}
}

func state(t *testing.T, p *Purse) Statement { return stateOf(t, p, "accepted") }

func stateOf(t *testing.T, p *Purse, outcome string) Statement {
	t.Helper()
	s, err := p.Statement(timing(), today, func(day uint32) (string, string) {
		if day == today-7 {
			m, err := report.New(report.Config{Charter: &terms.Charter{Usage: *p.usage}})
			if err != nil {
				t.Fatal(err)
			}
			told, _ := m.Explain(timing(), day, nil)
			return strings.Replace(told, ": .", ": hours, speed.", 1), outcome
		}
		return "", ""
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func text(t *testing.T, s Statement) string {
	t.Helper()
	var b strings.Builder
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func wants(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%q is not in:\n%s", w, got)
		}
	}
}

func TestStatement(t *testing.T) {
	p := open(t, config(t.TempDir(), gaussian(3)))
	s := state(t, p)
	if s.Ledger != StateSound || s.Spent != 0 || s.LeftMilli != 1000 || s.Next != "2024-10-04" || s.Releases == nil || len(s.Releases) != 0 {
		t.Errorf("%+v", s)
	}
	wants(t, text(t, s), "0 of 3 reports; together epsilon = 0.00 at a total delta of 1e-06", "(a full year: 1.81;", "No usage report was made", "fits on 2024-10-04")
	charge(t, p, today-400, today-7, today-1)
	s = state(t, p)
	// The sum of two (1, 1e-6) releases and the limit of three, exact Gaussian differential privacy.
	if s.Ever != 3 || len(s.Releases) != 2 || s.Releases[0].Day != today-7 || s.LeftMilli != 333 || s.Spent < 1.4 || s.Spent > 1.5 || s.Limit < 1.8 || s.Limit > 1.85 || s.Next != "2024-10-04" {
		t.Errorf("%+v", s)
	}
	wants(t, text(t, s), "2024-09-27  1        1e-06  hours, speed        accepted\n", "2024-10-03  1        1e-06  not in the journal  \n", "2 of 3 reports", "The ledger is sound.")
	wants(t, text(t, stateOf(t, p, "")), "hours, speed        waits to be sent\n", "not in the journal  \n")
	wants(t, text(t, stateOf(t, p, "withdrawn, because you said so")), "hours, speed        withdrawn, because you said so\n")
	charge(t, p, today)
	s = state(t, p)
	if s.LeftMilli != 0 || s.Next != time.Unix((today-7+365)*86400, 0).UTC().Format(time.DateOnly) || p.Left(today) != 0 {
		t.Errorf("%+v", s)
	}
	if b, err := json.Marshal(s); err != nil || !strings.Contains(string(b), `"spent_epsilon":`) {
		t.Errorf("%s, %v", b, err)
	}
}

// TestPure: a categorical charter is told at a delta, and by the optimal composition.
func TestPure(t *testing.T) {
	u := &terms.Usage{
		Families: wire.FamilySpeed, EpsilonMicro: 250_000, Scale: []uint16{1, 1, 1, 1, 1}, YearlyDispatches: 52, Mechanism: terms.SubsetSelection,
	}
	p := open(t, config(t.TempDir(), u))
	charge(t, p, today-1)
	s := state(t, p)
	if s.Delta != 1e-6 || s.Spent <= 0.249 || s.Spent > 0.25 || s.Releases[0].Delta != 0 || s.Releases[0].Epsilon != 0.25 {
		t.Errorf("%+v", s)
	}
}

// TestUnsoundLedgers: what is wrong is said, claims are not touched, and the evidence stays.
func TestUnsoundLedgers(t *testing.T) {
	spend := func(t *testing.T) Config {
		cfg := config(t.TempDir(), gaussian(52))
		p, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		charge(t, p, today-7, today-1)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	for name, c := range map[string]struct {
		spoil func(*Config) error
		want  State
	}{
		"anchor gone":   {func(c *Config) error { return os.Remove(c.Anchor) }, StateCorrupt},
		"store gone":    {func(c *Config) error { return os.RemoveAll(c.Dir) }, StateCorrupt},
		"no directory":  {func(c *Config) error { c.Dir = c.Anchor; return nil }, StateShut},
		"no such TPM":   {func(c *Config) error { c.Counter = "tpm:///nowhere/tpmrm0?index=0x01810010"; return nil }, StateShut},
		"anchor locked": {func(c *Config) error { c.Anchor = filepath.Dir(c.Anchor); return nil }, StateShut},
	} {
		cfg := spend(t)
		if err := c.spoil(&cfg); err != nil {
			t.Fatal(err)
		}
		p := open(t, cfg)
		s := state(t, p)
		if s.Ledger != c.want || p.Ledger() != nil || s.LeftMilli != 0 || s.Next != "" || !strings.Contains(s.Problem, "claims go on") {
			t.Errorf("%s: %+v", name, s)
		}
		if got := text(t, s); strings.Contains(got, "sound") || strings.Contains(got, "No usage report") {
			t.Errorf("%s:\n%s", name, got)
		}
		wants(t, text(t, s), "Usage reports are off: ", "enrolled anew")
	}
	cfg := spend(t)
	p := open(t, cfg)
	if err := p.Ledger().Compare(9, [32]byte{1}); err == nil {
		t.Fatal("nine charges were accepted")
	}
	s := state(t, p)
	if s.Ledger != StateRolledBack || len(s.Releases) != 0 || s.AtLeast < 1.4 || s.Next != "" || p.Left(today) != 0 {
		t.Errorf("%+v", s)
	}
	wants(t, text(t, s), "an older copy than was seen before", "What was spent is not known: at least epsilon = 1.4")
}

// TestFullDisk: nothing is charged, as an ordinary error, until there is room; then the same epoch is.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	mount := t.TempDir()
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=64m"); err != nil {
		t.Skip("cannot mount a small file system: ", err)
	}
	t.Cleanup(func() { syscall.Unmount(mount, syscall.MNT_DETACH) })
	cfg := config(mount, gaussian(52))
	p, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	charge(t, p, today-7)
	filler := filepath.Join(mount, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<16); err == nil; {
		_, err = f.Write(block)
	}
	for range 3 {
		if _, err := p.Ledger().Charge(t.Context(), today, p.cost); !errors.Is(err, flash.ErrNoRoom) || p.State() != StateSound {
			t.Fatalf("a charge on a full disk: %v, %v", err, p.State())
		}
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	f.Close()
	charge(t, p, today)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if s := state(t, open(t, cfg)); s.Ever != 2 {
		t.Errorf("%+v", s)
	}
}

// TestErase: no file has a report, every charge is there, and nothing is left beside. A ledger that does not add up is no hindrance.
func TestErase(t *testing.T) {
	cfg := config(t.TempDir(), gaussian(52))
	if err := Erase(cfg.Dir, cfg.Logger); err != nil {
		t.Error(err)
	}
	p, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	permit, err := p.Ledger().Charge(t.Context(), today, p.cost)
	if err != nil {
		t.Fatal(err)
	}
	m, err := dp.NewGaussian(dp.Params{Epsilon: 1, Delta: 1e-6, Clip: 10, Coordinates: []dp.Coordinate{{Max: 10, Scale: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := permit.Release(m, []int64{1}); err != nil {
		t.Fatal(err)
	}
	mark := []byte("these bytes are of a report")
	if err := errors.Join(p.Ledger().Store(t.Context(), permit, mark), p.Close()); err != nil {
		t.Fatal(err)
	}
	found := func() (n int) {
		files, err := filepath.Glob(cfg.Dir + "*/*")
		if err != nil || len(files) < 3 {
			t.Fatal(files, err)
		}
		for _, f := range files {
			if b, err := os.ReadFile(f); err != nil || bytes.Contains(b, mark) {
				n++
			}
		}
		return n
	}
	if found() == 0 {
		t.Fatal("the test cannot see reports")
	}
	if err := os.Rename(cfg.Anchor, cfg.Anchor+".away"); err != nil {
		t.Fatal(err)
	}
	if err := Erase(cfg.Dir, cfg.Logger); err != nil || found() != 0 {
		t.Errorf("%d files have it, %v", found(), err)
	}
	if _, err := os.Stat(cfg.Dir + flash.BallastSuffix); err == nil {
		t.Error("a ballast is left")
	}
	if err := os.Rename(cfg.Anchor+".away", cfg.Anchor); err != nil {
		t.Fatal(err)
	}
	if s := state(t, open(t, cfg)); s.Ever != 1 || s.Ledger != StateSound {
		t.Errorf("%+v", s)
	}
}

func TestOpenRefuses(t *testing.T) {
	good := config(t.TempDir(), gaussian(52))
	for name, spoil := range map[string]func(*Config){
		"directory": func(c *Config) { c.Dir = "" }, "anchor": func(c *Config) { c.Anchor = "" }, "charter": func(c *Config) { c.Usage = nil },
		"logger": func(c *Config) { c.Logger = nil }, "no reports": func(c *Config) { c.Usage = gaussian(0) },
	} {
		c := good
		spoil(&c)
		if _, err := Open(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
