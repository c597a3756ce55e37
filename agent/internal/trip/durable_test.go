package trip

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"rawstone/agent/internal/vss"
	"rawstone/pkg/wire"
)

// copyStore copies the files of an open store as a power loss would leave them.
func copyStore(t *testing.T, from string) (to string) {
	t.Helper()
	to = t.TempDir()
	files, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Name() == "LOCK" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(from, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, f.Name()), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// feed drives one second: the odometer ten times a second in whole metres, the speed as well.
func feed(r *Recorder, at *int64, odo *int64, mms int64) {
	for range 10 {
		*at += second / 10
		*odo += mms / 10
		observe(r, distance, *at, *odo/1000)
		observe(r, speed, *at, mms)
	}
}

func inUse(r *Recorder) (sum int64) {
	for _, ms := range r.Usage().Hours {
		sum += ms
	}
	return sum
}

// The power fails at any instant: at most 10 s of usage are lost, and no distance once the car drives on, also what was driven while
// the agent was off.
func TestPowerLossAtAnyInstant(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	dir := t.TempDir()
	db := openStore(t, dir)
	at, odo := noon, int64(1_000_000_000)
	now := func() time.Time { return time.Unix(0, at) }
	r := open(t, Config{DB: db, Now: now})
	begin := odo
	for range 6 {
		for range rnd.IntN(30) {
			feed(r, &at, &odo, int64(rnd.IntN(40))*1000)
		}
		for range rnd.IntN(10) { // and within a second
			at += second / 10
			odo += 2000
			observe(r, distance, at, odo/1000)
		}
		used, driven := inUse(r), r.Odometer().Metres
		left := openStore(t, copyStore(t, dir))
		after := open(t, Config{DB: left, Now: now})
		if got := inUse(after); got > used || got < used-10_200 {
			t.Errorf("%d ms of usage left of %d", got, used)
		}
		if got := after.Odometer().Metres; got > driven {
			t.Errorf("%d m after the power came back, %d before", got, driven)
		}
		later, further := at+90*second, odo+90*10_000 // driven with the agent off
		for range 5 {
			feed(after, &later, &further, 10_000)
		}
		if got, want := after.Odometer().Metres, (further-begin)/1000; got > want || got < want-5 {
			t.Errorf("%d m counted of %d", got, want)
		}
		if err := left.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// Driving writes once in 10 s, a parked car not at all, however many samples come.
func TestWrites(t *testing.T) {
	t.Parallel()
	db := openStore(t, t.TempDir())
	defer db.Close()
	at, odo := noon, int64(0)
	r := open(t, Config{DB: db, Now: func() time.Time { return time.Unix(0, at) }})
	writes := func(seconds int, mms int64) uint64 {
		before := db.MaxVersion() // one more with each write
		for range seconds {
			feed(r, &at, &odo, mms)
			observe(r, charging, at, 0)
			observe(r, charge, at, 500)
		}
		return db.MaxVersion() - before
	}
	if got := writes(600, 20_000); got < 59 || got > 60 {
		t.Errorf("%d writes in 10 min of driving, want 60", got)
	}
	writes(400, 0) // the trip ends
	if got := writes(3600, 0); got != 0 {
		t.Errorf("%d writes in an hour's parking", got)
	}
	if got := writes(20, 20_000); got != 2 {
		t.Errorf("%d writes in the next 20 s of driving, want 2", got)
	}
	var size int64
	if err := db.View(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte(recordKey))
		if err == nil {
			size = item.ValueSize()
		}
		return err
	}); err != nil || size > 1024 {
		t.Errorf("a record of %d bytes, %v", size, err)
	}
}

// Snapshots of the attested counter are compared with what was counted between them.
func TestAttested(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db := openStore(t, dir)
	at, odo := noon, int64(1_000_000_000)
	cfg := Config{DB: db, Now: func() time.Time { return time.Unix(0, at) }}
	r := open(t, cfg)
	travel := func(seconds int) {
		for range seconds {
			feed(r, &at, &odo, 20_000)
		}
	}
	check := func(what string, day uint32, seq uint64, metres uint32, want bool) {
		t.Helper()
		f, found := r.Attested(day, seq, metres, false)
		if found != want || found && (f.String() == "" || f.ToDay != day) {
			t.Errorf("%s: %v, %+v", what, found, f)
		}
	}
	check("the first", 1, 10, 500_000, false)
	travel(1000) // 20 km
	check("agreement within the share", 2, 11, 520_900, false)
	check("the same again", 2, 11, 999_999, false)
	travel(1000)
	check("agreement within the floor", 3, 12, 540_900+3_900, false)
	travel(1000)
	check("too much attested", 4, 13, 544_800+24_100+300, true)
	travel(1000)
	check("too little attested", 5, 14, 569_200+15_500, true)
	travel(1000)
	check("a snapshot left out", 7, 16, 569_200+90_000, false)
	travel(1000)
	check("back", 8, 17, 1000, true)
	travel(1000)
	check("an old one that was asked for", 7, 15, 999_999, false)
	check("and agreement", 9, 18, 21_000, false)

	// A restart: 100 km that the odometer recovers may lie on either side of the snapshot.
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	at, odo = at+5000*second, odo+100_000_000
	r = open(t, cfg)
	check("before anything was recovered", 10, 19, 21_000+60_000, false)
	travel(1000)
	check("after it was", 11, 20, 81_000+60_000, false)
	travel(1000)
	check("and sharp again", 12, 21, 141_000+30_000, true)

	// What was driven while the agent was away comes in one answer: its snapshots are not held against each other.
	for day := range uint32(5) {
		if f, found := r.Attested(13+day, uint64(22+day), 171_000+(1+day)*50_000, true); found != (day == 0) {
			t.Errorf("snapshot %d of an answer: %v, %+v", day, found, f)
		}
	}
	travel(1000)
	check("and on from the last of them", 18, 27, 421_000+20_000, false)
	travel(1000)
	check("sharply", 19, 28, 441_000+30_000, true)
	if n := len(r.Odometer().Events); n == 0 {
		t.Error("findings are no events")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// The host's clock is set about while the car drives: in 10 s of its steady progress there is one write, whatever it jumps by.
func TestWritesWhileTheClockIsSet(t *testing.T) {
	t.Parallel()
	for name, jump := range map[string]func(i int64) time.Duration{
		"an hour back":       func(i int64) time.Duration { return -time.Duration(min(i/1000, 1)) * time.Hour },
		"an hour on":         func(i int64) time.Duration { return time.Duration(min(i/1000, 1)) * time.Hour },
		"back again, always": func(i int64) time.Duration { return -time.Duration(i/50) * 6 * time.Second },
	} {
		db := openStore(t, t.TempDir())
		at, odo, i := noon, int64(0), int64(0)
		begin := time.Unix(0, at)
		r := open(t, Config{DB: db, Now: func() time.Time { return begin.Add(time.Duration(at-noon) + jump(i)) }})
		before, gap, last := db.MaxVersion(), int64(0), noon
		for ; i < 6000; i++ {
			versions := db.MaxVersion()
			at, odo = at+second/10, odo+2000
			observe(r, distance, at, odo/1000)
			observe(r, speed, at, 20_000)
			if db.MaxVersion() != versions {
				gap, last = max(gap, at-last), at
			}
		}
		if n := db.MaxVersion() - before; n < 55 || n > 62 || gap > 11*second {
			t.Errorf("%s: %d writes in 10 min, at most %d ms apart", name, n, gap/1e6)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A sensor that flaps while the car is parked costs a few writes and then none.
func TestFlappingSensorWritesLittle(t *testing.T) {
	t.Parallel()
	db := openStore(t, t.TempDir())
	defer db.Close()
	at, odo := noon, int64(0)
	r := open(t, Config{DB: db, Now: func() time.Time { return time.Unix(0, at) }})
	for range 60 {
		feed(r, &at, &odo, 20_000)
	}
	feed(r, &at, &odo, 0)
	before := db.MaxVersion()
	for i := range int64(3 * 86_400) {
		at += second
		r.Observe(vss.Sample{Signal: distance, Time: at, Value: odo/1000*1000 + i/40%2*5_000_000, Available: i/400%2 == 0})
	}
	if n := db.MaxVersion() - before; n > 20 {
		t.Errorf("%d writes in three days' parking", n)
	}
}

// Without consent no byte in the store tells of usage, and with one family on nothing tells of another.
func TestNoUsageWithoutConsent(t *testing.T) {
	t.Parallel()
	kept := func(families wire.Family) (u use) {
		db := openStore(t, t.TempDir())
		defer db.Close()
		at, odo := noon, int64(0)
		r, err := Open(Config{DB: db, KeyFile: keyFile(db), Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Unix(0, at) }, Signals: signals(), Families: families})
		if err != nil {
			t.Fatal(err)
		}
		observe(r, assist, at, 1)
		for range 100 {
			feed(r, &at, &odo, 20_000)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if err := db.View(func(txn *badger.Txn) error {
			all := txn.NewIterator(badger.IteratorOptions{AllVersions: true})
			defer all.Close()
			for all.Rewind(); all.Valid(); all.Next() {
				if key := string(all.Item().Key()); key != recordKey {
					t.Errorf("%q is kept", key)
				}
				b, err := all.Item().ValueCopy(nil)
				if err != nil {
					return err
				}
				rec, err := decode(b)
				if err != nil {
					return err
				}
				plain, err := r.shelf.keys.Open(rec.Sealed)
				if err := errors.Join(err, unmarshal(plain, &rec.Use)); err != nil {
					return err
				}
				if u.Length, u.Moved = max(u.Length, rec.Use.Length), max(u.Moved, rec.Use.Moved); rec.Use.OnTrip {
					u.OnTrip = true
				}
				if rec.Use.Usage != (Usage{}) {
					u.Usage = rec.Use.Usage
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return u
	}
	for _, families := range []wire.Family{0, wire.FamilyCharge} {
		if got := kept(families); got != (use{}) {
			t.Errorf("families %b: %+v is kept", families, got)
		}
	}
	if got := kept(wire.FamilyHours); got.Length != 0 || !got.OnTrip {
		t.Errorf("with hours only, %+v is kept", got)
	}
	if got := kept(wire.AllFamilies); got.Length == 0 || got.Usage == (Usage{}) {
		t.Errorf("with all on, only %+v is kept", got)
	}
}

// What is recovered the next morning is not of the trip of the evening before.
func TestTripEndsBeforeRecovery(t *testing.T) {
	t.Parallel()
	db := openStore(t, t.TempDir())
	defer db.Close()
	at, odo := noon, int64(1_000_000_000)
	cfg := Config{DB: db, Now: func() time.Time { return time.Unix(0, at) }}
	r := open(t, cfg)
	for range 60 {
		feed(r, &at, &odo, 10_000)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	at, odo = at+10*3600*second, odo+100_000_000
	r = open(t, cfg)
	feed(r, &at, &odo, 0)
	if got := r.Usage().Trips; got != [numBands]int64{1} {
		t.Errorf("a trip of 600 m is counted as %v", got)
	}
	if got := r.Odometer().Metres; got < 100_500 {
		t.Errorf("%d m counted", got)
	}
}
