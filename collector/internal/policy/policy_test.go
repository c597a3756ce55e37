package policy

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rawstone/pkg/claim"
	"rawstone/pkg/config"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const configs = "../../../configs/policies"

var (
	testProgram = wire.Hash{1}
	testLock    = claim.Lock{Environment: wire.Development, Circuit: wire.Hash{2}, ProvingKey: wire.Hash{3}, VerifyingKey: wire.Hash{4}}
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// again shows a policy and builds what is shown.
func again(t testing.TB, d *Document) *terms.Policy {
	t.Helper()
	var b strings.Builder
	if err := d.WriteYAML(&b); err != nil {
		t.Fatal(err)
	}
	var s Source
	if err := config.Decode("shown", []byte(b.String()), &s); err != nil {
		t.Fatalf("%v in\n%s", err, b.String())
	}
	return s.Policy(d.Program, testLock)
}

func TestShippedSources(t *testing.T) {
	paths := must(filepath.Glob(configs + "/*.yaml"))
	if len(paths) < 3 {
		t.Fatalf("%d sources", len(paths))
	}
	var all []*terms.Policy
	charter := &terms.Charter{Program: testProgram, Kinds: []string{"feature/assist", terms.KindMileage, terms.KindSafe}, TierRatioMilli: 1200}
	for _, path := range paths {
		var s Source
		if err := config.Load(path, &s); err != nil {
			t.Fatal(err)
		}
		p := s.Policy(testProgram, testLock)
		first := must(wire.Marshal(p))
		if err := charter.Covers(p); err != nil {
			t.Error(err)
		}
		if second := must(wire.Marshal(again(t, &Document{Policy: p}))); !bytes.Equal(first, second) {
			t.Errorf("%s: built, shown and built again it is another policy", path)
		}
		all = append(all, p)
	}
	if err := terms.CheckPolicies(all); err != nil {
		t.Error(err)
	}
}

// TestSafe holds what the shipped policy's title promises against counters.
func TestSafe(t *testing.T) {
	var s Source
	if err := config.Load(configs+"/safe.yaml", &s); err != nil {
		t.Fatal(err)
	}
	rows := s.Policy(testProgram, testLock).Statement(0)
	for _, c := range []struct {
		name string
		to   wire.Counters
		safe bool
	}{
		{"calm", wire.Counters{100_000, 5000, 249, 2}, true},
		{"5 % of overspeed", wire.Counters{100_000, 5000, 250, 2}, false},
		{"third brake", wire.Counters{149_999, 5000, 0, 3}, false},
		{"third brake later", wire.Counters{150_000, 5000, 0, 3}, true},
		{"parked", wire.Counters{}, false},
	} {
		from, to := wire.Opening{Salt: wire.Salt{1}}, wire.Opening{Counters: c.to, Salt: wire.Salt{2}}
		st := claim.Statement{From: claim.Commit(from), To: claim.Commit(to), Rows: rows}
		if err := st.Check(from, to); (err == nil) != c.safe {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestShowBuildsAgain holds for every policy that the terms accept.
func TestShowBuildsAgain(t *testing.T) {
	row := rapid.Custom(func(t *rapid.T) wire.Row {
		var r wire.Row
		for i := range r.A {
			r.A[i] = int32(rapid.OneOf(rapid.Just[int64](0), rapid.Int64Range(-1<<31, 1<<31-1)).Draw(t, "a"))
		}
		r.B = rapid.Int64Range(-100, 100).Draw(t, "b")
		return r
	})
	seen := 0
	rapid.Check(t, func(t *rapid.T) {
		p := &terms.Policy{
			Version: wire.Version, Program: testProgram, Serial: rapid.Uint16Min(1).Draw(t, "serial"),
			Kind:    rapid.SampledFrom([]string{terms.KindMileage, terms.KindSafe, "feature/lane"}).Draw(t, "kind"),
			FromDay: rapid.Uint32Range(0, 1000).Draw(t, "from"), ToDay: rapid.Uint32Range(1000, terms.MaxDay).Draw(t, "to"),
			Circuit: testLock.Circuit, ProvingKey: testLock.ProvingKey, VerifyingKey: testLock.VerifyingKey, Lock: testLock.ID(), CapKm: rapid.Uint32Range(1, 5000).Draw(t, "cap"),
			MinAgent: rapid.SampledFrom([]string{"", "0.1.0", "10.20.30"}).Draw(t, "agent"), Stop: rapid.Bool().Draw(t, "stop"),
			Rows: rapid.SliceOfN(row, 0, 2).Draw(t, "rows"),
		}
		for i := range rapid.IntRange(1, 5).Draw(t, "tiers") {
			tier := terms.Tier{Rows: rapid.SliceOfN(row, 0, 1).Draw(t, "tier")}
			if p.Kind == terms.KindMileage {
				tier.Km = uint32(i + 1)
				tier.Rows = append([]wire.Row{distance(tier.Km)}, tier.Rows...)
			}
			p.Tiers = append(p.Tiers, tier)
		}
		if p.Validate() != nil {
			t.Skip("not a policy")
		}
		seen++
		var b strings.Builder
		if err := (&Document{Policy: p}).WriteYAML(&b); err != nil {
			t.Fatal(err)
		}
		var s Source
		if err := config.Decode("shown", []byte(b.String()), &s); err != nil {
			t.Fatalf("%v in\n%s", err, b.String())
		}
		if got := s.Policy(testProgram, testLock); !bytes.Equal(must(wire.Marshal(got)), must(wire.Marshal(p))) {
			t.Fatalf("built again: %s\nfrom\n%s", cmp.Diff(p, got), b.String())
		}
	})
	if seen == 0 {
		t.Error("no policy was drawn")
	}
}

func TestWords(t *testing.T) {
	row := func(b int64, a ...int32) (r wire.Row) {
		copy(r.A[:], a)
		r.B = b
		return r
	}
	for _, c := range []struct {
		row  wire.Row
		want string
	}{
		{row(40_000, 1), "at least 40 km driven"},
		{row(1500, 1), "at least 1500 m driven"},
		{row(0, -1, 70), "at most 70 m driven for every 1 s of driving"},
		{row(1, 0, 1, -20), "less than 1 s above the set speed for every 20 s of driving"},
		{row(0, 2, 0, 0, -100_000), "at most 2 hard brakes for every 100 km driven"},
		{row(-1, 0, 0, 0, -1), "at most 1 hard brake"},
		{row(0, 0, 0, 0, 0, 0, 0, -1), "at most 0 Wh taken for driving"},
		{row(5000, 0, 0, 0, 0, 0, 1), "at least 5 km driven with assistance"},
		{row(60, 0, 0, 0, 0, 1), "at least 60 s of driving at night"},
		{row(7, 3), "3·odometer_m ≥ 7"},
		{row(2, 1, -20), "odometer_m − 20·drive_time_s ≥ 2"},
		{row(-5, -1, 2, 0, 1), "−odometer_m + 2·drive_time_s + hard_brake_n ≥ -5"},
		{row(-1, -3), "−3·odometer_m ≥ -1"},
		{row(1, -1<<31, 1<<31-1), "less than 2147483647 m driven for every 2147483648 s of driving"},
		{row(0), "0 ≥ 0"},
	} {
		if got := Words(c.row); got != c.want {
			t.Errorf("%v: %q, want %q", c.row, got, c.want)
		}
	}
}

func TestSourceRefuses(t *testing.T) {
	for name, c := range map[string]struct{ file, old, new, want string }{
		"coefficient":     {"safe", "overspeed_s: -20", "overspeed_s: -2147483649", "2147483649"},
		"bound":           {"safe", "at_least: 1}", "at_least: 4611686018427387905}", "beyond 2^62"},
		"bound type":      {"safe", "at_least: 1}", "at_least: 9223372036854775808}", "9223372036854775808"},
		"day":             {"safe", "to_day: 2147483647", "to_day: 2147483648", "at most 2147483647"},
		"serial":          {"safe", "serial: 2", "serial: 0", "serial: must be"},
		"serial type":     {"safe", "serial: 2", "serial: 65536", "65536"},
		"counter":         {"safe", "hard_brake_n: -", "brakes: -", `counter "brakes" is none of`},
		"counter in tier": {"feature-assist", "{counters: {assisted_m: 1}, at_least: 100000}", "{counters: {x: 1}, at_least: 100000}", `tiers[1].rows[0]: counter "x"`},
		"km elsewhere":    {"safe", "  - rows:", "  - km: 4\n    rows:", "only policies of kind mileage credit"},
		"both tiers":      {"mileage", "tiers_km:", "tiers: [{km: 1}]\ntiers_km:", "tiers_km: stands for all tiers"},
		"tiers_km":        {"safe", "kind: safe", "kind: safe\ntiers_km: [1]", "tiers_km: stands for all tiers"},
		"agent":           {"safe", "min_agent: 0.1.0", "min_agent: 0.-1.0", "is not major.minor.patch"},
	} {
		text := string(must(os.ReadFile(filepath.Join(configs, c.file+".yaml"))))
		if !strings.Contains(text, c.old) {
			t.Fatalf("%s: nothing to spoil", name)
		}
		var s Source
		if err := config.Decode("p", []byte(strings.Replace(text, c.old, c.new, 1)), &s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func newKey(t testing.TB) (*ecdsa.PrivateKey, wire.PublicKey) {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	return key, must(wire.NewPublicKey(key.Public()))
}

// TestBuildSignVerify takes the shipped sources the whole way, and spoils one thing at a time.
func TestBuildSignVerify(t *testing.T) {
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	lock := must(claim.Setup(keys))
	key, public := newKey(t)
	stranger, _ := newKey(t)
	p := &Program{
		Program: &terms.Program{Environment: wire.Development, Policy: wire.KeySet{public}}, ID: testProgram,
		Charter: &terms.Charter{Program: testProgram, Kinds: []string{terms.KindMileage, terms.KindSafe}, TierRatioMilli: 1200},
	}
	sources := []string{configs + "/mileage.yaml", configs + "/safe.yaml"}
	docs, err := p.Build(sources, keys)
	if err != nil {
		t.Fatal(err)
	}
	if docs[1].Circuit != lock.Circuit || docs[1].ProvingKey != lock.ProvingKey || docs[1].VerifyingKey != lock.VerifyingKey || docs[1].Program != p.ID {
		t.Error("the lock's hashes or the program's are not in the policy")
	}
	refused := func(name, want string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	_, err = p.Build([]string{configs + "/feature-assist.yaml"}, keys)
	refused("kind", `does not allow policies of kind "feature/assist"`, err)
	_, err = p.Build(append(sources, sources[0]), keys)
	refused("twice", "two policies have serial 1", err)
	production := *p
	production.Program = &terms.Program{Environment: wire.Production}
	_, err = production.Build(sources, keys)
	refused("production", "run the ceremony", err)

	var paths []string
	unsigned := must(wire.Marshal(docs[0]))
	for i, d := range docs {
		signed, err := p.Sign(key, &Document{Policy: d})
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, filepath.Join(dir, string(rune('a'+i))))
		if err := os.WriteFile(paths[i], signed, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := p.Verify(paths)
	if err != nil || cmp.Diff(docs, got) != "" {
		t.Fatalf("%v\n%s", err, cmp.Diff(docs, got))
	}
	_, err = p.Sign(stranger, &Document{Policy: docs[0]})
	refused("stranger", "does not name key", err)
	id := public.ID()
	_, err = p.Sign(key, &Document{Policy: docs[0], Signer: &id})
	refused("signed", "signed it already", err)
	other := *p
	other.ID = wire.Hash{9}
	_, err = other.Sign(key, &Document{Policy: docs[0]})
	refused("other program", "belongs to another program", err)
	_, err = other.Verify(paths)
	refused("other program", paths[0]+": cannot accept policy: it belongs to another program", err)
	_, err = p.Verify([]string{paths[0], paths[0]})
	refused("verify twice", "two policies have serial 1", err)
	narrow := *p
	narrow.Charter = &terms.Charter{Program: testProgram, Kinds: []string{terms.KindMileage}, TierRatioMilli: 1200}
	_, err = narrow.Verify(paths)
	refused("charter", `kind "safe"`, err)
	_, err = narrow.Sign(key, &Document{Policy: docs[1]})
	refused("charter", `kind "safe"`, err)

	d, err := Read(paths[1])
	if err != nil || d.Signer == nil || *d.Signer != public.ID() || cmp.Diff(docs[1], d.Policy) != "" {
		t.Fatalf("%+v, %v", d, err)
	}
	var shown struct {
		Program string
		Rows    []any
		Tiers   []struct{ Rows []struct{ Words string } }
		Signer  string `json:"unverified_signer"`
	}
	if err := json.Unmarshal(must(json.Marshal(d)), &shown); err != nil || shown.Program != p.ID.String() || shown.Rows == nil ||
		shown.Tiers[0].Rows[1].Words != "at most 2 hard brakes for every 100 km driven" || shown.Signer != public.ID().String() {
		t.Errorf("%+v, %v", shown, err)
	}
	for name, path := range map[string]string{"signed": paths[0], "unsigned": filepath.Join(dir, "unsigned")} {
		b := unsigned
		if name == "signed" {
			b = must(os.ReadFile(path))
		} else if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for bad, b := range map[string][]byte{"truncated": b[:len(b)-1], "trailing": append(bytes.Clone(b), 0), "empty": {}, "tag alone": {coseSign1}} {
			spoiled := filepath.Join(dir, "spoiled")
			if err := os.WriteFile(spoiled, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Read(spoiled); err == nil || !strings.Contains(err.Error(), "cannot read policy "+spoiled) {
				t.Errorf("%s, %s: %v", name, bad, err)
			}
		}
	}
}
