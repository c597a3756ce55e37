package evidence

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/identity"
	"rawstone/collector/internal/store"
	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

var (
	testProgram = wire.Hash{1}
	testKey     = wire.Hash{4}
)

// accept is a verifier that accepts a proof that names the statement that it is for.
type accept struct{}

func (accept) Verify(s claim.Statement, p wire.Proof) error {
	if p != proof(s) {
		return errors.New("cannot verify proof: it does not prove the statement")
	}
	return nil
}

func proof(s claim.Statement) (p wire.Proof) {
	h := wire.ID([]byte(fmt.Sprint(s)))
	copy(p[:], h[:])
	return p
}

type ecuKey struct {
	key         *ecdsa.PrivateKey
	pub         wire.PublicKey
	certificate []byte
}

func newECU(t testing.TB) ecuKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := wire.NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return ecuKey{key: k, pub: pub}
}

// at returns snapshot seq, on day seq+1.
func (e ecuKey) at(t testing.TB, seq uint64) wire.Snapshot {
	t.Helper()
	s, err := attest.Sign(e.key, testProgram, seq, uint32(seq+1), wire.Commitment{byte(seq), 1})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testPolicy(serial uint16, kind string) *terms.Policy {
	p := &terms.Policy{Version: wire.Version, Program: testProgram, Serial: serial, Kind: kind, ToDay: 1000, VerifyingKey: testKey, CapKm: 100}
	p.Rows = []wire.Row{{A: [wire.NumCounters]int32{-1, 70}}}
	for _, km := range []uint32{5, 50} {
		r := wire.Row{B: int64(km) * 1000}
		r.A[wire.OdometerM] = 1
		if kind != terms.KindMileage {
			km = 0
		}
		p.Tiers = append(p.Tiers, terms.Tier{Km: km, Rows: []wire.Row{r}})
	}
	return p
}

// span returns the claim of the span of an ECU between two snapshots, at tier 1 of a policy.
func span(from, to wire.Snapshot, e ecuKey, p *terms.Policy) *wire.Claim {
	st := claim.Statement{From: from.Commitment, To: to.Commitment, Rows: p.Statement(1)}
	return &wire.Claim{Version: wire.Version, ECU: e.pub.ID(), From: wire.NewOrigin(from), To: to,
		Proofs: []wire.ClaimProof{{Policy: p.Serial, Tier: 1, Proof: proof(st)}}}
}

// head makes a claim name the snapshot that it begins with by number alone.
func head(c *wire.Claim) *wire.Claim {
	c.From = wire.Origin{Seq: c.From.Seq}
	return c
}

// register returns the registry of a key that was bound to CAR1 from snapshot 10 on, credited up to 20 and handed over at 30, and to CAR2
// from 30 on and credited up to 40. When it is revoked, CAR1 had its cut at 20.
func register(t testing.TB, e ecuKey, revoked bool) *Registry {
	t.Helper()
	r := &Registry{Program: testProgram, ecus: map[wire.KeyID]ecu{}}
	one := binding{vehicle: "CAR1", first: e.at(t, 10).Head(), head: e.at(t, 20).Head(), closed: true, cut: 30}
	two := binding{vehicle: "CAR2", first: e.at(t, 30).Head(), head: e.at(t, 40).Head()}
	if revoked {
		one.cut, two.closed, two.cut = 20, true, 42
	}
	r.ecus[e.pub.ID()] = ecu{key: e.pub, revoked: revoked, bindings: []binding{one, two}}
	return r
}

func TestCheck(t *testing.T) {
	e, stranger := newECU(t), newECU(t)
	mileage, safe, newer := testPolicy(1, terms.KindMileage), testPolicy(2, terms.KindSafe), testPolicy(3, terms.KindMileage)
	newer.FromDay = 900
	at := func(seq uint64) wire.Snapshot { return e.at(t, seq) }
	good := func() *wire.Claim { return span(at(10), at(20), e, mileage) }
	with := func(edit func(*wire.Claim)) *wire.Claim { c := good(); edit(c); return c }
	twin, err := attest.Sign(e.key, testProgram, 15, 16, wire.Commitment{9, 9})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := attest.Sign(e.key, wire.Hash{2}, 20, 21, at(20).Commitment)
	if err != nil {
		t.Fatal(err)
	}
	both := span(at(10), at(20), e, mileage)
	both.Proofs = append(both.Proofs, span(at(10), at(20), e, safe).Proofs...)
	onlyOne := span(at(10), at(20), e, mileage)
	onlyOne.Proofs = append(onlyOne.Proofs, span(at(10), at(19), e, safe).Proofs...)
	for _, c := range []struct {
		name    string
		revoked bool
		claim   *wire.Claim
		beside  []*wire.Claim
		want    string // the refusal, or the vehicle
	}{
		{"whole", false, good(), nil, "CAR1"},
		{"from the binding", false, head(good()), nil, "CAR1"},
		{"from the other binding", false, head(span(at(30), at(31), e, mileage)), nil, "CAR2"},
		{"from the head", false, head(span(at(40), at(41), e, mileage)), nil, "CAR2"},
		{"up to the other binding", false, span(at(20), at(30), e, mileage), nil, "CAR1"},
		{"two proofs", false, both, nil, "CAR1"},
		{"one bad of two proofs", false, onlyOne, nil, "policy 2, tier 1: cannot verify proof"},
		{"from nowhere", false, head(span(at(15), at(20), e, mileage)), nil, "give the claim that ends there"},
		{"from the one beside", false, head(span(at(15), at(20), e, mileage)), []*wire.Claim{span(at(10), at(15), e, mileage)}, "CAR1"},
		{"from the begin of one beside", false, head(span(at(15), at(20), e, mileage)), []*wire.Claim{span(at(15), at(16), e, mileage)}, "CAR1"},
		{"from a forged one beside", false, head(span(at(15), at(20), e, mileage)),
			[]*wire.Claim{{ECU: e.pub.ID(), From: wire.Origin{Seq: 10}, To: stranger.at(t, 15)}}, "give the claim that ends there"},
		{"from two under one number", false, head(span(at(15), at(20), e, mileage)),
			[]*wire.Claim{span(at(10), at(15), e, mileage), span(at(10), twin, e, mileage)}, "two snapshots under one number"},
		{"to two under one number", false, span(at(10), at(15), e, mileage), []*wire.Claim{span(at(10), twin, e, mileage)}, "two snapshots under one number"},
		{"not the registry's", false, span(at(10), func() wire.Snapshot {
			s, err := attest.Sign(e.key, testProgram, 30, 31, wire.Commitment{7})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}(), e, mileage), nil, "two snapshots under one number"},
		{"unknown key", false, span(stranger.at(t, 10), stranger.at(t, 20), stranger, mileage), nil, "does not know ECU key"},
		{"another key's end", false, with(func(c *wire.Claim) { c.To = stranger.at(t, 20) }), nil, "snapshot 20: cannot verify"},
		{"another key's begin", false, with(func(c *wire.Claim) { c.From = wire.NewOrigin(stranger.at(t, 10)) }), nil, "snapshot 10: cannot verify"},
		{"another program's", false, with(func(c *wire.Claim) { c.To = foreign }), nil, "snapshot 20: cannot verify"},
		{"tier one lower", false, with(func(c *wire.Claim) { c.Proofs[0].Tier = 0 }), nil, "policy 1, tier 0: cannot verify proof"},
		{"no such tier", false, with(func(c *wire.Claim) { c.Proofs[0].Tier = 2 }), nil, "has no tier 2"},
		{"other policy", false, with(func(c *wire.Claim) { c.Proofs[0].Policy = 9 }), nil, "policy 9 is not among those given"},
		{"policy not yet", false, with(func(c *wire.Claim) { c.Proofs[0].Policy = 3 }), nil, "policy 3 is not in force on day 21"},
		{"policy no longer", false, span(at(40), at(899), e, mileage), nil, "policy 1 is not in force on day 900"},
		{"new policy", false, span(at(40), at(899), e, newer), nil, "CAR2"},
		{"commitments swapped", false, with(func(c *wire.Claim) {
			st := claim.Statement{From: at(20).Commitment, To: at(10).Commitment, Rows: mileage.Statement(1)}
			c.Proofs[0].Proof = proof(st)
		}), nil, "cannot verify proof"},
		{"before the binding", false, span(at(9), at(20), e, mileage), nil, "it begins before snapshot 10"},
		{"across the binding", false, span(at(20), at(31), e, mileage), nil, "it begins before snapshot 30, with which its ECU key was bound to vehicle CAR2"},
		{"revoked, before", true, span(at(30), at(40), e, mileage), nil, "CAR2"},
		{"revoked, up to the cut", true, span(at(30), at(42), e, mileage), nil, "CAR2"},
		{"revoked, behind", true, span(at(30), at(43), e, mileage), nil, "revoked and earns nothing behind snapshot 42"},
		{"revoked, behind the first cut", true, span(at(20), at(21), e, mileage), nil, "revoked and earns nothing behind snapshot 20"},
		{"no day", false, head(span(at(10), func() wire.Snapshot {
			s, err := attest.Sign(e.key, testProgram, 11, 11, wire.Commitment{7})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}(), e, mileage)), nil, "ends on or before the day"},
	} {
		checker, err := New(Config{Program: testProgram, Policies: []*terms.Policy{mileage, safe, newer}, Registry: register(t, e, c.revoked),
			Verifiers: map[wire.Hash]Verifier{testKey: accept{}}})
		if err != nil {
			t.Fatal(err)
		}
		found, errs := checker.Check(append([]*wire.Claim{c.claim}, c.beside...))
		if strings.HasPrefix(c.want, "CAR") {
			if errs[0] != nil || found[0].Vehicle != c.want || len(found[0].Proven) != len(c.claim.Proofs) {
				t.Errorf("%s: %+v, %v", c.name, found[0], errs[0])
			}
		} else if errs[0] == nil || !strings.Contains(errs[0].Error(), c.want) {
			t.Errorf("%s: %v", c.name, errs[0])
		}
	}
	checker, err := New(Config{Program: testProgram, Policies: []*terms.Policy{mileage}, Registry: register(t, e, false),
		Verifiers: map[wire.Hash]Verifier{testKey: accept{}}})
	if err != nil {
		t.Fatal(err)
	}
	mileage.CapKm = 4
	if found, _ := checker.Check([]*wire.Claim{good()}); found[0].Proven[0].Km != 40 || found[0].From != at(10).Head() || found[0].To != at(20).Head() {
		t.Errorf("50 km in 10 days at a cap of 4: %+v", found[0])
	}
}

func TestNewRefuses(t *testing.T) {
	e := newECU(t)
	for name, c := range map[string]struct {
		edit func(*Config)
		want string
	}{
		"registry's program": {func(c *Config) { c.Registry.Program = wire.Hash{2} }, "registry belongs to another program"},
		"policy's program":   {func(c *Config) { c.Policies[0].Program = wire.Hash{2} }, "policy 1 belongs to another program"},
		"verifying key":      {func(c *Config) { c.Policies[0].VerifyingKey = wire.Hash{2} }, "no verifying key for policy 1"},
		"twice":              {func(c *Config) { c.Policies = append(c.Policies, c.Policies[0]) }, "two policies have serial 1"},
		"no registry":        {func(c *Config) { c.Registry = nil }, "registry missing"},
		"no policies":        {func(c *Config) { c.Policies = nil }, "policies or registry missing"},
		"no program":         {func(c *Config) { c.Program = wire.Hash{} }, "program, policies"},
	} {
		cfg := Config{Program: testProgram, Policies: []*terms.Policy{testPolicy(1, terms.KindMileage)}, Registry: register(t, e, false),
			Verifiers: map[wire.Hash]Verifier{testKey: accept{}}}
		c.edit(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func testTime() time.Time { return time.Unix(86400*100, 0) }

// TestCertificates checks claims of a certified key, of one without and of one whose certificate is another authority's.
func TestCertificates(t *testing.T) {
	dir, other, mileage := filepath.Join(t.TempDir(), "ca"), filepath.Join(t.TempDir(), "other"), testPolicy(1, terms.KindMileage)
	if err := errors.Join(ca.Init(dir, testTime()), ca.Init(other, testTime())); err != nil {
		t.Fatal(err)
	}
	pool, err := ca.Pool(filepath.Join(dir, "ecu-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Program: testProgram, Policies: []*terms.Policy{mileage}, Verifiers: map[wire.Hash]Verifier{testKey: accept{}}, ECUCA: pool}
	for name, c := range map[string]struct {
		dir  string
		at   time.Time
		want string
	}{
		"certified":         {dir, testTime(), ""},
		"years later":       {dir, testTime().AddDate(90, 0, 0), ""},
		"before":            {dir, testTime().AddDate(-1, 0, 0), "not yet valid"},
		"another authority": {other, testTime(), "unknown authority"},
		"no certificate":    {"", testTime(), "there is none"},
	} {
		e := newECU(t)
		id := attest.Identity{Key: e.pub, Program: testProgram, Snapshot: e.at(t, 7)}
		cfg.Registry, cfg.At = register(t, e, false), c.at
		if c.dir != "" {
			held := cfg.Registry.ecus[e.pub.ID()]
			if held.certificate, err = ca.IssueECU(c.dir, &id, testTime()); err != nil {
				t.Fatal(err)
			}
			cfg.Registry.ecus[e.pub.ID()] = held
		}
		checker, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, errs := checker.Check([]*wire.Claim{span(e.at(t, 10), e.at(t, 20), e, mileage)})
		if c.want == "" && errs[0] != nil || c.want != "" && (errs[0] == nil || !strings.Contains(errs[0].Error(), c.want)) {
			t.Errorf("%s: got %v, want %q in it", name, errs[0], c.want)
		}
	}
	cfg.At = time.Time{}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "do not come together") {
		t.Errorf("authorities without a time: %v", err)
	}
}

// TestGapBetweenBindings holds that what a key counted between two bindings is nobody's.
func TestGapBetweenBindings(t *testing.T) {
	e, mileage := newECU(t), testPolicy(1, terms.KindMileage)
	r := register(t, e, false)
	r.ecus[e.pub.ID()].bindings[0].cut = 25
	checker, err := New(Config{Program: testProgram, Policies: []*terms.Policy{mileage}, Registry: r, Verifiers: map[wire.Hash]Verifier{testKey: accept{}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from, to uint64
		want     string
	}{
		{20, 25, ""}, {20, 26, "handed over at snapshot 25"}, {26, 30, "handed over at snapshot 25"}, {28, 31, "it begins before snapshot 30"}, {30, 31, ""},
	} {
		_, errs := checker.Check([]*wire.Claim{span(e.at(t, c.from), e.at(t, c.to), e, mileage)})
		if c.want == "" && errs[0] != nil || c.want != "" && (errs[0] == nil || !strings.Contains(errs[0].Error(), c.want)) {
			t.Errorf("%d to %d: got %v, want %q in it", c.from, c.to, errs[0], c.want)
		}
	}
}

// TestExportRegistry takes a registered and a revoked key through the file.
func TestExportRegistry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	db, err := store.Open(t.Context(), store.Config{Path: path, Role: store.Ingest | store.Settle | store.Web | store.Audit | store.Admin})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "ca")
	if err := ca.Init(dir, testTime()); err != nil {
		t.Fatal(err)
	}
	pool, err := ca.Pool(filepath.Join(dir, "ecu-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := identity.New(identity.Config{DB: db, Program: testProgram, ECUCA: pool, TokenLife: time.Hour,
		Clock: terms.Clock{Timing: terms.Timing{DayS: 86400, DropS: 600}, Now: testTime}})
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]ecuKey{"CAR1": newECU(t), "CAR2": newECU(t)}
	for id, k := range keys {
		v := identity.Vehicle{ID: id, Identity: attest.Identity{Key: k.pub, Program: testProgram, Snapshot: k.at(t, 7)}}
		if v.Certificate, err = ca.IssueECU(dir, &v.Identity, testTime()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := r.Add(t.Context(), v); err != nil {
			t.Fatal(err)
		}
		k.certificate = v.Certificate
		keys[id] = k
	}
	gone := keys["CAR2"].pub.ID()
	if err := db.Update(t.Context(), func(tx *store.Tx) error {
		return tx.CloseBinding(t.Context(), ledger.HandoverOpening{ECU: gone, Cut: 7, Revoked: true})
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := ExportRegistry(t.Context(), store.Config{Path: path, Role: store.Audit}, testProgram, &b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	reg, err := ReadRegistry(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if reg.Program != testProgram || len(reg.ecus) != 2 {
		t.Errorf("%+v", reg)
	}
	for id, k := range keys {
		e := reg.ecus[k.pub.ID()]
		if first := k.at(t, 7).Head(); e.key != k.pub || !bytes.Equal(e.certificate, k.certificate) || e.revoked != (id == "CAR2") ||
			e.bindings[0] != (binding{vehicle: id, first: first, head: first, closed: e.revoked, cut: map[string]uint64{"CAR2": 7}[id]}) {
			t.Errorf("%s: %+v", id, e)
		}
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"empty":           {text, "", "cannot read registry"},
		"truncated":       {text, text[:len(text)/2], "cannot read registry"},
		"something after": {text, text + "{}", "something follows"},
		"unknown key":     {`"revoked"`, `"revokd"`, "unknown field"},
		"program":         {`"program": "01`, `"program": "`, "the program is not 32 bytes"},
		"key length":      {`"key": "0`, `"key": "`, "its key is not 33 bytes"},
		"not a point":     {`"key": "0`, `"key": "1`, "not a point"},
		"no bindings":     {`"bindings": [`, `"bindings": [], "x": [`, "unknown field"},
		"commitment":      {`"commitment": "07`, `"commitment": "`, "a commitment is not 32 bytes"},
		"vehicle":         {`"CAR1"`, `"car"`, "vehicle id"},
		"head":            {`"seq": 7`, `"seq": 8`, "snapshots are not in order"},
		"open":            {`"cut": 7`, `"cut": null`, "is open and its key is revoked"},
		"cut":             {`"cut": 7`, `"cut": 6`, "snapshots are not in order"},
	} {
		if !strings.Contains(text, c.old) {
			t.Fatalf("%s: nothing to spoil", name)
		}
		if _, err := ReadRegistry(strings.NewReader(strings.Replace(text, c.old, c.new, 1))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// One key twice, and none at all.
	one := ecuFile{Key: strings.Repeat("0", 66)}
	if err := reg.add(one); err == nil {
		t.Error("accepted a key that is no point")
	}
	k := keys["CAR1"]
	h := spell(k.at(t, 7).Head())
	again := ecuFile{Key: hexKey(k.pub), Bindings: []bindingFile{{Vehicle: "CAR1", First: h, Head: h}}}
	if err := reg.add(again); err == nil || !strings.Contains(err.Error(), "stands twice") {
		t.Errorf("twice: %v", err)
	}
	again.Key, again.Bindings = hexKey(newECU(t).pub), nil
	if err := reg.add(again); err == nil || !strings.Contains(err.Error(), "bound to no vehicle") {
		t.Errorf("unbound: %v", err)
	}
	for _, cut := range []*uint64{nil, new(uint64(8))} {
		again.Bindings = []bindingFile{{Vehicle: "CAR1", First: h, Head: h, Cut: cut}, {Vehicle: "CAR2", First: h, Head: h}}
		if err := reg.add(again); err == nil || !strings.Contains(err.Error(), "binding 1 begins before the end") {
			t.Errorf("overlapping: %v", err)
		}
	}
	again.Bindings[0].Cut = new(uint64(7))
	if err := reg.add(again); err != nil {
		t.Errorf("handed over: %v", err)
	}
}

func hexKey(p wire.PublicKey) string { return hex.EncodeToString(p[:]) }

func TestExplain(t *testing.T) {
	e := newECU(t)
	mileage, safe := testPolicy(1, terms.KindMileage), testPolicy(2, terms.KindSafe)
	c := span(e.at(t, 10), e.at(t, 20), e, mileage)
	c.Proofs[0].Tier = 0
	c.Forfeit = true
	c.Proofs = append(c.Proofs, span(e.at(t, 10), e.at(t, 20), e, safe).Proofs...)
	for _, x := range []struct {
		name     string
		claim    *wire.Claim
		policies []*terms.Policy
		want     []string
		not      []string
	}{
		{"whole", c, []*terms.Policy{mileage, safe}, []string{
			"Claim " + wire.ID(must(c.Encode())).String(), "ECU key " + e.pub.ID().String(),
			"snapshot 10 on program day 11 and snapshot 20 on program day 21. At most 9 other snapshots lie between them; the span is 10 days.",
			"is given up", "under policy 1 (mileage), tier 0:\n  - at least 5 km driven;\n  - at most 70 m driven for every 1 s of driving;\n  - worth 5 km, at most 100 for each day of the span.\n-",
			"it is 5 km or more. An agent claims the highest tier it reaches, so it is likely below 50 km", "under policy 2 (safe), tier 1:\n  - at least 50 km driven;\n  - at most 70 m driven for every 1 s of driving.\n\nIt does not reveal",
		}, []string{"give that policy"}},
		{"top tier", head(span(e.at(t, 10), e.at(t, 12), e, mileage)), []*terms.Policy{mileage}, []string{
			"begins with snapshot 10, which the collector has; at most 1 other snapshot lies", "it is 50 km or more;",
		}, []string{"likely below", "given up"}},
		{"one day", span(e.at(t, 10), e.at(t, 11), e, mileage), []*terms.Policy{mileage}, []string{"; the span is 1 day.\n"}, nil},
		{"unknown policy", span(e.at(t, 10), e.at(t, 11), e, mileage), nil, []string{"tier 1 of policy 1", "At most 0 other snapshots lie"}, []string{"km"}},
	} {
		var b strings.Builder
		if err := Explain(&b, x.claim, x.policies); err != nil {
			t.Fatal(err)
		}
		for _, want := range x.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s: %q is not in\n%s", x.name, want, b.String())
			}
		}
		for _, not := range x.not {
			if strings.Contains(b.String(), not) {
				t.Errorf("%s: %q is in\n%s", x.name, not, b.String())
			}
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
