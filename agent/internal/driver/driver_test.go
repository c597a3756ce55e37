package driver

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rawstone/agent/internal/budget"
	"rawstone/agent/internal/consent"
	"rawstone/agent/internal/flash"
	"rawstone/agent/internal/journal"
	"rawstone/agent/internal/privacy"
	"rawstone/agent/internal/report"
	"rawstone/agent/internal/trip"
	"rawstone/agent/internal/vss"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const today = 20_000

func stopped(dir string) Stopped {
	log := slog.New(slog.DiscardHandler)
	charter := &terms.Charter{
		Kinds: []string{terms.KindMileage, terms.KindSafe},
		Usage: terms.Usage{Families: wire.AllFamilies, EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 1000, Scale: []uint16{1, 1, 10, 1, 1}, YearlyDispatches: 52},
	}
	return Stopped{
		StateDir: filepath.Join(dir, "state"), UsageKey: filepath.Join(dir, "state.key"), Charter: charter, Logger: log,
		Clock:  terms.Clock{Timing: terms.Timing{DayS: 86400, DropS: 600}, Now: func() time.Time { return time.Unix(today*86400+3600, 0) }},
		Budget: privacy.Config{Dir: filepath.Join(dir, "budget"), Anchor: filepath.Join(dir, "anchor"), Usage: &charter.Usage, Logger: log},
	}
}

