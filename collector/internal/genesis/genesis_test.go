package genesis

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"rawstone/pkg/claim"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const configs = "../../../configs"

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Everything that Init signs must open under the root alone, and its keys must be the ones that the program names.
func TestInitFromShippedSources(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Source: filepath.Join(configs, "demo/program.yaml"), Dir: dir, Now: func() time.Time { return time.Unix(1_800_000_000, 5) }}
	id, err := Init(cfg)
	if err != nil {
		t.Fatal(err)
	}
	root, err := hex.DecodeString(strings.TrimSpace(string(read(t, dir, RootFile))))
	if err != nil {
		t.Fatal(err)
	}
	p, got, err := terms.OpenProgram(wire.PublicKey(root), read(t, dir, ProgramFile))
	if err != nil {
		t.Fatal(err)
	}
	if got != id || p.Environment != wire.Development || p.Timing != (terms.Timing{GenesisS: 1_800_000_000, OffsetS: 28800, DayS: 6, DropS: 2}) {
		t.Errorf("program %v is %+v", got, p)
	}
	charter, _, err := terms.OpenCharter(p, id, read(t, dir, CharterFile))
	if err != nil {
		t.Fatal(err)
	}
	if charter.Usage.Families != wire.AllFamilies || charter.Usage.EpsilonMicro != 1_000_000 || charter.Usage.DeltaPico != 1_000_000 || charter.Usage.Scale[2] != 30 {
		t.Errorf("charter's usage is %+v", charter.Usage)
	}
	policy, err := terms.OpenPolicy(p.Policy, id, read(t, dir, PolicyDir, "1.cose"))
	if err != nil {
		t.Fatal(err)
	}
	if err := charter.Covers(policy); err != nil {
		t.Error(err)
	}
	if n := len(policy.Tiers); policy.Tiers[0].Km != 1 || policy.Tiers[n-1].Km != 12000 {
		t.Errorf("tiers from %d to %d km", policy.Tiers[0].Km, policy.Tiers[n-1].Km)
	}
	if got := policy.Statement(0)[0].A; got[wire.DriveTimeS] != 70 || got[wire.OdometerM] != -1 {
		t.Errorf("row of average speed: %v", got)
	}
	lock, err := claim.ReadLock(filepath.Join(dir, ClaimDir))
	if err != nil {
		t.Fatal(err)
	}
	if lock.Environment != wire.Development || lock.VerifyingKey != policy.VerifyingKey || lock.ProvingKey != policy.ProvingKey || lock.Circuit != policy.Circuit {
		t.Errorf("lock %+v does not fit the policy", lock)
	}
	for name, keys := range map[string]wire.KeySet{receiptFile: p.Receipt, policyFile: p.Policy, "board-3.key": p.Board[2:]} {
		k, err := keyfile.Load(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if public, err := wire.NewPublicKey(k.Public()); err != nil || public != keys[0] {
			t.Errorf("%s is not the program's key: %v", name, err)
		}
	}
	if len(p.Validators) != 4 || p.Quorum != 3 {
		t.Errorf("quorum of %d among %d validators", p.Quorum, len(p.Validators))
	}
	for i, name := range []string{"operator", "auditor", "bank", "owners"} {
		v, err := ledger.ParseValidatorKey(read(t, dir, ValidatorFile(name)))
		if err != nil || v.Public() != p.Validators[i] || v.Public().Name != "demo/"+name {
			t.Errorf("key of validator %s: %v", name, err)
		}
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(read(t, dir, logFile))))
	if err != nil {
		t.Fatal(err)
	}
	if verifier, err := note.NewVerifier(p.LogKey); err != nil || verifier.KeyHash() != signer.KeyHash() {
		t.Errorf("ledger key: %v", err)
	}
	if _, err := Init(cfg); err == nil {
		t.Error("began a second program in the same directory")
	}
}

func TestInitRefusesBadSources(t *testing.T) {
	good := string(read(t, configs, "policies/mileage.yaml"))
	for name, c := range map[string]struct{ old, new, want string }{
		"counter":     {"odometer_m: -1", "odometr_m: -1", "odometr_m"},
		"kind":        {"kind: mileage", "kind: position", "position"},
		"tier order":  {"[1, 2, 3,", "[2, 1, 3,", "tier 1"},
		"cap":         {"cap_km_per_day: 1500", "cap_km_per_day: 6000", "6000"},
		"unknown key": {"kind: mileage", "kind: mileage\nkinds: 1", "kinds"},
		"no quorum":   {"program", "validators: [a, b]\nquorum: 3", "a quorum of 3 among 2"},
		"validators":  {"program", "validators: [a, a]", "there twice"},
		"no one":      {"program", "validators: []", "a quorum of 1 among 0"},
		"file name":   {"program", "validators: [../a]", "letters, digits"},
		"serial":      {"serial: 1", "serial: 2", "two policies have serial 2"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "policy.yaml"), []byte(strings.Replace(good, c.old, c.new, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "safe.yaml"), read(t, configs, "policies/safe.yaml"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "charter.yaml"), read(t, configs, "charter.yaml"), 0o644); err != nil {
			t.Fatal(err)
		}
		more := ""
		if c.old == "program" {
			more = c.new + "\n"
		}
		if err := os.WriteFile(filepath.Join(dir, "program.yaml"), []byte("name: t\ncharter: charter.yaml\npolicies: [policy.yaml, safe.yaml]\n"+more), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Init(Config{Source: filepath.Join(dir, "program.yaml"), Dir: filepath.Join(dir, "out"), Now: time.Now})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "out", ProgramFile)); err == nil {
			t.Errorf("%s: half of a program is left behind", name)
		}
	}
}
