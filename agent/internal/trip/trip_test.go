package trip

import (
	"bytes"
	"log/slog"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/agent/internal/flash"
	"rawstone/agent/internal/odometer/state"
	"rawstone/agent/internal/vss"
	"rawstone/pkg/wire"
)

const second = int64(time.Second)

// noon is 12:00 UTC of some day, as frame time.
const noon = 1_627_300_800 * second

// The signals of the test's car.
const (
	distance = iota
	speed
	charge
	charging
	assist
	speed2
)

func signals() []vss.Signal {
	return []vss.Signal{
		distance: {Name: "odometer", Role: vss.Distance, Resolution: 1000}, speed: {Name: "speed", Role: vss.Speed},
		charge: {Name: "charge", Role: vss.Charge}, charging: {Name: "charging", Role: vss.Charging}, assist: {Name: "assist", Role: vss.Assist},
		speed2: {Name: "speed 2", Role: vss.Speed},
	}
}

// observe feeds a sample; a distance is in metres.
func observe(r *Recorder, signal int, t, v int64) {
	if signal == distance {
		v *= 1000
	}
	r.Observe(vss.Sample{Signal: signal, Time: t, Value: v, Available: true})
}

func openStore(t *testing.T, dir string) *badger.DB {
	t.Helper()
	db, err := flash.Open(flash.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// keyFile lies in the store's directory, for tests that copy it.
func keyFile(db *badger.DB) string { return filepath.Join(db.Opts().Dir, "usage.key") }

func open(t *testing.T, cfg Config) *Recorder {
	t.Helper()
	if db, ok := cfg.DB.(*badger.DB); ok {
		cfg.KeyFile = keyFile(db)
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	if cfg.Families == 0 {
		cfg.Families = wire.AllFamilies
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Signals = signals()
	r, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newRecorder(t *testing.T, cfg Config) *Recorder {
	t.Helper()
	db := openStore(t, t.TempDir())
	cfg.DB = db
	t.Cleanup(func() { db.Close() })
	return open(t, cfg)
}

// drive feeds a constant speed for some seconds, one sample a second, with the distance that belongs to it.
func drive(r *Recorder, from, seconds, mms int64, odometer *int64) (to int64) {
	begin := *odometer
	for i := range seconds + 1 {
		t := from + i*second
		*odometer = begin + mms*i/1000
		observe(r, distance, t, *odometer)
		observe(r, speed, t, mms)
	}
	return from + seconds*second
}

func TestUsageOfADrive(t *testing.T) {
	r := newRecorder(t, Config{UTCOffset: 8 * time.Hour})
	odo := int64(1000)
	at := drive(r, noon, 600, 20_000, &odo) // 72 km/h: 12 km in 10 min
	observe(r, assist, at, 1)
	at = drive(r, at+second, 120, 30_000, &odo) // 108 km/h: 3.6 km in 2 min, assisted
	observe(r, assist, at, 0)
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
	r := newRecorder(t, Config{Metrics: prometheus.NewRegistry()})
	observe(r, speed, noon, 10_000)
	observe(r, speed, noon+11*second, 10_000) // a silence of 11 s
	observe(r, speed, noon+5*second, 10_000)  // time going back
	observe(r, speed, noon+5*second, 10_000)  // and standing still
	if got := r.Usage().Hours[12]; got != 0 {
		t.Errorf("%d ms counted that nobody saw", got)
	}
	observe(r, speed, noon+6*second, 10_000)
	if got := r.Usage().Hours[12]; got != 1000 {
		t.Errorf("%d ms counted, want 1000", got)
	}
	observe(r, speed, noon+7*second, 200_000) // no car
	if got := r.Usage().Hours[12]; got != 1000 {
		t.Errorf("%d ms counted on the word of a car at 720 km/h", got)
	}
	for i, v := range []int64{37_500, 37_510, 40_000, 158_910_600, 158_910_610, 0, math.MaxUint32} {
		observe(r, distance, noon+int64(i+7)*second, v)
	}
	if got := r.Odometer(); got.Metres > 20 || len(got.Events) < 4 {
		t.Errorf("%d m counted of the 10 m that were plausible and the 10 m by speed, %d events", got.Metres, len(got.Events))
	}
}

func TestCharging(t *testing.T) {
	r := newRecorder(t, Config{})
	observe(r, charge, noon, 450)
	observe(r, charge, noon+60*second, 450) // not charging
	observe(r, charging, noon+60*second, 1)
	observe(r, charge, noon+61*second, 455)
	observe(r, charge, noon+121*second, 499)
	observe(r, charge, noon+181*second, 500)
	observe(r, charging, noon+181*second, 0)
	observe(r, charge, noon+400*second, 500)
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
	observe(r, speed, at+second, 20_000) // the write is due now
	saved := r.Usage()
	observe(r, speed, at+2*second, 20_000)
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
		next, err := Open(Config{DB: db, KeyFile: keyFile(db), Logger: slog.New(slog.DiscardHandler), Now: time.Now, Families: families, Signals: signals()})
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	odo := int64(0)
	travel := func(r *Recorder) {
		observe(r, assist, noon, 1)
		observe(r, charging, noon, 1)
		observe(r, charge, noon, 500)
		observe(r, charge, noon+60*second, 500)
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

// A record that this agent does not read begins anew, is said, and is replaced.
func TestOtherRecordsBeginAnew(t *testing.T) {
	// The first format had the summary at key 0.
	first, err := cbor.Marshal(map[int]any{0: Usage{}, 1: true, 2: int64(5), 3: noon, 4: uint8(wire.AllFamilies)})
	if err != nil {
		t.Fatal(err)
	}
	newer, err := cbor.Marshal(map[int]any{0: recordVersion + 1})
	if err != nil {
		t.Fatal(err)
	}
	bad, err := cbor.Marshal(record{Version: recordVersion, Odometer: state.Odometer{Total: -1}})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"damaged": {0xff, 1, 2}, "empty": {}, "first format": first, "newer": newer, "impossible": bad, "huge": make([]byte, maxRecord+1)} {
		db := openStore(t, t.TempDir())
		if err := db.Update(func(txn *badger.Txn) error { return txn.Set([]byte(recordKey), b) }); err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		cfg := Config{DB: db, KeyFile: keyFile(db), Logger: slog.New(slog.NewTextHandler(&said, nil)), Now: time.Now, Families: wire.AllFamilies, Signals: signals()}
		for i := range 2 {
			r, err := Open(cfg)
			if err != nil || r.Usage() != (Usage{}) || r.Odometer().Metres != 0 {
				t.Fatalf("%s: does not begin anew: %v", name, err)
			}
			if n := strings.Count(said.String(), "begins anew"); n != 1 {
				t.Errorf("%s, start %d: said %d times", name, i+1, n)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	db := openStore(t, t.TempDir())
	defer db.Close()
	good := Config{DB: db, Logger: slog.New(slog.DiscardHandler), Now: time.Now}
	for name, change := range map[string]func(*Config){
		"no store": func(c *Config) { c.DB = nil }, "an offset of two days": func(c *Config) { c.UTCOffset = 48 * time.Hour },
		"a negative share": func(c *Config) { c.AttestedShare = -1 }, "a speed of light": func(c *Config) { c.MaxSpeed = 1e9 },
	} {
		cfg := good
		change(&cfg)
		if _, err := Open(cfg); err == nil {
			t.Errorf("opened with %s", name)
		}
	}
}

// The first speed of the configuration is used, and the next one while it is silent.
func TestSeveralSpeeds(t *testing.T) {
	r := newRecorder(t, Config{})
	for i := range int64(600) {
		at := noon + i*second
		if i < 200 || i >= 400 {
			observe(r, speed, at, 20_000)
		}
		observe(r, speed2, at+second/2, 40_000)
	}
	got := r.Usage().Speed
	if got[5] < 395_000 || got[5] > 410_000 || got[8] < 190_000 || got[8] > 202_000 {
		t.Errorf("speed bands: %v", got)
	}
}

// Without consent no usage is kept, and the distance is.
func TestDistanceWhateverTheConsent(t *testing.T) {
	db := openStore(t, t.TempDir())
	defer db.Close()
	cfg := Config{DB: db, KeyFile: keyFile(db), Logger: slog.New(slog.DiscardHandler), Now: time.Now, Signals: signals()}
	r, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	odo := int64(5000)
	drive(r, noon, 100, 20_000, &odo)
	if got := r.Odometer(); got.Metres != 1999 || got.Source != "odometer" {
		t.Errorf("%+v", got)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Families = wire.AllFamilies
	if r, err = Open(cfg); err != nil || r.Odometer().Metres != 1999 || r.Usage() != (Usage{}) {
		t.Errorf("after a change of consent: %v, %+v", err, r.Odometer())
	}
}
