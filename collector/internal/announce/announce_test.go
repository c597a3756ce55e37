package announce

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
	xtlog "golang.org/x/mod/sumdb/tlog"

	"rawstone/collector/internal/announce/internal/record"
	"rawstone/collector/internal/offering"
	"rawstone/pkg/config"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/tlog/remote"
	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A world writes logs: every key is known and every signature the same each time.
type world struct {
	t                   testing.TB
	root, policy, board vectortest.Signer
	validators          []*ledger.ValidatorKey
	program             *terms.Program
	id                  wire.Hash
	secret              string
	entries             []*ledger.Entry
	drop, height        uint64
}

func public(k crypto.Signer) wire.PublicKey { return must(wire.NewPublicKey(k.Public())) }

func validator(name string) *ledger.ValidatorKey {
	a, b := vectortest.Hash(name+" cosign"), vectortest.Hash(name+" vrf")
	return must(ledger.ParseValidatorKey(pem.EncodeToMemory(&pem.Block{
		Type: "RAWSTONE VALIDATOR KEY", Headers: map[string]string{"Name": name}, Bytes: append(a[:], b[:]...),
	})))
}

// newWorld begins a production program at noon of 30 November 2026 in China, by its documents alone.
func newWorld(t testing.TB) *world {
	w := &world{t: t, root: vectortest.Key(t, "root"), policy: vectortest.Key(t, "policy"), board: vectortest.Key(t, "board")}
	seed := vectortest.Hash("log")
	key := ed25519.NewKeyFromSeed(seed[:])
	verifier := must(note.NewEd25519VerifierKey("rawstone.example/ledger", key.Public().(ed25519.PublicKey)))
	hash := strings.Split(verifier, "+")[1]
	w.secret = "PRIVATE+KEY+rawstone.example/ledger+" + hash + "+" + base64.StdEncoding.EncodeToString(append([]byte{1}, seed[:]...))
	w.program = &terms.Program{
		Version: wire.Version, Name: "Rawstone <b>&", Environment: wire.Production,
		Timing:  terms.Timing{GenesisS: time.Date(2026, 11, 30, 4, 0, 0, 0, time.UTC).Unix(), OffsetS: 8 * 3600, DayS: 86400, DropS: 600},
		Receipt: wire.KeySet{public(vectortest.Key(t, "receipt"))}, Policy: wire.KeySet{public(w.policy)}, Board: wire.KeySet{public(w.board)}, BoardQuorum: 1, Quorum: 3, LogKey: verifier,
	}
	for _, name := range []string{"maker.example", "auditor.example", "bank.example", "owners.example"} {
		w.validators = append(w.validators, validator(name))
		w.program.Validators = append(w.program.Validators, w.validators[len(w.validators)-1].Public())
	}
	signed := must(terms.SealProgram(w.root, w.program))
	w.id = wire.ID(signed)
	w.add(ledger.TypeProgram, signed)
	w.add(ledger.TypeCharter, w.charter(1))
	return w
}

func (w *world) add(t ledger.Type, body []byte) {
	w.entries = append(w.entries, &ledger.Entry{Number: uint64(len(w.entries)), Type: t, Body: body})
}

func (w *world) charter(serial uint16) []byte {
	return must(terms.SealCharter([]crypto.Signer{w.board}, &terms.Charter{
		Version: wire.Version, Program: w.id, Serial: serial, Kinds: []string{"feature/assist", terms.KindMileage, terms.KindSafe}, TierRatioMilli: 1200,
		Usage: terms.Usage{Families: wire.FamilyHours | wire.FamilyTrips, EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 1000, Scale: []uint16{1, 1, 1, 1, 1}, YearlyDispatches: 52},
	}))
}

func (w *world) mileage(serial uint16, from, to uint32) *terms.Policy {
	p := &terms.Policy{
		Version: wire.Version, Program: w.id, Serial: serial, Kind: terms.KindMileage, FromDay: from, ToDay: to, CapKm: 1500, MinAgent: "0.1.0",
		Circuit: vectortest.Hash("circuit"), ProvingKey: vectortest.Hash("proving"), VerifyingKey: vectortest.Hash("verifying"), Lock: vectortest.Hash("lock"),
		Rows: []wire.Row{{A: [wire.NumCounters]int32{-1, 70}}},
	}
	for _, km := range []uint32{40, 50, 12_000} {
		p.Tiers = append(p.Tiers, terms.Tier{Km: km, Rows: []wire.Row{{A: [wire.NumCounters]int32{1}, B: int64(km) * 1000}}})
	}
	return p
}

