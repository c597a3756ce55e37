package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestShippedConfigs reads the examples, and holds that what they lack or say wrongly is named.
func TestShippedConfigs(t *testing.T) {
	list, err := filepath.Glob("../../../../configs/*/validator*.yaml")
	if err != nil || len(list) != 5 {
		t.Fatalf("%v, %v", list, err)
	}
	for _, path := range list {
		c, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Validators) != 4 || !filepath.IsAbs(c.StateDir) && !strings.HasPrefix(c.Key, filepath.Dir(path)) && !strings.HasPrefix(c.Key, "../") {
			t.Errorf("%s: %+v", path, c)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for old, want := range map[string]string{
			"state_dir:": "state_dir: must be set", "root:": "root: must be set", "key: ": "must be set", "claim_keys:": "claim_keys: must name", "listen:": `listen: "" is not IP:port`,
			"environment:": "neither development nor production", "  ca:": "internal.ca: must be set",
		} {
			if !strings.Contains(string(text), "\n"+old) && !strings.HasPrefix(string(text), old) {
				continue
			}
			var kept []string
			for line := range strings.Lines(string(text)) {
				if !strings.HasPrefix(line, old) {
					kept = append(kept, line)
				}
			}
			bad := filepath.Join(t.TempDir(), "bad.yaml")
			if err := os.WriteFile(bad, []byte(strings.Join(kept, "")), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(bad); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s without %s: %v, want %s", path, old, err, want)
			}
		}
	}
	bare := filepath.Join(t.TempDir(), "bare.yaml")
	if err := os.WriteFile(bare, []byte("environment: development\nstate_dir: s\nroot: r\nkey: k\nclaim_keys: [c]\nlisten: 127.0.0.1:1\ninternal: {ca: a, certificate: b, key: c}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(bare); err != nil || c.Exchange != time.Minute || c.Web != "127.0.0.1:8090" || c.StateDir != filepath.Join(filepath.Dir(bare), "s") {
		t.Errorf("%+v, %v", c, err)
	}
}
