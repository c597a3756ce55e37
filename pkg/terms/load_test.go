package terms

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/wire"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func write(t *testing.T, path string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadDocument(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []int{0, 1, maxDocument} {
		want := bytes.Repeat([]byte{7}, n)
		if got, err := ReadDocument(write(t, filepath.Join(dir, "document"), want)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: read %d, %v", n, len(got), err)
		}
	}
	large := write(t, filepath.Join(dir, "large"), make([]byte, maxDocument+1))
	if _, err := ReadDocument(large); err == nil || !strings.Contains(err.Error(), large+": more than 65536 bytes") {
		t.Errorf("large: %v", err)
	}
	if _, err := ReadDocument(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

// TestLoad exchanges one document at a time for one that must not be used.
func TestLoad(t *testing.T) {
	dir := t.TempDir()
	root, policyKey, a, b := testKey(t), testKey(t), testKey(t), testKey(t)
	program := testProgram(t)
	program.Policy, program.Board = wire.KeySet{testPublic(t, policyKey)}, wire.KeySet{testPublic(t, a), testPublic(t, b)}
	signed := must(SealProgram(root, program))
	id := wire.ID(signed)
	charter, policy := testCharter(), testPolicy()
	charter.Program, policy.Program = id, id
	public := testPublic(t, root)
	good := Files{
		Root:    write(t, filepath.Join(dir, "root.pub"), []byte(hex.EncodeToString(public[:])+"\n")),
		Program: write(t, filepath.Join(dir, "program"), signed),
		Charter: write(t, filepath.Join(dir, "charter"), must(SealCharter([]crypto.Signer{a, b}, charter))),
		Policies: []string{
			write(t, filepath.Join(dir, "1"), must(SealPolicy(policyKey, policy))),
		},
	}
	d, err := Load(good, wire.Development)
	if err != nil {
		t.Fatal(err)
	}
	if d.ProgramID != id || d.Root != public || cmp.Diff(charter, d.Charter) != "" || cmp.Diff([]*Policy{policy}, d.Policies) != "" {
		t.Errorf("%+v", d)
	}
	if len(d.SignedPolicies) != 1 || !bytes.Equal(d.SignedPolicies[0], must(os.ReadFile(good.Policies[0]))) ||
		!bytes.Equal(d.SignedProgram, signed) || !bytes.Equal(d.SignedCharter, must(os.ReadFile(good.Charter))) {
		t.Error("the signed bytes are not the files'")
	}
	if p, got, err := LoadProgram(good.Root, good.Program); err != nil || got != id || p.Name != program.Name {
		t.Errorf("program alone: %v, %v", got, err)
	}

	if _, err := Load(good, wire.Production); err == nil || !strings.Contains(err.Error(), "it is for development and the configuration says production") {
		t.Errorf("environment: %v", err)
	}
	uncovered, foreign := *policy, *policy
	foreign.Program = wire.Hash{9}
	near := wire.Row{B: 51_000} // closer to 50 km than the charter's ratio
	near.A[wire.OdometerM] = 1
	uncovered.Tiers = append(slices.Clone(policy.Tiers), Tier{Km: 51, Rows: []wire.Row{near}})
	lone := must(SealCharter([]crypto.Signer{a}, charter))
	for name, c := range map[string]struct {
		spoil func(*Files)
		want  string
	}{
		"root":       {func(f *Files) { f.Root = f.Program }, "does not hold 33 bytes"},
		"program":    {func(f *Files) { f.Program = f.Charter }, "cannot use program document"},
		"no program": {func(f *Files) { f.Program += "x" }, "cannot read document"},
		"quorum":     {func(f *Files) { f.Charter = write(t, filepath.Join(dir, "lone"), lone) }, "cannot use charter"},
		"no charter": {func(f *Files) { f.Charter += "x" }, "cannot read document"},
		"foreign policy": {func(f *Files) {
			f.Policies = []string{write(t, filepath.Join(dir, "2"), must(SealPolicy(policyKey, &foreign)))}
		}, "cannot use policy"},
		"uncovered": {func(f *Files) {
			f.Policies = []string{write(t, filepath.Join(dir, "3"), must(SealPolicy(policyKey, &uncovered)))}
		}, "closer than the charter allows"},
		"signed by root": {func(f *Files) {
			f.Policies = []string{write(t, filepath.Join(dir, "4"), must(SealPolicy(root, policy)))}
		}, "cannot use policy"},
		"serial twice": {func(f *Files) { f.Policies = append(slices.Clone(f.Policies), f.Policies[0]) }, "two policies have serial 1"},
		"no policy":    {func(f *Files) { f.Policies = []string{"x"} }, "cannot read document"},
	} {
		f := good
		c.spoil(&f)
		if _, err := Load(f, wire.Development); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDate(t *testing.T) {
	timing := Timing{DayS: 86400, OffsetS: 28800}
	if got := timing.Date(20_000); got != "program day 20000 (2024-10-03)" {
		t.Error(got)
	}
}
