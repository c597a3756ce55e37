package holding

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"rawstone/pkg/ledger"
	"rawstone/pkg/tlog"
)

func entries(words ...string) (out []ledger.Entry) {
	for i, w := range words {
		out = append(out, ledger.Entry{Number: uint64(i), Type: ledger.TypeCredit, Body: []byte(w)})
	}
	return out
}

func hold(t *testing.T, list []ledger.Entry) *Holding {
	t.Helper()
	h := new(Holding)
	for i := len(list) - 1; i >= 0; i-- { // any order will do
		if err := h.Add(&list[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Whole(); err != nil {
		t.Fatal(err)
	}
	return h
}

// TestSeen compares records with checkpoints of the same log: of their past, of their future, and of another history.
func TestSeen(t *testing.T) {
	secret, verifier, err := tlog.GenerateKey("log.example")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	checkpoint := func(words ...string) string {
		dir := t.TempDir()
		l, err := tlog.Open(t.Context(), tlog.Config{Dir: dir, Signer: signer, Verifier: verifier, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries(words...) {
			b, err := e.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Append(t.Context(), e.Number, b); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, "checkpoint")
	}
	h := hold(t, entries("a", "b", "c"))
	for _, c := range []struct {
		words []string
		want  string // of the error
	}{
		{nil, ""}, {[]string{"a"}, ""}, {[]string{"a", "b", "c"}, ""},
		{[]string{"a", "x"}, "is of another history: its first 2 entries"},
		{[]string{"a", "b", "c", "d", "e"}, "is of 5 entries and the backup holds 3, so that 2 are missing"},
	} {
		if err := h.Seen(checkpoint(c.words...), verifier); fmt.Sprint(err) != "<nil>" && c.want == "" || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%v: %v, want %q", c.words, err, c.want)
		}
	}
	_, stranger, err := tlog.GenerateKey("log.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Seen(checkpoint("a"), stranger); err == nil || !strings.Contains(err.Error(), "it is not one of this ledger") {
		t.Errorf("another key: %v", err)
	}
	if err := h.Seen(filepath.Join(t.TempDir(), "none"), verifier); err == nil {
		t.Error("a checkpoint that is not there")
	}
}
