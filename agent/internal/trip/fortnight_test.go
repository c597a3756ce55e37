package trip

import (
	"log/slog"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"rawstone/agent/internal/vss"
)

// A fortnight is two weeks of a car whose attestation ECU counts some permille of what is driven and signs at each day's wake.
type fortnight struct {
	permille   int64 // of the attested counter
	resolution int64 // mm, of the car's own
	metres     int64 // a day
	speedOnly  bool
	restarts   bool  // the agent starts with the car, after lateness metres
	lateness   int64 // metres
	daysOff    bool
	midday     bool // the ECU signs in mid-drive
}

// findings drives it and returns the number of findings.
func (f fortnight) findings(t *testing.T, db *badger.DB) (n int) {
	t.Helper()
	sig := []vss.Signal{{Name: "odometer", Role: vss.Distance, Resolution: f.resolution}, {Name: "speed", Role: vss.Speed}}
	at, driven, seq := noon, int64(50_000_333_000), uint64(7)
	cfg := Config{DB: db, KeyFile: keyFile(db), Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Unix(0, at) }, Signals: sig, SaveEvery: time.Hour}
	reopen := func() *Recorder {
		r, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := reopen()
	sign := func(day int) {
		seq++
		if _, found := r.Attested(uint32(day), seq, uint32(driven/1000*f.permille/1000), false); found {
			n++
		}
	}
	step := func(speed int64) {
		driven, at = driven+speed, at+second
		if !f.speedOnly {
			r.Observe(vss.Sample{Signal: 0, Time: at, Value: driven / f.resolution * f.resolution, Available: true})
		}
		r.Observe(vss.Sample{Signal: 1, Time: at, Value: speed, Available: true})
	}
	for day := range 14 {
		at = noon + int64(day)*day24
		if f.daysOff && day%4 == 2 {
			continue
		}
		if f.restarts {
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			r = reopen()
		}
		if !f.midday {
			sign(day)
		}
		if f.restarts {
			driven += f.lateness * 1000
		}
		step(0)
		for i := range f.metres / 20 {
			if step(20_000); f.midday && i == f.metres/40 {
				sign(day)
			}
		}
		step(0)
	}
	return n
}

const day24 = 24 * 3600 * second

// In a fortnight of ordinary life nothing is found; a counter that runs a tenth high or low is found within the first days.
func TestFortnight(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fortnight{
		"fine":                {resolution: 5000, metres: 40_000},
		"coarse":              {resolution: 1000_000, metres: 40_000},
		"short days":          {resolution: 1000_000, metres: 3000},
		"long days":           {resolution: 1000_000, metres: 200_000},
		"restarts":            {resolution: 5000, metres: 40_000, restarts: true, lateness: 400},
		"restarts, coarse":    {resolution: 1000_000, metres: 40_000, restarts: true, lateness: 400},
		"late starts":         {resolution: 100_000, metres: 20_000, restarts: true, lateness: 9000},
		"days off":            {resolution: 1000_000, metres: 40_000, restarts: true, lateness: 400, daysOff: true},
		"signed in mid-drive": {resolution: 1000_000, metres: 40_000, restarts: true, lateness: 400, midday: true},
		"speed only":          {resolution: 1, metres: 40_000, speedOnly: true, restarts: true, lateness: 400},
	} {
		for _, permille := range []int64{1000, 990, 1010, 900, 1100} {
			db := openStore(t, t.TempDir())
			f.permille = permille
			n, off := f.findings(t, db), permille == 900 || permille == 1100
			switch want := off && f.metres > 3000; {
			case name == "late starts" || name == "speed only" && permille == 1100:
				// What was recovered lies on either side, or nothing tells what was lost: such a car cannot tell.
				if !off && n != 0 {
					t.Errorf("%s at %d permille: %d findings", name, permille, n)
				}
			case !want && n != 0 || want && (n < 1 || n > 13):
				t.Errorf("%s at %d permille: %d findings", name, permille, n)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