// at has f work at the desk of a car whose agent does not run.
func at(t *testing.T, s Stopped, f func(*Desk)) {
	t.Helper()
	d, c, err := Open(s)
	if err != nil {
		t.Fatal(err)
	}
	f(d)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func notes(t *testing.T, d *Desk) (list []string) {
	t.Helper()
	entries, err := d.cfg.Journal.List(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Kind == journal.KindNote {
			list = append(list, e.Contents)
		}
	}
	return list
}

// TestStoppedAgent: decisions last, are noted once, and the stores are held meanwhile and free afterwards.
func TestStoppedAgent(t *testing.T) {
	s := stopped(t.TempDir())
	at(t, s, func(d *Desk) {
		if v, err := d.Turn(t.Context(), "hours", true); err != nil || !v.Families[0].On {
			t.Errorf("%+v, %v", v, err)
		}
		for range 2 {
			if v, err := d.SetCadence(t.Context(), "monthly"); err != nil || v.ClaimDays != 30 {
				t.Errorf("%+v, %v", v, err)
			}
		}
		if _, err := d.Turn(t.Context(), "position", true); err == nil {
			t.Error("position was turned on")
		}
		if _, _, err := Open(s); err == nil || !strings.Contains(err.Error(), "try again in a moment") {
			t.Errorf("two at one store: %v", err)
		}
		if _, err := os.Stat(s.Budget.Anchor); err == nil {
			t.Error("the privacy budget was opened for a decision")
		}
	})
	at(t, s, func(d *Desk) {
		v, err := d.Consent(t.Context())
		if err != nil || !v.Families[0].On || v.Families[1].On || v.Cadence != consent.Monthly {
			t.Errorf("%+v, %v", v, err)
		}
		if _, err := d.Turn(t.Context(), "hours", false); err != nil {
			t.Error(err)
		}
		want := []string{
			"You turned off hours, so that this is told no more: minutes in use in each hour of the day.", "You set the cadence to monthly.",
			"You turned on hours: minutes in use in each hour of the day.",
		}
		if d := cmp.Diff(want, notes(t, d)); d != "" {
			t.Error(d)
		}
	})
}

// TestStoppedAgentForgets: what was recorded of a family is gone when the command returns, though no agent runs; the others stay.
func TestStoppedAgentForgets(t *testing.T) {
	s := stopped(t.TempDir())
	at(t, s, func(d *Desk) {
		for _, name := range []string{"hours", "speed"} {
			if _, err := d.Turn(t.Context(), name, true); err != nil {
				t.Fatal(err)
			}
		}
	})
	recorded := func(f wire.Family, drive bool) trip.Usage {
		db, _, err := flash.OpenStore(flash.StoreConfig{Dir: s.StateDir, Logger: s.Logger})
		if err != nil {
			t.Fatal(err)
		}
		signals := []vss.Signal{{Role: vss.Speed}}
		r, err := trip.Open(trip.Config{DB: db, KeyFile: s.UsageKey, Logger: s.Logger, Now: time.Now, Signals: signals, Families: f})
		if err != nil {
			t.Fatal(err)
		}
		for i := range int64(100) {
			if drive {
				r.Observe(vss.Sample{Time: (i + 1) * int64(time.Second), Value: 20_000, Available: true})
			}
		}
		if err := errors.Join(r.Close(), db.Close()); err != nil {
			t.Fatal(err)
		}
		return r.Usage()
	}
	both := wire.FamilyHours | wire.FamilySpeed
	before := recorded(both, true)
	if before.Hours == (trip.Usage{}.Hours) || before.Speed == (trip.Usage{}.Speed) {
		t.Fatalf("%+v", before)
	}
	at(t, s, func(d *Desk) {
		if _, err := d.Turn(t.Context(), "speed", false); err != nil {
			t.Fatal(err)
		}
	})
	// As if it were on again: only what is really gone stays away.
	if after := recorded(both, false); after.Hours != before.Hours || after.Speed != (trip.Usage{}.Speed) {
		t.Errorf("%+v", after)
	}
}

// TestPrivacy: what a release told is found in the journal by its day, and told by the ledger where the journal has nothing.
func TestPrivacy(t *testing.T) {
	s := stopped(t.TempDir())
	p, err := privacy.Open(s.Budget)
	if err != nil {
		t.Fatal(err)
	}
	for _, epoch := range []uint64{today - 70, today - 7} {
		if _, err := p.Ledger().Charge(t.Context(), epoch, usageCost(s)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	at(t, s, func(d *Desk) {
		j := d.cfg.Journal.(*journal.Journal)
		if err := j.Begin(wire.ID(nil), time.Unix(today*86400, 0), wire.KindReport, 512, "Usage of the dispatch before "+s.Clock.Date(today-7)+" under noise: hours.", ""); err != nil {
			t.Fatal(err)
		}
		if err := j.End(wire.ID(nil), time.Unix(today*86400, 0), "withdrawn"); err != nil {
			t.Fatal(err)
		}
		if err := j.Note(time.Unix(today*86400, 0), "Something about "+s.Clock.Date(today-70)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			st, err := d.Privacy(t.Context())
			if err != nil || st.Ever != 2 || len(st.Releases) != 2 || st.Releases[0].Told != "" || !strings.Contains(st.Releases[1].Told, "hours") || st.Releases[1].Outcome != "withdrawn" {
				t.Errorf("%+v, %v", st, err)
			}
		}
	})
}

// TestRunningAgent: the rooms that run follow what holds, also where it could not be written, and nothing else.
func TestRunningAgent(t *testing.T) {
	dir := t.TempDir()
	s := stopped(dir)
	db, _, err := flash.OpenStore(flash.StoreConfig{Dir: s.StateDir, Logger: s.Logger})
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(journal.Config{DB: db, Logger: s.Logger})
	if err != nil {
		t.Fatal(err)
	}
	c, err := consent.Open(consent.Config{DB: db, Charter: s.Charter, Logger: s.Logger})
	if err != nil {
		t.Fatal(err)
	}
	var applied []consent.Choice
	var fail error
	cfg := Config{Consent: c, Journal: j, Clock: s.Clock, Purse: func() (*privacy.Purse, error) { return nil, errors.New("no purse") }, Apply: func(is consent.Choice) error {
		applied = append(applied, is)
		return fail
	}}
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := d.Turn(t.Context(), terms.KindSafe, true); err != nil {
			t.Error(err)
		}
	}
	if _, err := d.Turn(t.Context(), "speed", true); err != nil {
		t.Error(err)
	}
	fail = errors.New("the recorder is gone")
	if _, err := d.SetCadence(t.Context(), "daily"); !errors.Is(err, fail) {
		t.Error(err)
	}
	fail = nil
	safe := []string{terms.KindSafe}
	want := []consent.Choice{{Kinds: safe, Cadence: consent.Weekly}, {Families: wire.FamilySpeed, Kinds: safe, Cadence: consent.Weekly}, {Families: wire.FamilySpeed, Kinds: safe, Cadence: consent.Daily}}
	if d := cmp.Diff(want, applied); d != "" {
		t.Error(d)
	}
	if _, err := d.Privacy(t.Context()); err == nil {
		t.Error("told of a purse that is not there")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	applied = nil
	if _, err := d.Turn(t.Context(), "speed", false); err == nil || len(applied) != 1 || applied[0].Families != 0 {
		t.Errorf("a decision that could not be kept: %v, applied %+v", err, applied)
	}
	for i, bad := range []Config{{}, {Consent: c, Journal: j, Clock: s.Clock}, {Consent: c, Clock: s.Clock, Purse: cfg.Purse}} {
		if _, err := New(bad); err == nil {
			t.Errorf("config %d was accepted", i)
		}
	}
}

// TestDamagedStore: as when an agent starts, it is set aside, which the journal says; everything is off.
func TestDamagedStore(t *testing.T) {
	s := stopped(t.TempDir())
	at(t, s, func(d *Desk) {
		if _, err := d.Turn(t.Context(), "hours", true); err != nil {
			t.Fatal(err)
		}
	})
	if err := os.WriteFile(filepath.Join(s.StateDir, "MANIFEST"), bytes.Repeat([]byte("x"), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	at(t, s, func(d *Desk) {
		v, err := d.Consent(t.Context())
		if err != nil || v.Families[0].On {
			t.Errorf("%+v, %v", v, err)
		}
		if list := notes(t, d); len(list) != 1 || !strings.Contains(list[0], "set aside") {
			t.Errorf("noted %q", list)
		}
	})
}

func usageCost(s Stopped) budget.Cost { return report.Cost(&s.Charter.Usage) }
