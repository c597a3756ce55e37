package charter

import (
	"crypto"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rawstone/pkg/config"
	"rawstone/pkg/terms"
	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

func load(text string) (*terms.Charter, error) {
	dir, err := os.MkdirTemp("", "charter")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "charter.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	var s Source
	if err := config.LoadAs("charter source", path, &s); err != nil {
		return nil, err
	}
	return s.Charter(wire.Hash{1}), nil
}

// TestShownIsSource: every charter there can be, shown and built again, is itself.
func TestShownIsSource(t *testing.T) {
	kinds := []string{"feature/a", "feature/b_2", terms.KindMileage, terms.KindSafe}
	rapid.Check(t, func(rt *rapid.T) {
		c := &terms.Charter{
			Version: wire.Version, Program: wire.Hash{1}, Serial: rapid.Uint16().Draw(rt, "serial"), TierRatioMilli: rapid.Uint16Range(1100, 65_000).Draw(rt, "ratio"),
			Usage: terms.Usage{
				Mechanism:        terms.Mechanism(rapid.IntRange(0, 2).Draw(rt, "mechanism")),
				EpsilonMicro:     rapid.Uint32Range(10_000, 10_000_000).Draw(rt, "epsilon"),
				YearlyDispatches: rapid.Uint16Range(1, 366).Draw(rt, "dispatches"),
			},
		}
		for _, k := range kinds {
			if rapid.Bool().Draw(rt, k) {
				c.Kinds = append(c.Kinds, k)
			}
		}
		vector := c.Usage.Mechanism == terms.GaussianVector
		for range wire.Layouts() {
			scale := uint16(1)
			if vector {
				scale = rapid.Uint16Min(1).Draw(rt, "scale")
			}
			c.Usage.Scale = append(c.Usage.Scale, scale)
		}
		if vector {
			c.Usage.Families = wire.Family(rapid.IntRange(0, int(wire.AllFamilies)).Draw(rt, "families"))
			c.Usage.DeltaPico, c.Usage.Clip = rapid.Uint32Range(1, 10_000_000).Draw(rt, "delta"), rapid.Uint32Range(1, 100_000).Draw(rt, "clip")
		} else {
			c.Usage.Families = wire.Layouts()[rapid.IntRange(0, 4).Draw(rt, "family")].Family
		}
		if err := c.Validate(); err != nil {
			rt.Fatal(err)
		}
		shown := (&Document{Charter: c}).String()
		got, err := load(shown)
		if err != nil {
			rt.Fatalf("%v\n%s", err, shown)
		}
		if len(got.Kinds) == 0 {
			got.Kinds = c.Kinds
		}
		if d := cmp.Diff(c, got); d != "" {
			rt.Fatalf("%s\n%s", d, shown)
		}
	})
}

// TestSourceRefuses: what the document's integers cannot hold is refused and not rounded into range.
func TestSourceRefuses(t *testing.T) {
	const good = `serial: 1
kinds: [mileage, safe]
tier_ratio: 1.2
usage:
  mechanism: gaussian
  families: [hours]
  epsilon: 1
  delta: 1e-6
  clip: 2600
  scale: {hours: 1, speed: 1, trips: 1, charge: 1, feature: 1}
  yearly_dispatches: 53
`
	if _, err := load(good); err != nil {
		t.Fatalf("the good source: %v", err)
	}
	for name, c := range map[string][2]string{
		"epsilon of 11":     {"epsilon: 1", "epsilon: 11"},
		"infinite epsilon":  {"epsilon: 1", "epsilon: 1e999"},
		"epsilon wraps":     {"epsilon: 1", "epsilon: 4295.967296"}, // 2^32 + 10^6 millionths
		"negative epsilon":  {"epsilon: 1", "epsilon: -1"},
		"negative delta":    {"1e-6", "-1e-6"},
		"delta wraps":       {"1e-6", "4.294968296e-3"},
		"no delta":          {"1e-6", "0"},
		"ratio wraps":       {"1.2", "66.736"},
		"ratio of 1":        {"1.2", "1"},
		"unknown family":    {"[hours]", "[hours, position]"},
		"unknown scale":     {"hours: 1", "face: 1"},
		"missing scale":     {"hours: 1, ", ""},
		"unknown kind":      {"safe", "vin"},
		"kind twice":        {"safe", "mileage"},
		"mechanism":         {"gaussian", "none"},
		"categorical delta": {"gaussian", "randomised-response"},
		"unknown key":       {"clip:", "vin: 1\n  clip:"},
		"no dispatches":     {"53", "0"},
	} {
		bad := strings.Replace(good, c[0], c[1], 1)
		if got, err := load(bad); err == nil || bad == good {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
}

func TestShippedCharter(t *testing.T) {
	b, err := os.ReadFile("../../../configs/charter.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := load(string(b))
	if err != nil || c.Usage.Mechanism != terms.GaussianVector || c.Usage.YearlyDispatches < 52 {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestSignRefusesForged: nobody adds a signature to one that does not hold, nor passes it on.
func TestSignRefusesForged(t *testing.T) {
	one, two := vectortest.Key(t, "one"), vectortest.Key(t, "two")
	p := &Program{Program: &terms.Program{BoardQuorum: 2}, ID: wire.Hash{1}}
	for _, k := range []vectortest.Signer{one, two} {
		public, err := wire.NewPublicKey(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		p.Board = append(p.Board, public)
	}
	b, err := os.ReadFile("../../../configs/charter.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := load(string(b))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := terms.SealCharter([]crypto.Signer{one}, c)
	if err != nil {
		t.Fatal(err)
	}
	read := func(b []byte) *Document {
		path := filepath.Join(t.TempDir(), "charter")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if _, n, err := p.Sign(two, read(signed)); err != nil || n != 2 {
		t.Errorf("%d signatures, %v", n, err)
	}
	signed[len(signed)-1] ^= 1 // of the signature
	if _, _, err := p.Sign(two, read(signed)); err == nil {
		t.Error("signed behind a signature that does not hold")
	}
}
