package odometer

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/agent/internal/odometer/event"
	"rawstone/agent/internal/odometer/state"
	"rawstone/agent/internal/vss"
)

const (
	km = int64(1_000_000)
	ms = int64(1_000_000) // ns
	t0 = int64(1_700_000_000_000_000_000)
)

func newOdometer(t testing.TB, cfg Config) *Odometer {
	t.Helper()
	return restored(t, cfg, state.Odometer{})
}

func restored(t testing.TB, cfg Config, s state.Odometer) *Odometer {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	o, err := New(cfg, s)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// After a disagreement has passed, growth is counted in full again.
func TestDisagreementEnds(t *testing.T) {
	t.Parallel()
	c := newCar(fine, velocity)
	lies := true
	var extra int64
	c.fault = func(c *car, s *vss.Sample) bool {
		if lies {
			extra = c.at
		}
		if s.Signal == 0 {
			s.Value += extra / 5000 * 5000
		}
		return true
	}
	o := newOdometer(t, Config{Signals: c.signals})
	c.drive(o, 300, 20_000)
	if o.disputes != 1 {
		t.Fatalf("a counter of twice the distance is not disputed: %v", named(o))
	}
	lies = false
	c.drive(o, 1200, 20_000)
	if o.disputes != 0 {
		t.Error("still disputed after 24 km in agreement")
	}
	if got := c.drive(o, 100, 20_000); got != 2000_000 {
		t.Errorf("%d mm of 2 km counted", got)
	}
	if o.Total() > c.at+1_000_000 || o.Total() < c.at-1_000_000 {
		t.Errorf("%d mm of %d counted", o.Total(), c.at)
	}
}

// Several senders of one signal are told apart, and no more are followed than there is room for.
func TestOrigins(t *testing.T) {
	t.Parallel()
	signals := []vss.Signal{{Name: "SPN 917", Role: vss.Distance, Resolution: 5000}}
	o := newOdometer(t, Config{Signals: signals})
	for i := range int64(1000) {
		for origin := range int64(20) {
			o.Observe(vss.Sample{Origin: uint8(origin), Time: t0 + i*1000*ms, Value: origin*1000*km + i*20_000, Available: true})
		}
	}
	if want := int64(999*20_000 - 5000); o.Total() != want {
		t.Errorf("%d mm counted, want %d", o.Total(), want)
	}
	if got := named(o); !slices.Equal(got, []string{"too_many_sources"}) {
		t.Errorf("events %v", got)
	}
	if n := len(o.State().Sources); n != state.MaxSources {
		t.Errorf("%d sources kept", n)
	}
}

// A trip meter that begins anew raises no doubt.
func TestTripMeterRestarts(t *testing.T) {
	t.Parallel()
	o := newOdometer(t, Config{Signals: []vss.Signal{{Name: "trip", Role: vss.Distance, Resolution: 1000, Resets: true}}})
	for i := range int64(1000) {
		o.Observe(vss.Sample{Time: t0 + i*1000*ms, Value: i % 250 * 20_000, Available: true})
	}
	if want := int64(4 * (249*20_000 - 1000)); o.Total() != want {
		t.Errorf("%d mm counted, want %d", o.Total(), want)
	}
	if got := named(o); !slices.Equal(got, []string{"restart"}) {
		t.Errorf("events %v", got)
	}
}

// Whatever was last saved, a restart loses no distance, counts none twice, and does not believe what cannot be.
func TestRestart(t *testing.T) {
	t.Parallel()
	for _, sources := range [][]int{{fine}, {coarse}, {short, coarse, velocity}, {short, fine, coarse, velocity}, {fine, velocity}} {
		c := newCar(sources...)
		o := newOdometer(t, Config{Signals: c.signals})
		for range 20 {
			c.drive(o, 97, 21_000)
			saved := o.State()
			c.drive(o, 13, 21_000) // lost with the power
			o = restored(t, Config{Signals: c.signals}, saved)
		}
		c.drive(o, 200, 21_000)
		if got := o.Total(); got > c.at || got < c.at-2*km {
			t.Errorf("%v: %d mm of %d counted", sources, got, c.at)
		}
	}
	c := newCar(short, coarse)
	o := newOdometer(t, Config{Signals: c.signals})
	c.fault = func(c *car, s *vss.Sample) bool { return s.Signal == 0 || c.now < 10_000 || c.now > 300_000 }
	c.drive(o, 300, 20_000) // the coarse counter is silent until after the restart
	o = restored(t, Config{Signals: c.signals}, o.State())
	if c.drive(o, 100, 20_000); !slices.Equal(named(o), []string{"restart"}) || o.Total() < c.at-2*km {
		t.Errorf("what grew in a silence across a restart: %v", named(o))
	}
	c = newCar(fine)
	o = newOdometer(t, Config{Signals: c.signals})
	c.drive(o, 100, 20_000)
	before := o.Total()
	c.offset[0] += 4000 * km
	o = restored(t, Config{Signals: c.signals}, o.State())
	c.drive(o, 60, 0)
	if o.Total() != before || !slices.Equal(named(o), []string{"jump"}) || o.Losses() == 0 {
		t.Errorf("4,000 km in no time: %d mm more, %v", o.Total()-before, named(o))
	}
}

// The state stays the same while the car is parked, so that nothing is written.
func TestParkedChangesNothing(t *testing.T) {
	t.Parallel()
	c := newCar(short, fine, coarse, velocity)
	o := newOdometer(t, Config{Signals: c.signals})
	c.drive(o, 100, 20_000)
	c.drive(o, 5, 0)
	r := o.Revision()
	if got := c.drive(o, 3600, 0); got != 0 || o.Revision() != r {
		t.Errorf("%d mm and %d changes in an hour's standstill", got, o.Revision()-r)
	}
	if c.drive(o, 1, 20_000); o.Revision() == r {
		t.Error("a drive is no change")
	}
}

// An event is counted for each sample, logged once an episode and source, and names no value.
func TestEpisodes(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	metrics := prometheus.NewRegistry()
	c := newCar(fine)
	o := newOdometer(t, Config{Signals: c.signals, Logger: slog.New(slog.NewTextHandler(&out, nil)), Metrics: metrics})
	c.fault = func(c *car, s *vss.Sample) bool {
		s.Available = c.now%100_000 > 20_000 // 40 samples of each 200 s' two episodes
		return true
	}
	c.drive(o, 199, 20_000)
	if got := strings.Count(out.String(), "not_available"); got != 2 {
		t.Errorf("%d lines for two episodes:\n%s", got, out.String())
	}
	if got := o.Reports()[0]; got.Count != 81 || got.Source != "fine" || got.Last != t0+120_000*ms || got.Kind.Meaning() == "" {
		t.Errorf("%+v", got)
	}
	if err := testutil.GatherAndCompare(metrics, strings.NewReader(`# HELP rawstone_odometer_events_total Samples that kept distance from being trusted, by what they showed.
# TYPE rawstone_odometer_events_total counter
`+counters(81))); err != nil {
		t.Error(err)
	}
	if strings.Contains(out.String(), "15891") {
		t.Errorf("a counter's value in the log: %s", out.String())
	}
}

// counters is what a scrape says of so many samples that are not available.
func counters(n int) (text string) {
	for e := range event.NumKinds {
		if e == event.NotAvailable {
			text += fmt.Sprintf("rawstone_odometer_events_total{event=%q} %d\n", e, n)
		} else {
			text += fmt.Sprintf("rawstone_odometer_events_total{event=%q} 0\n", e)
		}
	}
	return text
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	for name, cfg := range map[string]Config{
		"no logger": {}, "a negative speed": {Logger: log, MaxSpeed: -1}, "a speed of light": {Logger: log, MaxSpeed: 1e9},
		"a share beyond half": {Logger: log, Share: 501}, "a negative modulus": {Logger: log, Signals: []vss.Signal{{Modulus: -1}}},
	} {
		if _, err := New(cfg, state.Odometer{}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := New(Config{Logger: log}, state.Odometer{Total: -1}); err == nil {
		t.Error("a damaged state is taken")
	}
	for e := range event.NumKinds {
		if e.String() == "" || e.Meaning() == "" {
			t.Errorf("event %d has no name or meaning", e)
		}
	}
}

// A state survives its encoding.
func TestStateEncodes(t *testing.T) {
	t.Parallel()
	c := newCar(short, fine, coarse, velocity)
	o := newOdometer(t, Config{Signals: c.signals})
	c.drive(o, 100, 20_000)
	s := o.State()
	b, err := cbor.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var got state.Odometer
	if err := cbor.Unmarshal(b, &got); err != nil || !got.Valid() || len(b) > 4096 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	if d := cmp.Diff(s, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(s, restored(t, Config{Signals: c.signals}, s).State()); d != "" {
		t.Errorf("restored: %s", d)
	}
}
