package reset

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// car makes a state directory, in a place whose name is a pattern too, and returns what a wipe is told of it.
func car(t *testing.T) Config {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "car[1]*")
	for _, name := range []string{
		"state/000001.vlog", "state/MANIFEST", "state.damaged-2026/MANIFEST", "state.ballast", "rules/notice", "identity/chain.pem",
		"budget/MANIFEST", "budget.anchor", "device.key", "stateful/x", "control.sock",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Config{Dir: dir, Store: "state", Mark: "reset.done", Others: []string{"rules", "identity", "none", "state.*", "control.sock"}}
}

func files(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

// stays is what no reset touches, and what it leaves.
func stays() []string {
	return []string{"budget.anchor", "budget/MANIFEST", "device.key", "reset.done", "stateful/x"}
}

func TestWipe(t *testing.T) {
	cfg := car(t)
	if resumed, err := Resume(cfg); err != nil || resumed || len(files(t, cfg.Dir)) != 11 {
		t.Errorf("nobody asked for a reset: %v, %v", resumed, err)
	}
	for range 2 { // it can be repeated
		if err := Wipe(cfg); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(stays(), files(t, cfg.Dir)); d != "" {
			t.Error(d)
		}
	}
	cfg.Dir = filepath.Join(t.TempDir(), "new") // a car that never ran
	if err := Wipe(cfg); err != nil {
		t.Error(err)
	}
	for _, bad := range []Config{{Dir: cfg.Dir, Mark: "reset.done"}, {Store: "state", Mark: "reset.done"}, {Dir: cfg.Dir, Store: "state"}} {
		if err := Wipe(bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

// TestKeysAndPurge: keys are overwritten before they go, what stays is purged while the store is still held, and an error of that is told
// when the rest is wiped.
func TestKeysAndPurge(t *testing.T) {
	cfg := car(t)
	cfg.Keys, cfg.Others = []string{"state.ballast", "none"}, append(cfg.Others, "state.ballast")
	key, err := os.Open(filepath.Join(cfg.Dir, "state.ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	fails := errors.New("it does not open")
	cfg.Purge = func() error {
		if n := len(files(t, cfg.Dir)); n != 8 { // what stays, the store's two and the marker
			t.Errorf("%d files at the purge: %q", n, files(t, cfg.Dir))
		}
		return fails
	}
	if err := Wipe(cfg); !errors.Is(err, fails) {
		t.Error(err)
	}
	if d := cmp.Diff(stays(), files(t, cfg.Dir)); d != "" {
		t.Error(d)
	}
	if b, err := io.ReadAll(key); err != nil || len(b) == 0 || strings.Trim(string(b), "\x00") != "" {
		t.Errorf("the key was %q, %v", b, err)
	}
}

func TestRunningAgentIsLeftAlone(t *testing.T) {
	cfg := car(t)
	held, err := os.Open(filepath.Join(cfg.Dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := syscall.Flock(int(held.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	if err := Wipe(cfg); err == nil || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("wiped below a running agent: %v", err)
	}
	if n := len(files(t, cfg.Dir)); n != 11 {
		t.Errorf("%d files are left", n)
	}
}

// TestCutShort: wherever the power goes, the next start completes the reset before the agent reads anything.
func TestCutShort(t *testing.T) {
	for _, gone := range [][]string{nil, {"rules"}, {"rules", "identity", "state.ballast"}, {"rules", "identity", "state.ballast", "state.damaged-2026", "state/MANIFEST"}, {"state"}} {
		cfg := car(t)
		if err := os.WriteFile(filepath.Join(cfg.Dir, marker), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, name := range gone {
			if err := os.RemoveAll(filepath.Join(cfg.Dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		if resumed, err := Resume(cfg); err != nil || !resumed {
			t.Errorf("%v: %v, %v", gone, resumed, err)
		}
		if d := cmp.Diff(stays(), files(t, cfg.Dir)); d != "" {
			t.Errorf("%v: %s", gone, d)
		}
	}
}
