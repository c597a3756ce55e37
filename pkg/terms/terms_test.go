package terms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"rawstone/pkg/wire"
)

func testKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func testPublic(t testing.TB, k crypto.Signer) wire.PublicKey {
	t.Helper()
	p, err := wire.NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func testPolicy() *Policy {
	p := &Policy{
		Version: wire.Version, Program: wire.Hash{1}, Serial: 1, Kind: KindMileage, FromDay: 10, ToDay: 20,
		Circuit: wire.Hash{2}, ProvingKey: wire.Hash{3}, VerifyingKey: wire.Hash{4}, Lock: wire.Hash{5}, CapKm: 100, MinAgent: "0.1.0",
		Rows: []wire.Row{{A: [wire.NumCounters]int32{-1, 70}, B: 0}},
	}
	for _, km := range []uint32{1, 5, 40, 50} {
		r := wire.Row{B: int64(km) * 1000}
		r.A[wire.OdometerM] = 1
		p.Tiers = append(p.Tiers, Tier{Km: km, Rows: []wire.Row{r}})
	}
	return p
}

func testCharter() *Charter {
	return &Charter{
		Version: wire.Version, Program: wire.Hash{1}, Serial: 1, Kinds: []string{"feature/cruise", KindMileage}, TierRatioMilli: 1200,
		Usage: Usage{Families: wire.AllFamilies, EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 1000, Scale: []uint16{1, 1, 30, 1, 1}, YearlyDispatches: 53},
	}
}

func testProgram(t testing.TB) *Program {
	return &Program{
		Version: wire.Version, Name: "test", Environment: wire.Development,
		Timing:  Timing{GenesisS: 1000, OffsetS: 28800, DayS: 60, DropS: 10},
		Receipt: wire.KeySet{testPublic(t, testKey(t))}, Policy: wire.KeySet{testPublic(t, testKey(t))},
		Board: wire.KeySet{testPublic(t, testKey(t)), testPublic(t, testKey(t))}, BoardQuorum: 2,
		Validators: []Validator{{Name: "v", Key: [32]byte{1}, VRF: [32]byte{2}}}, Quorum: 1, LogKey: "log+1+a",
	}
}

func TestCharterQuorum(t *testing.T) {
	a, b, stranger := testKey(t), testKey(t), testKey(t)
	p := &Program{Board: wire.KeySet{testPublic(t, a), testPublic(t, b)}, BoardQuorum: 2}
	both, err := SealCharter([]crypto.Signer{a, b}, testCharter())
	if err != nil {
		t.Fatal(err)
	}
	_, id, err := OpenCharter(p, wire.Hash{1}, both)
	if err != nil {
		t.Fatal(err)
	}
	if _, swapped, err := func() (*Charter, wire.Hash, error) {
		s, err := SealCharter([]crypto.Signer{b, a}, testCharter())
		if err != nil {
			t.Fatal(err)
		}
		return OpenCharter(p, wire.Hash{1}, s)
	}(); err != nil || swapped != id {
		t.Errorf("the charter's id depends on who signed first: %v", err)
	}
	for name, signers := range map[string][]crypto.Signer{"one": {a}, "one twice": {a, a}, "stranger": {a, stranger}} {
		s, err := SealCharter(signers, testCharter())
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := OpenCharter(p, wire.Hash{1}, s); err == nil {
			t.Errorf("%s: accepted without the quorum", name)
		}
	}
	other := testCharter()
	other.Serial++
	s1, _ := SealCharter([]crypto.Signer{a}, testCharter())
	s2, _ := SealCharter([]crypto.Signer{b}, other)
	mixed := slices.Concat([]byte{0x81, 0x82}, s1[2:], s2[2:]) // [[s1]] and [[s2]] are [[s1, s2]]
	if s1[0] != 0x81 || s1[1] != 0x81 {
		t.Fatalf("a charter begins with %x", s1[:2])
	}
	if _, _, err := OpenCharter(p, wire.Hash{1}, mixed); err == nil {
		t.Error("accepted a quorum over two texts")
	}
}

// TestCharterCosigned: board members sign one after another what the one before handed on, from the bare text on.
func TestCharterCosigned(t *testing.T) {
	p := testProgram(t)
	a, b := testKey(t), testKey(t)
	p.Board = wire.KeySet{testPublic(t, a), testPublic(t, b)}
	p.BoardQuorum = 2
	text, err := wire.Marshal(testCharter())
	if err != nil {
		t.Fatal(err)
	}
	handed := text
	for i, k := range []crypto.Signer{a, b} {
		c, id, signers, err := ReadCharter(handed)
		if err != nil || id != wire.ID(text) || len(signers) != i || !cmp.Equal(c, testCharter()) {
			t.Fatalf("after %d signatures: %+v, %s by %v, %v", i, c, id, signers, err)
		}
		if _, _, err := OpenCharter(p, wire.Hash{1}, handed); err == nil {
			t.Errorf("accepted with %d signatures", i)
		}
		if handed, err = CosignCharter(k, handed); err != nil {
			t.Fatal(err)
		}
	}
	if _, id, err := OpenCharter(p, wire.Hash{1}, handed); err != nil || id != wire.ID(text) {
		t.Errorf("%s: %v", id, err)
	}
	if _, err := CosignCharter(b, handed); err == nil {
		t.Error("the same key signed twice")
	}
	for _, bad := range [][]byte{nil, {0xa0}, text[:len(text)-1], append(slices.Clone(text), 0), handed[:len(handed)-1], {0x81, 0x80}} {
		if _, _, _, err := ReadCharter(bad); err == nil {
			t.Errorf("read %x", bad)
		}
	}
}

// TestCategoricalCharter: a categorical mechanism has one family and nothing that only noise on a vector needs.
func TestCategoricalCharter(t *testing.T) {
	good := func() *Charter {
		c := testCharter()
		c.Usage = Usage{Mechanism: SubsetSelection, Families: wire.FamilySpeed, EpsilonMicro: 500_000, Scale: []uint16{1, 1, 1, 1, 1}, YearlyDispatches: 12}
		return c
	}
	for name, c := range map[string]struct {
		edit func(*Usage)
		want string
	}{
		"subset selection":    {func(*Usage) {}, ""},
		"randomised response": {func(u *Usage) { u.Mechanism = RandomizedResponse }, ""},
		"unknown":             {func(u *Usage) { u.Mechanism = 3 }, "mechanism 3 is unknown"},
		"two families":        {func(u *Usage) { u.Families |= wire.FamilyHours }, "has one family"},
		"no family":           {func(u *Usage) { u.Families = 0 }, "has one family"},
		"delta":               {func(u *Usage) { u.DeltaPico = 1 }, "no delta"},
		"clip":                {func(u *Usage) { u.Clip = 1 }, "no clip"},
		"scale":               {func(u *Usage) { u.Scale[4] = 2 }, "scales of 1"},
		"four scales":         {func(u *Usage) { u.Scale = u.Scale[:4] }, "4 scales"},
		"gaussian without":    {func(u *Usage) { u.Mechanism = GaussianVector }, "delta is not within"},
		"no epsilon":          {func(u *Usage) { u.EpsilonMicro = 0 }, "epsilon is not within"},
	} {
		doc := good()
		c.edit(&doc.Usage)
		b, err := wire.Marshal(doc)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		got, err := decodeCharter(b)
		if err != nil || !cmp.Equal(got, doc) {
			t.Errorf("%s came back as %+v, %v", name, got, err)
		}
	}
	// The charters of before have no mechanism in their bytes, and mean the vector.
	b, err := wire.Marshal(testCharter())
	if err != nil || !bytes.Contains(b, []byte{0x05, 0xa6}) {
		t.Errorf("a charter of the vector has a usage of other than 6 fields: %x, %v", b, err)
	}
}

func TestPolicyRules(t *testing.T) {
	for name, spoil := range map[string]func(*Policy){
		"kind":              func(p *Policy) { p.Kind = "position" },
		"feature name":      func(p *Policy) { p.Kind = "feature/A B" },
		"ends before":       func(p *Policy) { p.ToDay = p.FromDay - 1 },
		"no key":            func(p *Policy) { p.VerifyingKey = wire.Hash{} },
		"no lock":           func(p *Policy) { p.Lock = wire.Hash{} },
		"cap":               func(p *Policy) { p.CapKm = MaxCapKm + 1 },
		"tiers descend":     func(p *Policy) { p.Tiers[1], p.Tiers[2] = p.Tiers[2], p.Tiers[1] },
		"too far":           func(p *Policy) { p.Tiers[3].Km = MaxTierKm + 1 },
		"too many rows":     func(p *Policy) { p.Rows = slices.Repeat(p.Rows, wire.RowsPerStatement) },
		"no rows":           func(p *Policy) { p.Tiers[0].Rows = nil },
		"bound":             func(p *Policy) { p.Rows[0].B = wire.MaxRowBound + 1 },
		"credits unproven":  func(p *Policy) { p.Tiers[2].Rows[0].B = 39_000 },
		"other coefficient": func(p *Policy) { p.Tiers[2].Rows[0].A[wire.EnergyWh] = 1 },
		"version":           func(p *Policy) { p.MinAgent = "1.2" },
	} {
		p := testPolicy()
		spoil(p)
		if p.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	p := testPolicy()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	if got := p.Credit(3, 1); got != 50 {
		t.Errorf("tier of 50 km in one day credits %d", got)
	}
	p.CapKm = 20
	if got := p.Credit(3, 2); got != 40 {
		t.Errorf("50 km over 2 days capped at 20 credits %d, want 40", got)
	}
	for v, want := range map[string]bool{"0.1.0": true, "0.0.9": false, "1.0.0": true, "0.1": false, "x": false} {
		if p.Allows(v) != want {
			t.Errorf("version %s allowed: %v", v, !want)
		}
	}
	c := testCharter()
	if err := c.Covers(testPolicy()); err != nil {
		t.Error(err)
	}
	fine := testPolicy()
	fine.Tiers[2].Km, fine.Tiers[2].Rows[0].B = 45, 45000
	if err := c.Covers(fine); err == nil {
		t.Error("covers tiers of 45 and 50 km at a ratio of 1.2")
	}
	c.Kinds = c.Kinds[:1]
	if err := c.Covers(testPolicy()); err == nil {
		t.Error("covers a kind it does not name")
	}
}

func TestProductionKeepsRealTime(t *testing.T) {
	p := testProgram(t)
	p.Environment = wire.Production
	if err := p.Validate(); err == nil || !strings.Contains(err.Error(), "production") {
		t.Errorf("short days in production: %v", err)
	}
	p.Timing.DayS, p.Timing.DropS = 86400, 600
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	p.BoardQuorum = 3
	if err := p.Validate(); err == nil {
		t.Error("accepted a quorum that cannot be met")
	}
}

func TestTiming(t *testing.T) {
	tm := Timing{GenesisS: 1000, OffsetS: 28800, DayS: 86400, DropS: 600}
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "unix"), 0)
		day := tm.Day(at)
		if s, e := tm.DayStart(day), tm.DayStart(day+1); at.Before(s) || !at.Before(e) {
			t.Fatalf("day %d does not contain %v", day, at)
		}
		if d := tm.Drop(at); d >= 0 {
			if s, e := tm.DropTime(uint64(d)), tm.DropTime(uint64(d)+1); at.Before(s) || !at.Before(e) {
				t.Fatalf("drop %d does not contain %v", d, at)
			}
		} else if at.Unix() >= tm.GenesisS {
			t.Fatalf("no drop at %v", at)
		}
	})
}

