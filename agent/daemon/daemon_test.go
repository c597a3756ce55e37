package daemon

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/agent/internal/budget"
	"rawstone/agent/internal/flash"
	"rawstone/agent/internal/journal"
	"rawstone/agent/internal/report"
	"rawstone/agent/internal/trip"
	"rawstone/agent/internal/vss"
	"rawstone/pkg/wire"
)

func TestRunRefuses(t *testing.T) {
	w := newWorld(t, wire.Development)
	other := newWorld(t, wire.Development)
	for name, c := range map[string]struct {
		spoil func(*Config)
		want  string
	}{
		"no root":              {func(c *Config) { c.Program.Root += "x" }, "cannot read program root: open " + w.path("root.pubx")},
		"no program":           {func(c *Config) { c.Program.File += "x" }, "cannot read document: open " + w.path("program.cosex")},
		"no charter":           {func(c *Config) { c.Program.Charter += "x" }, "cannot read document: open " + w.path("charter.cosex")},
		"no collector's roots": {func(c *Config) { c.CollectorCA = w.path("ca.pem") }, "cannot read the collector's roots: open " + w.path("ca.pem")},
		"no root in roots":     {func(c *Config) { c.CollectorCA = w.path("root.pub") }, "there is no certificate in it"},
		"collector over http":  {func(c *Config) { c.CollectorURL = "http://127.0.0.1:1" }, "is not https://HOST:PORT"},
		"no identity":          {func(c *Config) { c.ECU.Identity += "x" }, "cannot read document: open " + w.path("ecu.pemx")},
		"no vehicle map":       {func(c *Config) { c.VehicleMap += "x" }, w.path("car.yamlx")},
		"map for another bus":  {func(c *Config) { c.Buses[0].Name, c.ECU.Bus = "can1", "can1" }, w.path("car.yaml")},
		"no device key":        {func(c *Config) { c.DeviceKey += "x" }, "device.keyx: no such file or directory; run agent enroll"},
		"other root":           {func(c *Config) { c.Program.Root = other.path("root.pub") }, "cannot use program document " + w.path("program.cose")},
		"other charter":        {func(c *Config) { c.Program.Charter = other.path("charter.cose") }, "cannot use charter"},
		"other ECU":            {func(c *Config) { c.ECU.Identity = other.path("ecu.pem") }, "it belongs to another program"},
		"not an identity":      {func(c *Config) { c.ECU.Identity = c.Program.File }, "cannot use ECU identity " + w.path("program.cose")},
		"another environment":  {func(c *Config) { c.Environment = wire.Production }, "it is for development and the configuration says production"},
	} {
		cfg := w.load()
		c.spoil(cfg)
		if err := Run(t.Context(), cfg, w.deps()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if err := Run(t.Context(), w.load(), Deps{}); err == nil {
		t.Error("ran without a logger")
	}
}

func TestProductionRefusesDevelopmentKeys(t *testing.T) {
	w := newWorld(t, wire.Production)
	w.fetched()
	a := w.opened("environment: development", "environment: production")
	a.hear(w.notice)
	s := a.snapshot()
	if len(s.Policies) != 1 || !strings.Contains(s.Policies[0].Unused, "its keys are from a development setup, which production refuses") {
		t.Errorf("%+v", s)
	}
}

// opened opens the agent as Run does, closed when the test ends.
func (w *world) opened(oldnew ...string) *agent {
	w.t.Helper()
	a := &agent{cfg: w.load(oldnew...), deps: w.deps(), metrics: prometheus.NewRegistry()}
	w.t.Cleanup(func() {
		if err := a.close(); err != nil {
			w.t.Error(err)
		}
	})
	if err := a.open(); err != nil {
		w.t.Fatal(err)
	}
	return a
}

// seal delivers a notice and the ECU's first messages and lets the sealer run until it has sealed a claim.
func (w *world) seal(a *agent) {
	w.t.Helper()
	a.hear(w.notice)
	for n := range uint32(3) {
		w.setDay(firstDay + n)
		if err := a.sealer.Deliver(w.t.Context(), must(w.message(n).Encode())); err != nil {
			w.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- a.sealer.Run(ctx) }()
	limit := time.After(5 * time.Minute)
	for len(a.spool.IDs(wire.KindClaim)) == 0 {
		select {
		case <-a.spool.Changed():
		case <-limit:
			w.t.Fatal("no claim was sealed")
		}
	}
	cancel()
	if err := <-done; err != nil {
		w.t.Error(err)
	}
}

// charge writes a ledger with two charges, as two weeks of reports leave it.
func (w *world) charge() {
	w.t.Helper()
	db := must(flash.Open(flash.Config{Dir: w.path("state/budget"), Logger: slog.New(slog.DiscardHandler)}))
	l := must(budget.New(budget.Config{DB: db, Anchor: w.path("state/budget.anchor"), Limit: must(budget.YearLimit(report.Cost(&w.usage), 52))}))
	for _, epoch := range []uint64{firstDay - 14, firstDay - 7} {
		if _, err := l.Charge(w.t.Context(), epoch, report.Cost(&w.usage)); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		w.t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// evidence returns the files of the ledger that opening its store does not write.
func (w *world) evidence() map[string]string {
	w.t.Helper()
	m := make(map[string]string)
	for _, pattern := range []string{"state/budget.anchor", "state/budget.old/*", "state/budget/MANIFEST", "state/x"} {
		for _, path := range must(filepath.Glob(w.path(pattern))) {
			if must(os.Stat(path)).Mode().IsRegular() {
				m[path] = string(must(os.ReadFile(path)))
			}
		}
	}
	return m
}

// TestCorruptBudgetStopsReportsAndNotClaims damages the ledger's files as worn flash or a clumsy hand would.
func TestCorruptBudgetStopsReportsAndNotClaims(t *testing.T) {
	flip := func(path string, at ...int) {
		b := must(os.ReadFile(path))
		for _, i := range at {
			b[i] ^= 0x10
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		damage func(w *world)
		want   string
	}{
		"anchor damaged":          {func(w *world) { flip(w.path("state/budget.anchor"), 3, 4096+3, 2*4096+3, 3*4096+3) }, "off: the privacy budget ledger is corrupt,"},
		"store set aside":         {func(w *world) { w.rename("state/budget", "state/budget.old") }, "off: the privacy budget ledger is corrupt,"},
		"manifest damaged":        {func(w *world) { flip(w.path("state/budget/MANIFEST"), 0) }, "off: the privacy budget ledger does not open;"},
		"anchor cannot be opened": {func(w *world) { w.rename("state/budget.anchor", "state/x"); w.mkdir("state/budget.anchor") }, "off: the privacy budget ledger does not open;"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, wire.Development)
			w.decide("hours", "speed")
			w.charge()
			w.fetched()
			c.damage(w)
			before := w.evidence()
			a := w.opened()
			s := a.snapshot()
			if !strings.HasPrefix(s.Reports, c.want) || !strings.Contains(s.Reports, "claims go on") || !strings.Contains(s.Reports, "enrolled anew") || s.BudgetLeft != 0 {
				t.Errorf("reports: %q, budget %d", s.Reports, s.BudgetLeft)
			}
			w.seal(a)
			if n := len(a.spool.IDs(wire.KindReport)); n != 0 {
				t.Errorf("%d reports", n)
			}
			if lines := w.log.lines("usage reports are off"); len(lines) != 1 || !strings.Contains(lines[0], "level=ERROR") {
				t.Errorf("logged %q", lines)
			}
			for path, want := range before {
				if d := cmp.Diff(want, string(must(os.ReadFile(path)))); d != "" {
					t.Errorf("%s was changed: %s", path, d)
				}
			}
		})
	}
}

// TestSoundBudgetReports is the control: the same car with its ledger whole.
func TestSoundBudgetReports(t *testing.T) {
	w := newWorld(t, wire.Development)
	w.charge()
	w.fetched()
	w.decide("hours", "speed")
	a := w.opened()
	if s := a.snapshot(); s.Reports != "on" || s.BudgetLeft != 961 { // 50 of 52 releases
		t.Errorf("%+v", s)
	}
	for second := range int64(60) {
		a.recorder.Observe(vss.Sample{Signal: 1, Time: second * int64(time.Second), Value: 60_000, Available: true}) // the map's speed
	}
	if u := a.recorder.Usage(); cmp.Equal(u.Hours, trip.Usage{}.Hours) {
		t.Errorf("the driver consented to hours, and none are recorded: %+v", u)
	}
	w.seal(a)
	if lines := w.log.lines("level=ERROR"); len(lines) != 0 {
		t.Errorf("logged %q", lines)
	}
}

// TestDisagreementIsTold drives a car whose attested counter grows by 10 km a day: the driver's journal and status tell when the car's
// own signals say otherwise, and only then.
func TestDisagreementIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		metres int64 // a day by the car's own counter
		notes  int
	}{"agreed": {10_000, 0}, "half of it": {5_000, 2}, "coarse": {9_000, 0}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, wire.Development)
			a := w.opened()
			deliver := func(day uint32) {
				w.setDay(firstDay + day)
				if err := a.sealer.Deliver(t.Context(), must(w.message(day).Encode())); err != nil {
					t.Fatal(err)
				}
			}
			counter, at := int64(1000), int64(1_700_000_000)
			drive := func(metres int64) {
				for end := counter + metres; counter < end; counter, at = counter+20, at+1 {
					a.recorder.Observe(vss.Sample{Time: at * int64(time.Second), Value: counter * 1000, Available: true})
				}
			}
			drive(20)
			deliver(0)
			for day := range uint32(2) {
				drive(c.metres)
				deliver(day + 1)
			}
			var notes []journal.Entry
			for _, e := range must(a.journal.List(0)) {
				if e.Kind == journal.KindNote {
					notes = append(notes, e)
				}
			}
			if len(notes) != c.notes {
				t.Errorf("%d notes, want %d: %v", len(notes), c.notes, notes)
			}
			doubts := a.snapshot().Odometer
			if told := len(doubts) == 1 && doubts[0].Event == "attestation" && doubts[0].Count == 2; told != (c.notes > 0) {
				t.Errorf("the driver is shown %v", doubts)
			}
		})
	}
}

// TestLateSnapshotIsNotCompared holds that the answer to a request, which tells of an earlier moment, raises no false alarm.
func TestLateSnapshotIsNotCompared(t *testing.T) {
	w := newWorld(t, wire.Development)
	a := w.opened()
	observe := func(second, metres int64) {
		a.recorder.Observe(vss.Sample{Time: second * int64(time.Second), Value: metres * 1000, Available: true})
	}
	first, second := w.message(0), w.message(1)
	observe(1000, 1000)
	a.compare(&first, true) // an answer too, but the car has not moved since the agent started
	for i := range int64(1000) {
		observe(1001+i, 1020+20*i)
	}
	second.Opening.Counters[wire.OdometerM] = 0 // signed before the drive
	a.compare(&second, true)
	if list := must(a.journal.List(0)); len(list) != 0 {
		t.Errorf("noted %v", list)
	}
	a.compare(&second, false) // the control
	if list := must(a.journal.List(0)); len(list) != 1 {
		t.Errorf("noted %v", list)
	}
}

func (w *world) rename(from, to string) {
	if err := os.Rename(w.path(from), w.path(to)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) mkdir(name string) {
	if err := os.Mkdir(w.path(name), 0o700); err != nil {
		w.t.Fatal(err)
	}
}