func (w *world) safe(serial uint16, from, to uint32, stop bool) *terms.Policy {
	p := w.mileage(serial, from, to)
	p.Kind, p.CapKm, p.Stop, p.Rows = terms.KindSafe, 0, stop, nil
	p.Tiers = []terms.Tier{{Rows: []wire.Row{{A: [wire.NumCounters]int32{0, 1, -20}, B: 1}}}}
	return p
}

func (w *world) addPolicy(p *terms.Policy) {
	w.add(ledger.TypePolicy, must(terms.SealPolicy(w.policy, p)))
}

// day returns the program day of a date in China.
func day(date string) uint32 {
	return uint32(must(time.Parse(time.DateOnly, date)).Unix() / 86400)
}

func (w *world) launch(serial uint16, from string) *cultivation.Offers {
	s := offering.Source{}
	if err := config.Load("../../../configs/offers/launch.yaml", &s); err != nil {
		w.t.Fatal(err)
	}
	s.Serial = serial
	return s.Offers(w.id, day(from))
}

func (w *world) addOffers(o *cultivation.Offers) {
	w.add(ledger.TypeOffers, must(cultivation.SealOffers(w.policy, o)))
}

func (w *world) change(serial uint16, from string, names ...string) *ledger.Witness {
	c := &ledger.Witness{Version: wire.Version, Program: w.id, Serial: serial, FromDay: day(from)}
	for _, n := range names {
		c.Validators = append(c.Validators, validator(n).Public())
	}
	return c
}

func (w *world) addChange(c *ledger.Witness) {
	w.add(ledger.TypeWitness, must(ledger.SealWitness(w.root, c)))
}

// blocks adds n blocks with or without weight, cosigned by the program's own validators.
func (w *world) blocks(n int, weight uint64) {
	for range n {
		b := &ledger.Block{Drop: w.drop, Height: w.height, Time: w.program.Timing.DropTime(w.drop).Unix(), Proofs: []ledger.Proof{{}}, Program: w.id}
		b.Day = w.program.Timing.Day(time.Unix(b.Time, 0))
		b.Count, b.Weight = weight, weight
		w.drop++
		if weight > 0 {
			w.height++
		}
		b.Supply, b.Cultivated, b.Boxes, b.Redeemed = reward.Emission(w.height), 12_345, 7, 500
		w.add(ledger.TypeBlock, w.sealed(b, 3))
	}
}

// blocksUntil adds blocks with weight to the first of a day.
func (w *world) blocksUntil(date string) {
	for w.program.Timing.Day(w.program.Timing.DropTime(w.drop)) < day(date) {
		w.blocks(1, 1)
	}
	w.blocks(1, 1)
}

func (w *world) sealed(b *ledger.Block, signers int) []byte {
	payload := must(ledger.EncodePayload(b))
	s := ledger.Sealed{Payload: payload}
	for i := range signers {
		s.Cosignatures = append(s.Cosignatures, w.validators[i].Cosign(uint8(i), w.id, ledger.TypeBlock, payload))
	}
	return must(s.Encode())
}

// write appends the entries to a log on disk.
func (w *world) write() string {
	w.t.Helper()
	dir := w.t.TempDir()
	l := must(tlog.Open(w.t.Context(), tlog.Config{Dir: dir, Signer: must(note.NewSigner(w.secret)), Verifier: w.program.LogKey, Logger: slog.New(slog.DiscardHandler)}))
	var all [][]byte
	for _, e := range w.entries {
		all = append(all, must(e.Encode()))
	}
	if err := l.Append(w.t.Context(), 0, all...); err != nil {
		w.t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		w.t.Fatal(err)
	}
	return dir
}

// read makes an announcement without a disk.
func (w *world) read(year int) (*Announcement, error) {
	r := record.New(public(w.root), year)
	for _, e := range w.entries {
		if err := r.Take(e); err != nil {
			return nil, err
		}
	}
	if err := r.Finish(); err != nil {
		return nil, err
	}
	return announce(r, year, tlog.Checkpoint{Size: uint64(len(w.entries)), Root: vectortest.Hash("no tree")}), nil
}

