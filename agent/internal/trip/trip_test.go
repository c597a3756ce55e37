package trip

import (
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/agent/internal/flash"
	"rawstone/pkg/wire"
)

const second = int64(time.Second)

// noon is 12:00 UTC of some day, as frame time.
const noon = 1_627_300_800 * second

func openStore(t *testing.T, dir string) *badger.DB {
	t.Helper()
	db, err := flash.Open(flash.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func open(t *testing.T, cfg Config) *Recorder {
	t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	if cfg.Families == 0 {
		cfg.Families = wire.AllFamilies
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	r, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newRecorder(t *testing.T, cfg Config) *Recorder {
	t.Helper()
	cfg.DB = openStore(t, t.TempDir())
	t.Cleanup(func() { cfg.DB.Close() })
	return open(t, cfg)
}

// drive feeds a constant speed for some seconds, one sample a second, with the distance that belongs to it.
func drive(r *Recorder, from, seconds, mms int64, odometer *int64) (to int64) {
	begin := *odometer
	for i := range seconds + 1 {
		t := from + i*second
		*odometer = begin + mms*i/1000
		r.Observe(Distance, t, *odometer)
		r.Observe(Speed, t, mms)
	}
	return from + seconds*second
}

func TestUsageOfADrive(t *testing.T) {
	r := newRecorder(t, Config{UTCOffset: 8 * time.Hour})
	odo := int64(1000)
	at := drive(r, noon, 600, 20_000, &odo) // 72 km/h: 12 km in 10 min
	r.Observe(Assist, at, 1)
	at = drive(r, at+second, 120, 30_000, &odo) // 108 km/h: 3.6 km in 2 min, assisted
	r.Observe(Assist, at, 0)
	at = drive(r, at+second, 299, 0, &odo) // standing, but not for 5 min yet
	if got := r.Usage().Trips; got != [numBands]int64{} {
		t.Errorf("a trip of a car that has stood for 5 min has ended early: %v", got)
	}
	drive(r, at+second, 60, 0, &odo)
	got := r.Usage()
	var want Usage
	want.Trips[4] = 1 // 15.6 km
	if d := cmp.Diff(want.Trips, got.Trips); d != "" {
		t.Errorf("trips: %s", d)
	}
	if h := got.Hours[20]; h < 1020_000 || h > 1024_000 {
		t.Errorf("%d ms in use in the hour from 20:00 local, want 17 min", h)
	}
	var sum int64
	for _, ms := range got.Hours {
		sum += ms
	}
	if sum != got.Hours[20] {
		t.Errorf("use in other hours: %v", got.Hours)
	}
	if s := got.Speed; s[5] < 600_000 || s[5] > 602_000 || s[6] < 120_000 || s[6] > 122_000 || s[0] < 299_000 || s[0] > 301_000 {
		t.Errorf("speed bands: %v", s)
	}
	if f := got.Features[0]; f < 120_000 || f > 122_000 {
		t.Errorf("assisted for %d ms, want 2 min", f)
	}
	v, _, err := r.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range wire.Layouts() {
		if l.Family == wire.FamilyTrips && v[l.Offset+4] != 1 || l.Family == wire.FamilySpeed && v[l.Offset+5] != 10 ||
			l.Family == wire.FamilyHours && v[l.Offset+20] != 17 || l.Family == wire.FamilyFeature && v[l.Offset] != 2 {
			t.Errorf("family %s stands elsewhere than the layout says: %v", l.Name, v)
		}
	}
}

func TestGapsAndJumpsNotCounted(t *testing.T) {
	metrics := prometheus.NewRegistry()
	r := newRecorder(t, Config{Metrics: metrics})
	r.Observe(Speed, noon, 10_000)
	r.Observe(Speed, noon+11*second, 10_000) // a silence of 11 s
	r.Observe(Speed, noon+5*second, 10_000)  // time going back
	r.Observe(Speed, noon+5*second, 10_000)  // and standing still
	if got := r.Usage().Hours[12]; got != 0 {
		t.Errorf("%d ms counted that nobody saw", got)
	}
	r.Observe(Speed, noon+6*second, 10_000)
	if got := r.Usage().Hours[12]; got != 1000 {
		t.Errorf("%d ms counted, want 1000", got)
	}
	for i, v := range []int64{37_500, 37_510, 40_000, 158_910_600, 158_910_610, 0, math.MaxUint32} {
		r.Observe(Distance, noon+int64(i+7)*second, v)
	}
	if got := testutil.ToFloat64(r.implausible); got != 4 {
		t.Errorf("%v implausible steps, want 4", got)
	}
	r.mu.Lock()
	if r.state.Metres != 20 {
		t.Errorf("trip has %d m, want the 20 m that were plausible", r.state.Metres)
	}
	r.mu.Unlock()
}

func TestCharging(t *testing.T) {
	r := newRecorder(t, Config{})
	r.Observe(Charge, noon, 450)
	r.Observe(Charge, noon+60*second, 450) // not charging
	r.Observe(Charging, noon+60*second, 1)
	r.Observe(Charge, noon+61*second, 455)
	r.Observe(Charge, noon+121*second, 499)
	r.Observe(Charge, noon+181*second, 500)
	r.Observe(Charging, noon+181*second, 0)
	r.Observe(Charge, noon+400*second, 500)
	want := [numBands]int64{4: 60_000, 5: 60_000}
	if d := cmp.Diff(want, r.Usage().Charge); d != "" {
		t.Error(d)
	}
}

func TestSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	db := openStore(t, dir)
	now := time.Unix(0, 0)
	r := open(t, Config{DB: db, Now: func() time.Time { return now }})
	odo := int64(0)
	at := drive(r, noon, 60, 20_000, &odo)
	now = now.Add(11 * time.Second)
	r.Observe(Speed, at+second, 20_000) // the write is due now
	saved := r.Usage()
	r.Observe(Speed, at+2*second, 20_000)
	db.Close() // the power fails: no Close of the recorder
	db = openStore(t, dir)
	r = open(t, Config{DB: db, Now: func() time.Time { return now }})
	if d := cmp.Diff(saved, r.Usage()); d != "" {
		t.Errorf("after the power came back: %s", d)
	}
	drive(r, at+3*second, 60, 20_000, &odo)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	last := r.Usage()
	db.Close()
	db = openStore(t, dir)
	defer db.Close()
	r = open(t, Config{DB: db})
	if d := cmp.Diff(last, r.Usage()); d != "" {
		t.Errorf("after a restart: %s", d)
	}
}

func TestConsumeLeavesTheRest(t *testing.T) {
	dir := t.TempDir()
	db := openStore(t, dir)
	r := open(t, Config{DB: db})
	odo := int64(0)
	at := drive(r, noon, 90, 20_000, &odo)
	_, consume, err := r.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	drive(r, at+second, 60, 20_000, &odo)
	if err := consume(t.Context()); err != nil {
		t.Fatal(err)
	}
	db.Close()
	db = openStore(t, dir)
	defer db.Close()
	// A minute is told by the first report; half of the second one is not, and stays.
	if got := open(t, Config{DB: db}).Usage().Speed[5]; got != 91_000 {
		t.Errorf("%d ms left after the report, want the 61,000 seen since and the 30,000 not told", got)
	}
}

// What the driver has not turned on is not kept, and a change of consent does not reach back.
func TestConsent(t *testing.T) {
	dir := t.TempDir()
	db := openStore(t, dir)
	defer func() { db.Close() }()
	reopen := func(r *Recorder, families wire.Family) *Recorder {
		if r != nil {
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		next, err := Open(Config{DB: db, Logger: slog.New(slog.DiscardHandler), Now: time.Now, Families: families})
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	odo := int64(0)
	travel := func(r *Recorder) {
		r.Observe(Assist, noon, 1)
		r.Observe(Charging, noon, 1)
		r.Observe(Charge, noon, 500)
		r.Observe(Charge, noon+60*second, 500)
		at := drive(r, noon, 120, 20_000, &odo)
		drive(r, at+400*second, 1, 0, &odo) // ends the trip
	}
	r := reopen(nil, 0)
	travel(r)
	if got := r.Usage(); got != (Usage{}) {
		t.Errorf("recorded without consent: %+v", got)
	}
	for _, l := range wire.Layouts() {
		if r = reopen(r, l.Family); r.Usage() != (Usage{}) {
			t.Errorf("%s: reaches back before consent: %+v", l.Name, r.Usage())
		}
		travel(r)
		totals, _, err := r.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		some := false
		for i, v := range totals {
			inside := i >= l.Offset && i < l.Offset+l.Len
			some = some || inside && v > 0
			if v != 0 && !inside {
				t.Errorf("only %s is on, and value %d is %d", l.Name, i, v)
			}
		}
		if !some {
			t.Errorf("%s is on and nothing was recorded", l.Name)
		}
		if kept := reopen(r, l.Family); kept.Usage() != r.Usage() {
			t.Errorf("%s: a restart under the same consent lost the summary", l.Name)
		}
	}
	if r = reopen(r, 0); r.Usage() != (Usage{}) {
		t.Error("withdrawn consent keeps the summary")
	}
}

func TestUnits(t *testing.T) {
	for _, c := range []struct {
		role Role
		unit string
		in   float64
		want int64
		ok   bool
	}{
		{Distance, "km", 40.579, 40579, true}, {Distance, "m", 7, 7, true}, {Distance, "mi", 1, 1609, true},
		{Speed, "km/h", 36, 10_000, true}, {Speed, "m/s", 1.5, 1500, true}, {Charge, "%", 45.5, 455, true},
		{Charging, "", 1, 1, true}, {Assist, "", 2, 0, false}, {Speed, "m/s", -1, 0, false}, {Speed, "km/h", math.NaN(), 0, false},
		{Distance, "km", math.Inf(1), 0, false}, {Charge, "%", 101, 0, false}, {Distance, "m", 1 << 32, 0, false},
	} {
		u, err := ParseUnit(c.role, c.unit)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := u.Sample(c.in); got != c.want || ok != c.ok {
			t.Errorf("%v %s as role %d: %d %v, want %d %v", c.in, c.unit, c.role, got, ok, c.want, c.ok)
		}
	}
	if _, err := ParseUnit(Speed, "km"); err == nil {
		t.Error("speed in km")
	}
	if _, err := ParseRole("Vehicle.CurrentLocation.Latitude"); err == nil {
		t.Error("a role for position")
	}
	for r, s := range specs() {
		if got, err := ParseRole(s.path); err != nil || got != Role(r) {
			t.Errorf("%s: %d %v", s.path, got, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	db := openStore(t, t.TempDir())
	defer db.Close()
	if err := db.Update(func(txn *badger.Txn) error { return txn.Set([]byte(stateKey), []byte{0xff, 1, 2}) }); err != nil {
		t.Fatal(err)
	}
	r, err := Open(Config{DB: db, Logger: slog.New(slog.DiscardHandler), Now: time.Now, Families: wire.AllFamilies})
	if err != nil || r.Usage() != (Usage{}) {
		t.Errorf("a damaged summary does not begin anew: %v", err)
	}
	if _, err := Open(Config{}); err == nil {
		t.Error("opened without a store")
	}
}
