package consent

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"rawstone/agent/internal/flash"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func openDB(t testing.TB, dir string) *badger.DB {
	t.Helper()
	db, err := flash.Open(flash.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func charter() *terms.Charter {
	return &terms.Charter{
		Kinds: []string{"feature/assist", terms.KindMileage, terms.KindSafe},
		Usage: terms.Usage{Families: wire.FamilyHours | wire.FamilySpeed, YearlyDispatches: 52},
	}
}

func open(t testing.TB, db DB) *Consent {
	t.Helper()
	c, err := Open(Config{DB: db, Charter: charter(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func turn(t *testing.T, c *Consent, name string, on, changes bool) {
	t.Helper()
	changed, err := c.Turn(name, on)
	if err != nil || changed != changes {
		t.Errorf("%s %v: changed %v, want %v: %v", name, on, changed, changes, err)
	}
}

func TestEverythingIsOffAndDecisionsStay(t *testing.T) {
	db := openDB(t, t.TempDir())
	c := open(t, db)
	if d := cmp.Diff(Choice{Cadence: Weekly}, c.Choice()); d != "" {
		t.Error(d)
	}
	turn(t, c, "hours", true, true)
	turn(t, c, "hours", true, false)
	turn(t, c, "speed", true, true)
	turn(t, c, terms.KindSafe, true, true)
	turn(t, c, "feature/assist", true, true)
	turn(t, c, "speed", false, true)
	turn(t, c, "trips", false, false)
	turn(t, c, "feature/eco", false, false)
	if changed, err := c.SetCadence(Monthly); err != nil || !changed {
		t.Error(changed, err)
	}
	if changed, err := c.SetCadence(Monthly); err != nil || changed {
		t.Error(changed, err)
	}
	want := Choice{wire.FamilyHours, []string{"feature/assist", terms.KindSafe}, Monthly}
	for _, c := range []*Consent{c, open(t, db)} {
		if d := cmp.Diff(want, c.Choice()); d != "" || c.Damaged() || c.EveryDays() != 30 || c.Families() != wire.FamilyHours || len(c.Kinds()) != 2 {
			t.Error(d)
		}
	}
	c.Choice().Kinds[0] = "x" // a copy
	if c.Kinds()[0] != "feature/assist" {
		t.Error("the decision was changed from outside")
	}
}

func TestRefuses(t *testing.T) {
	c := open(t, openDB(t, t.TempDir()))
	for name, want := range map[string]string{
		"trips": "the program's charter does not allow it", "feature/lane": "the program's charter does not allow it",
		terms.KindMileage: "it is what a claim is", "position": "no family of usage statistics and no kind of claim", "": "no family",
	} {
		if changed, err := c.Turn(name, true); err == nil || changed || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"position", terms.KindMileage} {
		if _, err := c.Turn(name, false); err == nil {
			t.Errorf("%s was turned off", name)
		}
	}
	if _, err := c.SetCadence("hourly"); err == nil {
		t.Error("hourly was accepted")
	}
	if d := cmp.Diff(Choice{Cadence: Weekly}, c.Choice()); d != "" {
		t.Error(d)
	}
	db, log := openDB(t, t.TempDir()), slog.New(slog.DiscardHandler)
	for i, cfg := range []Config{{Charter: charter(), Logger: log}, {DB: db, Logger: log}, {DB: db, Charter: charter()}} {
		if _, err := Open(cfg); err == nil {
			t.Errorf("config %d was accepted", i)
		}
	}
}

// failing is a store that does not write.
type failing struct{ *badger.DB }

func (failing) Update(func(*badger.Txn) error) error { return errors.New("the flash is worn") }

// TestFailedWrite: what was turned off is off at once, what was turned on is not on.
func TestFailedWrite(t *testing.T) {
	db := openDB(t, t.TempDir())
	c := open(t, db)
	for _, name := range []string{"hours", terms.KindSafe} {
		turn(t, c, name, true, true)
	}
	c = open(t, failing{db})
	for _, try := range []struct {
		name string
		on   bool
	}{{"hours", false}, {"speed", true}, {terms.KindSafe, false}, {"feature/assist", true}} {
		if changed, err := c.Turn(try.name, try.on); err == nil || changed {
			t.Errorf("%s %v: %v, %v", try.name, try.on, changed, err)
		}
	}
	if _, err := c.SetCadence(Daily); err == nil {
		t.Error("daily was kept")
	}
	if d := cmp.Diff(Choice{Cadence: Weekly}, c.Choice()); d != "" {
		t.Error(d)
	}
}

// TestDamage flips every bit of a record and cuts it at every byte: everything is off, and never anything on that was not.
func TestDamage(t *testing.T) {
	db := openDB(t, t.TempDir())
	good, err := encode(Choice{wire.FamilyHours, []string{terms.KindSafe}, Daily})
	if err != nil {
		t.Fatal(err)
	}
	var bad [][]byte
	for i := range len(good) * 8 {
		b := bytes.Clone(good)
		b[i/8] ^= 1 << (i % 8)
		bad = append(bad, b, good[:i/8])
	}
	for _, b := range bad {
		if err := db.Update(func(txn *badger.Txn) error { return txn.Set([]byte(recordKey), b) }); err != nil {
			t.Fatal(err)
		}
		c := open(t, db)
		if d := cmp.Diff(Choice{Cadence: Weekly}, c.Choice()); d != "" || !c.Damaged() {
			t.Fatalf("%x: %s", b, d)
		}
	}
	c := open(t, db)
	turn(t, c, "hours", true, true)
	if c = open(t, db); c.Damaged() || c.Families() != wire.FamilyHours {
		t.Error("a new decision does not replace the damaged one")
	}
}

func TestView(t *testing.T) {
	c := open(t, openDB(t, t.TempDir()))
	turn(t, c, "speed", true, true)
	if _, err := c.SetCadence(Daily); err != nil {
		t.Fatal(err)
	}
	v := c.View()
	if len(v.Families) != 2 || v.Families[0].On || !v.Families[1].On || len(v.Kinds) != 2 || v.ClaimDays != 1 || v.ReportDays != 8 {
		t.Errorf("%+v", v)
	}
	for _, o := range append(v.Families, v.Kinds...) {
		if o.Tells == "" {
			t.Errorf("%s: what it tells is not said", o.Name)
		}
	}
	var out strings.Builder
	if err := v.Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"  hours  off  minutes in use", "  speed  on   minutes in each", "  feature/assist  off  ", "  safe            off  ", "Cadence: daily. A claim every day, a usage report every 8 days"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not shown:\n%s", want, out.String())
		}
	}
	for _, l := range wire.Layouts() {
		if Tells(l.Name) == "" {
			t.Errorf("what %s tells is not said", l.Name)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range []Choice{{Cadence: Weekly}, {wire.AllFamilies, []string{"feature/assist", terms.KindSafe}, Daily}} {
		b, err := encode(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[4:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sum := checksum(b)
		whole := append([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}, b...)
		c, err := decode(whole)
		if err != nil {
			return
		}
		if again, err := encode(c); err != nil || !bytes.Equal(again, whole) {
			t.Errorf("%x re-encodes to %x: %v", whole, again, err)
		}
	})
}