func TestSealedDocuments(t *testing.T) {
	key, other := testKey(t), testKey(t)
	keys := wire.KeySet{testPublic(t, key)}
	program := testProgram(t)
	charter := testCharter()
	for _, m := range []struct {
		name string
		seal func(crypto.Signer) ([]byte, error)
		open func(wire.KeySet, []byte) (any, error)
		want any
	}{
		{"policy", func(k crypto.Signer) ([]byte, error) { return SealPolicy(k, testPolicy()) },
			func(k wire.KeySet, b []byte) (any, error) { return OpenPolicy(k, wire.Hash{1}, b) }, testPolicy()},
		{"program", func(k crypto.Signer) ([]byte, error) { return SealProgram(k, program) },
			func(k wire.KeySet, b []byte) (any, error) { p, _, err := OpenProgram(k[0], b); return p, err }, program},
		{"charter", func(k crypto.Signer) ([]byte, error) { return SealCharter([]crypto.Signer{k}, charter) },
			func(k wire.KeySet, b []byte) (any, error) {
				c, _, err := OpenCharter(&Program{Board: k, BoardQuorum: 1}, wire.Hash{1}, b)
				return c, err
			}, charter},
	} {
		t.Run(m.name, func(t *testing.T) {
			b, err := m.seal(key)
			if err != nil {
				t.Fatal(err)
			}
			got, err := m.open(keys, b)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(m.want, got, cmpopts.IgnoreUnexported(wire.Row{}), cmpopts.EquateEmpty()); d != "" {
				t.Error(d)
			}
			if _, err := m.open(wire.KeySet{testPublic(t, other)}, b); err == nil {
				t.Error("accepted under another key")
			}
			for i := range b {
				bad := slices.Clone(b)
				bad[i] ^= 1 << (i % 8)
				if _, err := m.open(keys, bad); err == nil {
					t.Fatalf("accepted with byte %d of %d altered", i, len(b))
				}
			}
			for _, bad := range [][]byte{b[:len(b)-1], append(slices.Clone(b), 0), nil} {
				if _, err := m.open(keys, bad); err == nil {
					t.Errorf("accepted %d bytes of %d", len(bad), len(b))
				}
			}
		})
	}
}

