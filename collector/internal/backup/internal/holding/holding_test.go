package holding

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"rawstone/collector/internal/outbox"
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

// TestRemember holds that a validator's memory is the records', and never less than the file in place.
func TestRemember(t *testing.T) {
	payload := func(day uint64) []byte {
		b, err := ledger.EncodePayload(&ledger.Leaves{Day: uint32(day), Validators: []byte{0}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	hash := func(drop uint64) string { return ledger.PayloadHash(ledger.TypeLeaves, payload(drop)).String() }
	sealed := ledger.Sealed{Payload: payload(4), Cosignatures: []ledger.Cosignature{{}}}
	body, err := sealed.Encode()
	if err != nil {
		t.Fatal(err)
	}
	h := hold(t, []ledger.Entry{{Type: ledger.TypeLeaves, Body: body}})
	path := filepath.Join(t.TempDir(), "validator.json")
	four := fmt.Sprintf(`{"validator":"v","signed":{"6":{"at":4,"hash":"%s"}}}`, hash(4))
	for _, c := range []struct{ name, file, want, refused string }{
		{name: "none", want: four},
		{name: "empty", file: `{"validator":"v","signed":{}}`, want: four},
		{name: "older", file: `{"validator":"v","signed":{"6":{"at":3,"hash":"00"}}}`, want: four},
		{name: "same", file: four, want: four},
		{name: "another", file: `{"validator":"v","signed":{"6":{"at":4,"hash":"00"}}}`, refused: "has signed another leaves 4"},
		{name: "newer", file: `{"validator":"v","signed":{"6":{"at":5,"hash":"00"}}}`, refused: "has signed leaves 5 and the backup ends before it"},
		{name: "other type", file: `{"validator":"v","signed":{"8":{"at":0,"hash":"00"}}}`, refused: "has signed block 0"},
		{name: "other key", file: `{"validator":"w","signed":{}}`, refused: "belongs to another validator"},
		{name: "damaged", file: `{"validator":"v"`, refused: "is damaged"},
		{name: "no memory", file: `{"validator":"v"}`, refused: "is damaged"},
	} {
		os.Remove(path)
		if c.file != "" {
			if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, err := h.Remember(path, "v")
		if string(got) != c.want || c.refused == "" && err != nil || !strings.Contains(fmt.Sprint(err), c.refused) {
			t.Errorf("%s: %s, %v", c.name, got, err)
		}
	}
	// A draft may have been signed.
	h.AddDraft(outbox.Draft{Number: 1, Type: ledger.TypeLeaves, Payload: payload(5)})
	os.Remove(path)
	if got, err := h.Remember(path, "v"); err != nil || string(got) != fmt.Sprintf(`{"validator":"v","signed":{"6":{"at":5,"hash":"%s"}}}`, hash(5)) {
		t.Errorf("a draft: %s, %v", got, err)
	}
}
