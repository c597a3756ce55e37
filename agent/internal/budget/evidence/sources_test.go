package evidence

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSourceMutants breaks the real sources of ledger and report maker, one fault at a time, and runs the attack against each: it must
// find the car guilty. It builds a package for each fault, hence only in the long form.
func TestSourceMutants(t *testing.T) {
	if os.Getenv("RAWSTONE_PRIVACY") != "long" {
		t.Skip("set RAWSTONE_PRIVACY=long")
	}
	const ledger, maker = "../ledger.go", "../../report/report.go"
	type change struct{ file, old, broken string }
	for name, changes := range map[string][]change{
		"nothing is ever exhausted": {{ledger, "nano > l.limit-spent {", "nano > l.limit-spent && nano < 0 {"}},
		"the record always agrees":  {{"../rollback.go", "case index == 0:", "case index >= 0:"}},
		"a retry is drawn anew, beside the ledger": {{maker, "	if err := consume(ctx); err != nil {\n\t\treturn nil, nil, fmt.Errorf(\"cannot consume usage", `	if found {
		values, _ := m.mechanism.Release(m.mechanism.totals(&totals))
		r := wire.Report{Version: wire.Version, Vehicle: m.cfg.Vehicle, Epoch: epoch, Families: families, Charge: wire.NewCharge(1, [32]byte{})}
		_ = r.SetValues(m.mechanism.values(values))
		if sealed, err = wire.SealReport(m.cfg.Device, &r); err != nil {
			return nil, nil, err
		}
	}
	if err := consume(ctx); err != nil {
		return nil, nil, fmt.Errorf("cannot consume usage`}},
	} {
		t.Run(name, func(t *testing.T) {
			replace, texts := map[string]string{}, map[string][]byte{}
			for _, c := range changes {
				path, err := filepath.Abs(c.file)
				if err != nil {
					t.Fatal(err)
				}
				text := texts[path]
				if text == nil {
					if text, err = os.ReadFile(path); err != nil {
						t.Fatal(err)
					}
				}
				if n := bytes.Count(text, []byte(c.old)); n != 1 {
					t.Fatalf("%s has %q %d times, want once: bring this mutation up to date", c.file, c.old, n)
				}
				texts[path] = bytes.Replace(text, []byte(c.old), []byte(c.broken), 1)
				replace[path] = filepath.Join(t.TempDir(), filepath.Base(path))
				if err := os.WriteFile(replace[path], texts[path], 0o600); err != nil {
					t.Fatal(err)
				}
			}
			overlay, err := json.Marshal(map[string]map[string]string{"Replace": replace})
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "overlay.json")
			if err := os.WriteFile(file, overlay, 0o600); err != nil {
				t.Fatal(err)
			}
			run := exec.Command("go", "test", "-count", "1", "-overlay", file, "-run", "^TestAveraging$", ".")
			run.Env = append(os.Environ(), "RAWSTONE_PRIVACY=")
			out, err := run.CombinedOutput()
			if err == nil {
				t.Fatal("not caught")
			}
			for line := range strings.Lines(string(out)) {
				if strings.Contains(line, ": as built: ") {
					t.Logf("caught: %s", strings.TrimSpace(line))
					return
				}
			}
			t.Errorf("not caught in the car as built: %v\n%s", err, out)
		})
	}
}
