package chain

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"rawstone/pkg/claim"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// rig returns what a chain is made with: the keys of a setup, and a policy of three tiers.
func rig(t *testing.T) Config {
	t.Helper()
	keys := filepath.Join(t.TempDir(), "claim")
	lock, err := claim.Setup(keys)
	if err != nil {
		t.Fatal(err)
	}
	p := &terms.Policy{
		Version: wire.Version, Program: wire.Hash{1}, Serial: 1, Kind: terms.KindMileage, ToDay: terms.MaxDay, CapKm: 1500,
		Circuit: lock.Circuit, ProvingKey: lock.ProvingKey, VerifyingKey: lock.VerifyingKey, Lock: lock.ID(),
	}
	var speed wire.Row // at most 70 m/s
	speed.A[wire.DriveTimeS], speed.A[wire.OdometerM] = 70, -1
	p.Rows = []wire.Row{speed}
	for _, km := range []uint32{1, 50, 1000} {
		row := wire.Row{B: int64(km) * 1000}
		row.A[wire.OdometerM] = 1
		p.Tiers = append(p.Tiers, terms.Tier{Km: km, Rows: []wire.Row{row}})
	}
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	return Config{Dir: filepath.Join(t.TempDir(), "proofs"), Keys: keys, Lock: lock, Policy: p}
}

// open returns a chain and how many of its proofs had to be made.
func (c Config) open(t *testing.T, n int) (*Chain, int) {
	t.Helper()
	first := -1
	c.Report = func(done int) {
		if first < 0 {
			first = done
		}
	}
	chain, err := Open(t.Context(), c, n)
	if err != nil {
		t.Fatal(err)
	}
	v, err := claim.OpenVerifier(c.Keys, c.Lock)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		for _, factor := range []uint64{0, uint64(i) + 2} {
			p, err := chain.Proof(i, factor)
			if err != nil {
				t.Fatal(err)
			}
			if err := v.Verify(claim.Statement{From: chain.Commitment(i), To: chain.Commitment(i + 1), Rows: c.Policy.Statement(chain.Tier(i))}, p); err != nil {
				t.Errorf("span %d by %d: %v", i, factor, err)
			}
			if same := p == chain.proofs[i]; same != (factor < 2) {
				t.Errorf("span %d by %d: the same bytes: %v", i, factor, same)
			}
		}
	}
	return chain, n - first
}

// TestChain makes proofs once, more of them, and those that are spoilt, cut off or under another policy anew.
func TestChain(t *testing.T) {
	cfg := rig(t)
	first, made := cfg.open(t, 3)
	if made != 3 {
		t.Errorf("%d proofs made, want 3", made)
	}
	if _, made := cfg.open(t, 3); made != 0 {
		t.Errorf("%d proofs made again", made)
	}
	longer, made := cfg.open(t, 5)
	if made != 2 || !slices.Equal(longer.proofs[:3], first.proofs) || !slices.Equal(longer.commitments[:4], first.commitments) {
		t.Errorf("%d proofs made for two more spans, or the first ones changed", made)
	}
	files, err := os.ReadDir(cfg.Dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	path := filepath.Join(cfg.Dir, files[0].Name())
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		spoil func([]byte) []byte
		made  int
	}{
		"cut off":     {func(b []byte) []byte { return b[:len(b)-1] }, 1},
		"empty":       {func([]byte) []byte { return nil }, 5},
		"one bit":     {func(b []byte) []byte { b[130] ^= 1; return b }, 1},
		"two swapped": {func(b []byte) []byte { return slices.Concat(b[128:256], b[:128], b[256:]) }, 2},
		"rubbish":     {func(b []byte) []byte { return bytes.Repeat([]byte("rubbish"), 200) }, 5},
		"zeros":       {func(b []byte) []byte { clear(b[256:384]); return b }, 1},
		"too much":    {func(b []byte) []byte { return append(b, b...) }, 0},
	} {
		if err := os.WriteFile(path, c.spoil(bytes.Clone(good)), 0o644); err != nil {
			t.Fatal(err)
		}
		again, made := cfg.open(t, 5)
		if made != c.made || !slices.Equal(again.commitments, longer.commitments) {
			t.Errorf("%s: %d proofs made, want %d, or the drive is another", name, made, c.made)
		}
		if _, made := cfg.open(t, 5); made != 0 {
			t.Errorf("%s: what was mended was not kept", name)
		}
	}
	policy := *cfg.Policy
	policy.Serial++
	cfg.Policy = &policy
	if other, made := cfg.open(t, 2); made != 2 || slices.Equal(other.commitments[1:], longer.commitments[1:3]) {
		t.Errorf("another policy: %d proofs made, want 2 of another drive", made)
	}
	policy.Rows = slices.Clone(policy.Rows)
	policy.Rows[0].A[wire.DriveTimeS] = 10 // at most 10 m/s
	if _, err := Open(t.Context(), cfg, 1); err == nil || !strings.Contains(err.Error(), "policy 2 asks for more than the distance driven at 20 m/s") {
		t.Errorf("a policy that the drive does not meet: %v", err)
	}
	for _, n := range []int{0, MaxLen + 1} {
		if _, err := Open(t.Context(), cfg, n); err == nil {
			t.Errorf("%d spans are accepted", n)
		}
	}
}

// TestDrive: a drive's counters fit 32 bits at its longest, no tier is beyond the cap, and every span is worth its tier.
func TestDrive(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := &terms.Policy{CapKm: rapid.Uint32Range(1, terms.MaxCapKm).Draw(rt, "cap")}
		for km := rapid.Uint32Range(1, 5).Draw(rt, "lowest"); km <= terms.MaxTierKm; km = 2*km + rapid.Uint32Range(0, 9).Draw(rt, "step") {
			p.Tiers = append(p.Tiers, terms.Tier{Km: km})
		}
		c := drive(p, wire.Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(rt, "seed")), rapid.IntRange(1, 50).Draw(rt, "n"))
		var errs []error
		for i, tier := range c.tiers {
			from, to := c.openings[i].Counters, c.openings[i+1].Counters
			if metres := to[wire.OdometerM] - from[wire.OdometerM]; metres/1000 != p.Tiers[tier].Km || metres > 70*(to[wire.DriveTimeS]-from[wire.DriveTimeS]) {
				errs = append(errs, errors.New("a span is not worth its tier or too fast"))
			}
			if tier > 0 && p.Tiers[tier].Km > min(longest, p.CapKm) {
				errs = append(errs, errors.New("a span is worth more than the cap or longer than the longest"))
			}
			for j := range to {
				if to[j] < from[j] {
					errs = append(errs, errors.New("a counter falls"))
				}
			}
			if c.openings[i].Salt == c.openings[i+1].Salt {
				errs = append(errs, errors.New("two snapshots have one salt"))
			}
		}
		if err := errors.Join(errs...); err != nil {
			rt.Fatal(err)
		}
	})
	if uint64(MaxLen)*1000*(longest+1) > 1<<32-1 {
		t.Error("the longest chain does not fit the counters")
	}
}
