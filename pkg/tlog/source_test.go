package tlog

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFirstOf(t *testing.T) {
	k := newKey(t, "log.example")
	dir, _ := grown(t, k, 3, 5)
	if b, err := FirstOf(t.Context(), Dir(dir)); err != nil || string(b) != string(entry(0)) {
		t.Errorf("the first entry is %q, %v", b, err)
	}
	if _, err := FirstOf(t.Context(), Dir(t.TempDir())); !errors.Is(err, ErrEmpty) {
		t.Errorf("an empty directory: %v", err)
	}
	path := filepath.Join(dir, "checkpoint")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		checkpoint string
		empty      bool
		want       string
	}{
		"no entry":       {"log.example\n0\nAAAA\n\n", true, "holds no entry"},
		"no size":        {"log.example\nfive\nAAAA\n\n", false, `"five" is no number`},
		"one line":       {"log.example\n", false, "ends early"},
		"nothing":        {"", false, "ends early"},
		"more than fits": {string(good) + strings.Repeat("x", MaxCheckpointLen), false, "at most 16384 allowed"},
		"more entries":   {"log.example\n77\nAAAA\n\n", false, "tile/entries/000.p/77"},
	} {
		if err := os.WriteFile(path, []byte(c.checkpoint), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := FirstOf(t.Context(), Dir(dir)); err == nil || errors.Is(err, ErrEmpty) != c.empty || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestGrown reads a log as of a checkpoint whose partial tiles are gone: the log has grown since, and full ones are in their place.
func TestGrown(t *testing.T) {
	dir, k := t.TempDir(), newKey(t, "log.example")
	l := open(t, t.Context(), dir, k)
	fill(t, l, 100)
	r, err := NewReader(t.Context(), Dir(dir), k.verifier)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, l, 300)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tile/entries/000.p", "tile/0/000.p"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for _, err := range r.Entries(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 100 {
		t.Errorf("%d entries, want 100", n)
	}
}
