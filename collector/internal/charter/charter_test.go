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
	kinds := []string{"feature/assist", "feature/parking", terms.KindMileage, terms.KindSafe}
	rapid.Check(t, func(rt *rapid.T) {
		c := &terms.Charter{
			Version: wire.Version, Program: wire.Hash{1}, Serial: rapid.Uint16Min(1).Draw(rt, "serial"), TierRatioMilli: rapid.Uint16Range(1100, 65_000).Draw(rt, "ratio"),
			Usage: terms.Usage{
				Mechanism:        terms.Mechanism(rapid.IntRange(0, 2).Draw(rt, "mechanism")),
				EpsilonMicro:     rapid.Uint32Range(10_000, 10_000_000).Draw(rt, "epsilon"),
				YearlyDispatches: rapid.Uint16Range(1, 366).Draw(rt, "dispatches"),
			},
		}
		for i, k := range kinds {
			if rapid.Bool().Draw(rt, k) || i == len(kinds)-1 && len(c.Kinds) == 0 {
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
			c.Usage.Families = wire.Family(rapid.IntRange(1, int(wire.AllFamilies)).Draw(rt, "families"))
			c.Usage.DeltaPico, c.Usage.Clip = rapid.Uint32Range(1, 10_000_000).Draw(rt, "delta"), rapid.Uint32Range(minClip, 100_000).Draw(rt, "clip")
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
	for name, c := range map[string][3]string{
		"serial 0":          {"serial: 1", "serial: 0", ":1:"},
		"no kinds":          {"[mileage, safe]", "[]", ":2:"},
		"a position":        {"safe", "feature/gps", ":2:"},
		"a face":            {"safe", "feature/face", ":2:"},
		"a VIN":             {"safe", "feature/vin", ":2:"},
		"no families":       {"[hours]", "[]", ":6:"},
		"clip of 1":         {"2600", "1", ":9:"},
		"ratio, rounded":    {"1.2", "1.2000001", ":3:"},
		"epsilon, rounded":  {"epsilon: 1", "epsilon: 0.0123456789", ":7:"},
		"delta, rounded":    {"1e-6", "1.0000001e-6", ":8:"},
		"epsilon of 11":     {"epsilon: 1", "epsilon: 11", ":7:"},
		"infinite epsilon":  {"epsilon: 1", "epsilon: 1e999", ":7:"},
		"epsilon wraps":     {"epsilon: 1", "epsilon: 4295.967296", ":7:"},
		"negative epsilon":  {"epsilon: 1", "epsilon: -1", ":7:"},
		"negative delta":    {"1e-6", "-1e-6", ":8:"},
		"delta wraps":       {"1e-6", "4.294968296e-3", ":8:"},
		"no delta":          {"1e-6", "0", ":8:"},
		"ratio wraps":       {"1.2", "66.736", ":3:"},
		"ratio of 1":        {"1.2", "1", ":3:"},
		"unknown family":    {"[hours]", "[hours, position]", ":6:"},
		"unknown scale":     {"hours: 1", "hours: 1, face: 1", ":10:"},
		"missing scale":     {"hours: 1, ", "", ":10:"},
		"unknown kind":      {"safe", "vin", ":2:"},
		"kind twice":        {"safe", "mileage", ":2:"},
		"mechanism":         {"gaussian", "none", ":5:"},
		"categorical delta": {"gaussian", "randomised-response", ""},
		"unknown key":       {"clip:", "vin: 1\n  clip:", ":9:"},
		"no dispatches":     {"53", "0", ":11:"},
	} {
		bad := strings.Replace(good, c[0], c[1], 1)
		got, err := load(bad)
		if err == nil || bad == good {
			t.Errorf("%s: accepted as %+v", name, got)
		} else if c[2] != "" && (strings.Count(err.Error(), "charter.yaml") != 1 || !strings.Contains(err.Error(), "charter.yaml"+c[2])) {
			t.Errorf("%s: want one fault in line %s: %v", name, c[2], err)
		}
	}
}

// TestShownYear: the board sees what a year composes to, exactly for Gaussian noise and by the smaller bound for pure reports.
func TestShownYear(t *testing.T) {
	for want, u := range map[string]terms.Usage{
		"  # A year of 52 composes to ε = 9.1 at a total δ of 1e-06.\n": {EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 2600, YearlyDispatches: 52, Scale: []uint16{1, 1, 1, 1, 1}},
		"  # A year of 1 composes to ε = 0.5 at a total δ of 1e-06.\n":  {Mechanism: terms.SubsetSelection, EpsilonMicro: 500_000, YearlyDispatches: 1, Scale: []uint16{1, 1, 1, 1, 1}},
	} {
		if shown := (&Document{Charter: &terms.Charter{Usage: u}}).String(); !strings.Contains(shown, want) {
			t.Errorf("want %q in\n%s", want, shown)
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