// FuzzDecode feeds every payload decoder: what one accepts must encode to the same bytes.
func FuzzDecode(f *testing.F) {
	kinds := []func() wire.Message{
		func() wire.Message { return new(Policy) }, func() wire.Message { return new(Charter) }, func() wire.Message { return new(Program) },
	}
	for i, m := range []wire.Message{testPolicy(), testCharter(), testProgram(f)} {
		b, err := wire.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), b)
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		m := kinds[int(kind)%len(kinds)]()
		if wire.Unmarshal(b, m, 1<<16) != nil {
			return
		}
		again, err := wire.Marshal(m)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%T accepted %x and encodes as %x, %v", m, b, again, err)
		}
	})
}

func TestInForce(t *testing.T) {
	policy := func(serial uint16, kind string, from, to uint32, stop bool) *Policy {
		return &Policy{Serial: serial, Kind: kind, FromDay: from, ToDay: to, Stop: stop}
	}
	list := []*Policy{
		policy(4, KindMileage, 20, 30, true), // throws the switch
		policy(1, KindMileage, 10, 40, false),
		policy(2, KindSafe, 0, 50, false),
		policy(3, KindMileage, 15, 18, false), // succeeds it for some days
		policy(6, KindMileage, 25, 26, false), // and lifts the stop
	}
	for _, c := range []struct {
		kind string
		day  uint32
		want uint16 // 0 for none
	}{
		{KindMileage, 9, 0}, {KindMileage, 10, 1}, {KindMileage, 14, 1}, {KindMileage, 15, 3}, {KindMileage, 18, 3}, {KindMileage, 19, 1},
		{KindMileage, 20, 0}, {KindMileage, 24, 0}, {KindMileage, 25, 6}, {KindMileage, 26, 6}, {KindMileage, 27, 0}, {KindMileage, 30, 0},
		{KindMileage, 31, 1}, {KindMileage, 40, 1}, {KindMileage, 41, 0}, {KindSafe, 0, 2}, {KindSafe, 25, 2}, {KindSafe, 51, 0}, {"feature/x", 20, 0},
	} {
		var got uint16
		if p := InForce(list, c.kind, c.day); p != nil {
			got = p.Serial
		}
		if got != c.want {
			t.Errorf("%s on day %d is policy %d, want %d", c.kind, c.day, got, c.want)
		}
	}
}
