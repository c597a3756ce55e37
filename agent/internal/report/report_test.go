package report

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"log/slog"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"rawstone/agent/internal/budget"
	"rawstone/agent/internal/flash"
	"rawstone/pkg/dp"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func charter() *terms.Charter {
	return &terms.Charter{Version: wire.Version, Program: wire.ID([]byte("program")), Serial: 1, Kinds: []string{terms.KindMileage}, TierRatioMilli: 1200,
		Usage: terms.Usage{Families: wire.AllFamilies, EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 1000, Scale: []uint16{1, 1, 10, 1, 1}, YearlyDispatches: 52}}
}

func TestMechanismFollowsTheCharter(t *testing.T) {
	u := charter().Usage
	g := must(gaussian(&u))
	if g.Dim() != wire.VectorLen || g.Epsilon() != 1 || g.Delta() != 1e-6 {
		t.Errorf("dim %d, epsilon %v, delta %v", g.Dim(), g.Epsilon(), g.Delta())
	}
	for _, l := range wire.Layouts() {
		want := int64(1)
		if l.Name == "trips" {
			want = 10
		}
		for i := range l.Len {
			if g.Scale(l.Offset+i) != want {
				t.Errorf("%s: scale %d, want %d", l.Name, g.Scale(l.Offset+i), want)
			}
		}
	}
	x := make([]int64, wire.VectorLen)
	x[34], x[0] = 5, 300 // five trips of ten units, 300 minutes
	if y := must(g.Clip(x)); y[34] != 50 || y[0] != 300 {
		t.Errorf("scaled to %d and %d", y[34], y[0])
	}
}

func TestOnlyConsentedFamiliesAreCounted(t *testing.T) {
	var all [wire.VectorLen]int64
	for i := range all {
		all[i] = int64(i + 1)
	}
	got := consented(all, wire.FamilySpeed|wire.FamilyFeature)
	for _, l := range wire.Layouts() {
		for i := l.Offset; i < l.Offset+l.Len; i++ {
			want := int64(0)
			if l.Name == "speed" || l.Name == "feature" {
				want = all[i]
			}
			if got[i] != want {
				t.Errorf("%s: value %d is %d, want %d", l.Name, i, got[i], want)
			}
		}
	}
	c := config(t, &usage{})
	c.Families = allow(wire.AllFamilies)
	c.Charter.Usage.Families = wire.FamilyHours
	if f := must(New(c)).Families(); f != wire.FamilyHours {
		t.Errorf("families %v: the charter does not bound consent", f)
	}
}

// TestNothingLeavesWithoutConsent draws so often that the mean of the noise would show what it hides.
func TestNothingLeavesWithoutConsent(t *testing.T) {
	const draws = 150
	layouts := wire.Layouts()
	hours, speed := layouts[0].Offset, layouts[1].Offset
	u := &usage{}
	u.totals[hours], u.totals[speed] = 700, 700
	c := config(t, u)
	c.Families = allow(layouts[0].Family)
	c.Charter.Usage.EpsilonMicro, c.Charter.Usage.DeltaPico = 10_000_000, 10_000_000
	c.Budget = open(t, must(budget.YearLimit(Cost(&c.Charter.Usage), draws)))
	m := must(New(c))
	device := must(wire.NewPublicKey(c.Device.Public()))
	var sums [wire.VectorLen]int64
	for epoch := range uint32(draws) {
		sealed, lost, err := m.Make(t.Context(), epoch, u)
		if lost != nil || err != nil {
			t.Fatal(lost, err)
		}
		for i, v := range must(wire.OpenReport(device, "CAR1", sealed)).Values() {
			sums[i] += v
		}
	}
	// Half of 700 is more than 6 standard errors from either.
	if err := m.mechanism.Mechanism.(*dp.Gaussian).Sigma() / math.Sqrt(draws); 350 < 6*err {
		t.Fatalf("a standard error of %v says nothing", err)
	}
	if mean := sums[hours] / draws; mean < 350 {
		t.Errorf("mean %d of what was allowed, want about 700", mean)
	}
	if mean := sums[speed] / draws; mean > 350 {
		t.Errorf("mean %d of what was not allowed, want about 0", mean)
	}
}

// usage holds one week; broken says that flash does not take its consumption.
type usage struct {
	totals [wire.VectorLen]int64
	taken  int
	broken error
}