// full is a world in which something happens: 10 drops without weight, the rest of November and December's first 78 drops with it.
func full(t testing.TB) *world {
	w := newWorld(t)
	w.addPolicy(w.mileage(1, 0, terms.MaxDay))
	w.addPolicy(w.safe(2, day("2026-12-01"), day("2027-12-31"), false))
	w.addOffers(w.launch(1, "2026-12-14"))
	w.blocks(10, 0)
	w.blocks(140, 100)
	w.addPolicy(w.mileage(3, day("2027-07-01"), day("2027-09-30")))
	w.addPolicy(w.safe(4, day("2027-03-01"), day("2027-03-31"), true))
	w.addPolicy(w.mileage(5, day("2028-01-01"), terms.MaxDay))
	w.addOffers(w.launch(2, "2027-06-01"))
	third := w.launch(3, "2028-02-01")
	third.Tasks, third.Boxes, third.Catalogue[0].Title = nil, third.Boxes[:1], "Stickers <script>alert(1)</script>"
	w.addOffers(third)
	w.addChange(w.change(1, "2027-02-01", "maker.example", "auditor.example", "bank.example", "club.example"))
	w.addChange(w.change(2, "2028-05-01", "maker.example", "auditor.example", "bank.example"))
	return w
}

// TestGolden holds the machine-readable form of a whole ledger to what is stored, on disk and twice, and the page to the same numbers.
func TestGolden(t *testing.T) {
	w := full(t)
	dir := w.write()
	var first map[string][]byte
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	for _, log := range []tlog.Source{tlog.Dir(dir), tlog.Dir(dir), must(remote.New(remote.Config{URL: server.URL}))} {
		a, err := Make(t.Context(), Config{Log: log, Root: public(w.root), Year: 2027})
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(t.TempDir(), "out")
		if err := a.Write(out); err != nil {
			t.Fatal(err)
		}
		got := make(map[string][]byte)
		for _, name := range []string{"announcement-2027.html", "announcement-2027.json", "announcement.schema.json"} {
			got[name] = must(os.ReadFile(filepath.Join(out, name)))
		}
		if first == nil {
			first = got
		}
		if d := cmp.Diff(first, got); d != "" {
			t.Errorf("another run, from %s, differs: %s", log, d)
		}
	}
	if keep := os.Getenv("ANNOUNCEMENT_DIR"); keep != "" { // to look at it
		for name, b := range first {
			if err := os.WriteFile(filepath.Join(keep, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	golden := filepath.Join("testdata", "announcement-2027.json")
	if vectortest.Update() && os.Getenv("CI") == "" {
		if err := os.WriteFile(golden, first["announcement-2027.json"], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(string(must(os.ReadFile(golden))), string(first["announcement-2027.json"])); d != "" {
		t.Errorf("announcement differs (-stored +made): %s", d)
	}

	// The root is the one that another implementation of RFC 6962 computes.
	var hashes []xtlog.Hash
	reader := xtlog.HashReaderFunc(func(at []int64) (out []xtlog.Hash, err error) {
		for _, i := range at {
			out = append(out, hashes[i])
		}
		return out, nil
	})
	for i, e := range w.entries {
		hashes = append(hashes, must(xtlog.StoredHashes(int64(i), must(e.Encode()), reader))...)
	}
	root := must(xtlog.TreeHash(int64(len(w.entries)), reader))
	if want := fmt.Sprintf("\"size\": %d,\n  \"root\": \"%x\"", len(w.entries), root[:]); !strings.Contains(string(first["announcement-2027.json"]), want) {
		t.Errorf("the announcement lacks %s", want)
	}
}

// A shape is as much of JSON Schema as schema.json uses.
type shape struct {
	Type       any               `json:"type"`
	Properties map[string]*shape `json:"properties"`
	Required   []string          `json:"required"`
	Additional *bool             `json:"additionalProperties"`
	Items      *shape            `json:"items"`
	Pattern    string            `json:"pattern"`
	Enum       []any             `json:"enum"`
	Minimum    *float64          `json:"minimum"`
	Maximum    *float64          `json:"maximum"`
	Format     string            `json:"format"`
	About      string            `json:"description"`
	ID         string            `json:"$id"`
	Schema     string            `json:"$schema"`
	Title      string            `json:"title"`

	seen bool
}

// check returns what of v is not as the schema says.
func (s *shape) check(path string, v any) (faults []string) {
	s.seen = true
	types, ok := s.Type.([]any)
	if !ok {
		types = []any{s.Type}
	}
	is := "null"
	switch v := v.(type) {
	case map[string]any:
		is = "object"
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				faults = append(faults, path+" lacks "+name)
			}
		}
		for name, field := range v {
			if p := s.Properties[name]; p != nil {
				faults = append(faults, p.check(path+"."+name, field)...)
			} else {
				faults = append(faults, path+" has "+name)
			}
		}
		if s.Additional == nil || *s.Additional {
			faults = append(faults, path+" is open")
		}
	case []any:
		is = "array"
		for i, item := range v {
			faults = append(faults, s.Items.check(fmt.Sprintf("%s[%d]", path, i), item)...)
		}
	case string:
		is = "string"
		if !regexp.MustCompile(s.Pattern).MatchString(v) {
			faults = append(faults, path+" does not match")
		}
		if s.Format == "date-time" {
			_ = must(time.Parse(time.RFC3339, v))
		}
	case float64:
		is = "integer"
		if v != math.Trunc(v) || s.Minimum != nil && v < *s.Minimum || s.Maximum != nil && v > *s.Maximum {
			faults = append(faults, path+" is out of bounds")
		}
	case bool:
		is = "boolean"
	}
	if !slices.Contains(types, any(is)) || s.Enum != nil && !slices.Contains(s.Enum, v) {
		faults = append(faults, fmt.Sprintf("%s is %s, want %v", path, is, s.Type))
	}
	return faults
}

// unseen returns what of the schema nothing had.
func (s *shape) unseen(path string) (list []string) {
	if !s.seen {
		return []string{path}
	}
	for name, p := range s.Properties {
		list = append(list, p.unseen(path+"."+name)...)
	}
	if s.Items != nil {
		list = append(list, s.Items.unseen(path+"[]")...)
	}
	return list
}

// TestSchema holds what is written to the schema that is written beside it, and the schema to what is written: nothing is left open, and
// nothing stands there in vain.
func TestSchema(t *testing.T) {
	var s shape
	d := json.NewDecoder(bytes.NewReader(schema))
	d.DisallowUnknownFields() // no keyword goes unchecked
	if err := d.Decode(&s); err != nil {
		t.Fatal(err)
	}
	documents := newWorld(t) // no policy, no offers, no block
	for name, a := range map[string]*Announcement{"full": must(full(t).read(2027)), "first year": must(full(t).read(2026)), "documents": must(documents.read(2030))} {
		var v any
		if err := json.Unmarshal(must(a.JSON()), &v); err != nil {
			t.Fatal(err)
		}
		if faults := s.check("$", v); len(faults) > 0 {
			t.Errorf("%s: %q", name, faults)
		}
	}
	if list := s.unseen("$"); len(list) > 0 {
		t.Errorf("the schema describes %q, which nothing has", list)
	}
}

// TestEmission computes each month and the year by hand from reward.Emission.
func TestEmission(t *testing.T) {
	w := full(t)
	a := must(w.read(2026))
	// Genesis at noon: 72 drops on 30 November, then 31 days of 144.
	if d := cmp.Diff([]uint64{0, 72, 72 + 31*144}, []uint64{a.Emission.Months[0].FromDrop, a.Emission.Months[0].ToDrop, a.Emission.Months[1].ToDrop}); d != "" {
		t.Error(d)
	}
	if len(a.Emission.Months) != 2 || a.Emission.Months[0].Month != "2026-11" || a.Period.FromDate != "2026-11-30" || *a.Period.ToDate != "2026-12-31" {
		t.Errorf("period %+v, months %+v", a.Period, a.Emission.Months)
	}
	december := a.Emission.Months[1]
	if want := reward.Emission(72+31*144) - reward.Emission(72); december.ScheduledMilli != want {
		t.Errorf("December schedules %d, want %d", december.ScheduledMilli, want)
	}
	if a.State.Height != 140 || a.State.Drop != 149 || a.Cultivation.LeftMilli != reward.CultivatedSupply-12_345 {
		t.Errorf("state %+v, cultivation %+v", a.State, a.Cultivation)
	}

	// Era by era: the third era begins at drop 420,000, in year 8.
	for _, year := range []int{2027, 2028, 2030, 2034, 2035, 2046, 2060} {
		a := must(w.read(year))
		from := uint64(72 + (time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).Unix()/86400-int64(day("2026-12-01")))*144)
		sum, at := uint64(0), from
		for i, m := range a.Emission.Months {
			n := uint64(time.Date(year, time.Month(i+2), 0, 0, 0, 0, 0, time.UTC).Day()) * 144
			want := Amount{at, at + n, reward.Emission(at+n) - reward.Emission(at), n * 500_000, reward.Emission(at + n)} // at most as in the log's era
			if d := cmp.Diff(want, m.Amount); d != "" {
				t.Errorf("%s: %s", m.Month, d)
			}
			sum, at = sum+m.ScheduledMilli, at+n
		}
		eras := uint64(0)
		for _, e := range a.Emission.Eras {
			eras += e.ScheduledMilli
			if e.FromDrop/reward.EraDrops != e.Era-1 || (e.ToDrop-1)/reward.EraDrops != e.Era-1 {
				t.Errorf("era %+v", e)
			}
		}
		if sum != a.Emission.ScheduledMilli || eras != sum || a.Emission.ToDrop != at || a.Emission.ScheduledMilli > a.Emission.AtMostMilli {
			t.Errorf("%d: months add up to %d, eras to %d, the year is %+v", year, sum, eras, a.Emission.Amount)
		}
		page := string(must(a.HTML()))
		for _, m := range append([]Month{{Amount: a.Emission.Amount}}, a.Emission.Months...) {
			for _, v := range []uint64{m.ScheduledMilli, m.AtMostMilli, m.SupplyMilli} {
				if want := `<td class="n">` + offering.Decimal(v, 3) + `</td>`; !strings.Contains(page, want) {
					t.Errorf("%d: the page lacks %s", year, want)
				}
			}
		}
	}
	if got := []string{dropMilli(0), dropMilli(1), dropMilli(6), dropMilli(100)[:4]}; !cmp.Equal(got, []string{"500000", "250000", "7812.5", "0.00"}) {
		t.Errorf("drops give %q", got)
	}
}

// TestAtMost draws the drops of later eras by the rule, from each carry that there can be: none issues more than is announced.
func TestAtMost(t *testing.T) {
	for _, era := range []uint64{0, 5, 6, 10, 20} {
		r := record.New(wire.PublicKey{}, 2027)
		r.Height = era*reward.EraDrops + 17
		const n = 200
		most := (&maker{r}).amount(record.Span{FromDrop: 1 << 40, ToDrop: 1<<40 + n}).AtMostMilli
		for _, carry := range []uint64{0, 1, 250, 499} {
			issued, rest := uint64(0), carry
			for h := r.Height; h < r.Height+n; h++ {
				units, c, err := reward.Units(h, rest)
				if err != nil {
					t.Fatal(err)
				}
				issued, rest = issued+units*reward.Unit, c
			}
			if issued > most || most > issued+reward.Unit {
				t.Errorf("era %d, carry %d: %d issued, %d announced at most", era, carry, issued, most)
			}
		}
	}
}

// TestKnownHeights takes the heights that blocks show: ten drops of November had no weight, so December may give more than is scheduled.
func TestKnownHeights(t *testing.T) {
	r := record.New(public(vectortest.Key(t, "root")), 2026)
	for _, e := range full(t).entries {
		if err := r.Take(e); err != nil {
			t.Fatal(err)
		}
	}
	if a, b, c := r.HeightAt(0), r.HeightAt(72), r.HeightAt(72+31*144); a != 0 || b != 62 || c != 140 {
		t.Errorf("heights %d, %d, %d", a, b, c)
	}
}

// TestCalendar checks who and what is in force when.
func TestCalendar(t *testing.T) {
	w := full(t)
	a := must(w.read(2027))
	var got []string
	end := func(d Days) string {
		if d.ToDate == nil {
			return "open"
		}
		if uint32(must(time.Parse(time.DateOnly, *d.ToDate)).Unix()/86400) != *d.ToDay {
			t.Errorf("%+v", d)
		}
		return *d.ToDate
	}
	for _, k := range a.Kinds {
		for _, s := range k.Segments {
			serial := uint16(0)
			if s.Serial != nil {
				serial = *s.Serial
			}
			got = append(got, fmt.Sprintf("%s %s %s %d %t", k.Kind, s.FromDate, end(s.Days), serial, s.Stopped))
		}
	}
	for _, v := range a.Validators {
		got = append(got, fmt.Sprintf("validators %s %s %d %d", v.FromDate, end(v.Days), v.Serial, len(v.Validators)))
	}
	for _, o := range a.Offers {
		got = append(got, fmt.Sprintf("offers %s %s %d", o.FromDate, end(o.Days), o.Serial))
	}
	for _, p := range a.Policies {
		got = append(got, fmt.Sprintf("policy %d %s %s", p.Serial, p.FromDate, end(p.Days)))
	}
	want := []string{
		"mileage 2027-01-01 2027-06-30 1 false", "mileage 2027-07-01 2027-09-30 3 false", "mileage 2027-10-01 2027-12-31 1 false",
		"safe 2027-01-01 2027-02-28 2 false", "safe 2027-03-01 2027-03-31 4 true", "safe 2027-04-01 2027-12-31 2 false",
		"validators 2026-11-30 2027-01-31 0 4", "validators 2027-02-01 2028-04-30 1 4", "validators 2028-05-01 open 2 3",
		"offers 2026-12-14 2027-05-31 1", "offers 2027-06-01 2028-01-31 2", "offers 2028-02-01 open 3",
		"policy 1 1970-01-01 open", "policy 2 2026-12-01 2027-12-31", "policy 3 2027-07-01 2027-09-30", "policy 4 2027-03-01 2027-03-31", "policy 5 2028-01-01 open",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}

	// Later, only the last are left; in the first year offers begin after genesis.
	a = must(w.read(2029))
	if len(a.Validators) != 1 || a.Validators[0].Serial != 2 || len(a.Offers) != 1 || a.Offers[0].Serial != 3 || a.Offers[0].FromDate != "2028-02-01" || a.Validators[0].FromDate != "2028-05-01" || a.Kinds[1].Segments[0].Serial != nil {
		t.Errorf("%+v", a)
	}
	if a = must(w.read(2026)); a.Offers[0].FromDate != "2026-12-14" || a.Validators[0].FromDate != "2026-11-30" {
		t.Errorf("%+v", a.Offers[0].Days)
	}
}

// TestPage escapes what documents say, and says it all.
func TestPage(t *testing.T) {
	w := full(t)
	page := string(must(must(w.read(2027)).HTML()))
	for _, bad := range []string{"<script", "<b>&", "Rawstone <b>", "ZgotmplZ", "<no value>", "%!", "http://", "https://"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	for _, want := range []string{
		"Rawstone &lt;b&gt;&amp;", "&lt;script&gt;alert(1)&lt;/script&gt;", "Use driver assistance", "Model car, scale 1:18", ">3/20<", ">0.001 %<", ">1/100,000<",
		"club.example", "at most 70 m driven for every 1 s of driving", "40, 50, 12,000", "stopped by policy 4", "CNY 3,000.00", "UTC&#43;08:00",
		"first gives 105,000,000 stones", "3 of 4", `<bdi>Model car, scale 1:18</bdi></th><td class="n">1/10,000</td>`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	empty := string(must(must(newWorld(t).read(2027)).HTML()))
	for _, want := range []string{"holds no block yet", "holds no policy", "None are in force in 2027 and none are announced"} {
		if !strings.Contains(empty, want) {
			t.Errorf("the page of documents alone lacks %q", want)
		}
	}
}

// TestRefused are ledgers and years that nobody should announce anything from.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		year  int
		spoil func(w *world)
		want  string
	}{
		"before genesis":        {2025, nil, "cannot announce year 2025: the program begins on program day"},
		"too early":             {1969, nil, "give one from 1970 to 9999"},
		"too late":              {10000, nil, "give one from 1970 to 9999"},
		"foreign root":          {2027, func(w *world) { w.root = vectortest.Key(w.t, "stranger") }, "may not sign this"},
		"no program":            {2027, func(w *world) { w.entries = w.entries[1:] }, "it should be the program document"},
		"second program":        {2027, func(w *world) { w.add(ledger.TypeProgram, w.entries[0].Body) }, "second program"},
		"charter again":         {2027, func(w *world) { w.add(ledger.TypeCharter, w.charter(1)) }, "serial 1 is not above 1"},
		"charter of nobody":     {2027, func(w *world) { w.board = vectortest.Key(w.t, "stranger"); w.add(ledger.TypeCharter, w.charter(2)) }, "may not sign this"},
		"policy again":          {2027, func(w *world) { w.addPolicy(w.mileage(5, 0, 10)) }, "serial 5 is not above 5"},
		"policy of nobody":      {2027, func(w *world) { w.policy = vectortest.Key(w.t, "stranger"); w.addPolicy(w.mileage(6, 0, 10)) }, "may not sign this"},
		"policy not allowed":    {2027, func(w *world) { p := w.safe(6, 0, 10, false); p.Kind = "feature/parking"; w.addPolicy(p) }, "charter does not allow"},
		"offers without notice": {2027, func(w *world) { w.addOffers(w.launch(4, "2026-12-14")) }, "want day 20802 or later"},
		"offers again":          {2027, func(w *world) { w.addOffers(w.launch(3, "2029-01-01")) }, "serial 3 is not above 3"},
		"offers of nobody":      {2027, func(w *world) { w.policy = vectortest.Key(w.t, "stranger"); w.addOffers(w.launch(4, "2029-01-01")) }, "may not sign this"},
		"change without notice": {2027, func(w *world) {
			w.entries = w.entries[:len(w.entries)-2]
			w.addChange(w.change(1, "2026-12-01", "maker.example", "b", "c"))
		}, "want a later day"},
		"change out of order": {2027, func(w *world) { w.addChange(w.change(3, "2028-05-01", "maker.example", "b", "c")) }, "not both above"},
		"change below quorum": {2027, func(w *world) { w.addChange(w.change(3, "2028-06-01", "maker.example", "b")) }, "cannot be met"},
		"change of nobody": {2027, func(w *world) {
			w.root = vectortest.Key(w.t, "stranger")
			w.addChange(w.change(3, "2028-06-01", "a", "b", "c"))
			w.root = vectortest.Key(w.t, "root")
		}, "may not sign this"},
		"block out of order":  {2027, func(w *world) { w.drop++; w.blocks(1, 1) }, "it is of drop 151 at height 140, should be of drop 150 at height 140"},
		"height out of order": {2027, func(w *world) { w.height++; w.blocks(1, 1) }, "it is of drop 150 at height 141"},
		"block of too few": {2027, func(w *world) {
			w.blocks(1, 1)
			last := w.entries[len(w.entries)-1]
			s := must(last.Sealed())
			last.Body = w.sealed(must(ledger.DecodeBlock(s.Payload)), 2)
		}, "the last block: "},
		"block of the old ones": {2027, func(w *world) {
			w.entries = w.entries[:len(w.entries)-2]
			w.addChange(w.change(1, "2026-12-02", "club.example", "maker.example", "auditor.example"))
			w.blocksUntil("2026-12-02")
		}, "the last block: cosignature of validator club.example does not match"},
		"policy before charter": {2027, func(w *world) { w.entries = w.entries[:1]; w.addPolicy(w.mileage(1, 0, 10)) }, "before any charter"},
	} {
		t.Run(name, func(t *testing.T) {
			w := full(t)
			if c.spoil != nil {
				c.spoil(w)
			}
			if _, err := w.read(c.year); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	// A flipped bit in the log is not announced.
	w := newWorld(t)
	dir := w.write()
	if err := filepath.WalkDir(filepath.Join(dir, "tile"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(path, "entries") {
			return err
		}
		b := must(os.ReadFile(path))
		b[len(b)-1] ^= 1
		return os.WriteFile(path, b, 0o644)
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(t.Context(), Config{Log: tlog.Dir(dir), Root: public(w.root), Year: 2027}); err == nil {
		t.Error("a spoilt log is announced")
	}
}