func (u *usage) Take(context.Context) ([wire.VectorLen]int64, func(context.Context) error, error) {
	return u.totals, func(context.Context) error {
		if u.broken == nil {
			u.taken++
		}
		return u.broken
	}, nil
}

// allow is a driver who does not change their mind.
func allow(f wire.Family) func() wire.Family { return func() wire.Family { return f } }

func config(t *testing.T, u Usage) Config {
	t.Helper()
	c := Config{Vehicle: "CAR1", Charter: charter(), CharterID: wire.ID([]byte("charter")), Usage: u, Heard: func() error { return nil }}
	c.Device = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	c.Budget = open(t, must(budget.YearLimit(Cost(&c.Charter.Usage), 1)))
	return c
}

func open(t *testing.T, limit int64) *budget.Ledger {
	t.Helper()
	dir := t.TempDir()
	db := must(flash.Open(flash.Config{Dir: filepath.Join(dir, "budget"), Logger: slog.New(slog.DiscardHandler)}))
	l := must(budget.New(budget.Config{DB: db, Anchor: filepath.Join(dir, "anchor"), Limit: limit}))
	t.Cleanup(func() { l.Close(); db.Close() })
	return l
}

// TestOneReportAnEpoch makes an epoch's report again and again: the bytes never change, and what is dropped is never drawn anew.
func TestOneReportAnEpoch(t *testing.T) {
	u := &usage{broken: errors.New("flash is broken")}
	c := config(t, u)
	c.Families = allow(wire.FamilyHours)
	m := must(New(c))
	if _, lost, err := m.Make(t.Context(), 7, u); lost != nil || !errors.Is(err, u.broken) {
		t.Fatalf("usage that is not consumed: %v, %v", lost, err)
	}
	u.broken = nil
	first, lost, err := m.Make(t.Context(), 7, u)
	if lost != nil || err != nil {
		t.Fatal(lost, err)
	}
	device := must(wire.NewPublicKey(c.Device.Public()))
	r := must(wire.OpenReport(device, "CAR1", first))
	if r.Epoch != 7 || r.Families != wire.FamilyHours || r.Charter != c.CharterID {
		t.Errorf("report %+v", r)
	}
	again, lost, err := m.Make(t.Context(), 7, u)
	if !bytes.Equal(again, first) || lost != nil || err != nil || u.taken != 2 {
		t.Errorf("another report of the same epoch, or usage not consumed: %v, %v, %d", lost, err, u.taken)
	}
	if n := c.Budget.Summary(7).Releases; n != 1 {
		t.Errorf("%d charges", n)
	}
	if err := m.Forget(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	for _, epoch := range []uint32{6, 7, 8} {
		want := map[uint32]error{6: budget.ErrPast, 7: budget.ErrCharged, 8: budget.ErrExhausted}[epoch]
		if sealed, lost, err := m.Make(t.Context(), epoch, u); sealed != nil || !errors.Is(lost, want) || err != nil {
			t.Errorf("epoch %d: lost %v, want %v; %v", epoch, lost, want, err)
		}
	}
	// A charge that came to nothing leaves the usage to the next one; of an epoch that never gets one it goes.
	if u.taken != 3 {
		t.Errorf("usage was consumed %d times", u.taken)
	}
	contents, cost := m.Explain(terms.Timing{DayS: 86400}, 7, first)
	if !strings.Contains(contents, "1970-01-08") || !strings.Contains(contents, ": hours.") || !strings.Contains(cost, "epsilon 1 at delta 1e-06") {
		t.Errorf("%s %s", contents, cost)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"zero":        func(c *Config) { *c = Config{} },
		"no device":   func(c *Config) { c.Device = nil },
		"no usage":    func(c *Config) { c.Usage = nil },
		"no record":   func(c *Config) { c.Heard = nil },
		"bad charter": func(c *Config) { c.Charter = &terms.Charter{} },
	} {
		c := config(t, &usage{})
		c.Families = allow(wire.FamilyHours)
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c := config(t, &usage{})
	c.Families, c.Budget, c.Heard = allow(wire.FamilyHours), nil, nil
	if m := must(New(c)); m.Families() != wire.FamilyHours || m.Drawn() != 0 {
		t.Error("a ledger that does not open forbids more than to draw")
	}
	m := must(New(Config{Charter: charter()}))
	if sealed, lost, err := m.Make(t.Context(), 1, &usage{}); sealed != nil || lost == nil || err != nil {
		t.Errorf("a report without consent: %v, %v", lost, err)
	}
}
