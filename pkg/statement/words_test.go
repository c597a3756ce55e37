package statement

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// TestRemedies holds what an owner is told who gives the wrong file, or whose statement says nothing new.
func TestRemedies(t *testing.T) {
	w := short(t)
	_, state, err := w.verify(w.statement(0, false), nil)
	if err != nil {
		t.Fatal(err)
	}
	next := state.Next()
	if _, _, err := w.verify(w.statement(0, false), state); err == nil || !strings.Contains(err.Error(), "(`collector owner statement --since STATE`, or GET /v1/account/statement?since=") {
		t.Errorf("the same again: %v", err)
	}
	nothing := w.statement(next, false)
	report, again, err := w.verify(nothing, state)
	if err != nil || again.Next() != next {
		t.Fatalf("nothing new: %v", err)
	}
	var text bytes.Buffer
	if err := report.Write(&text); err != nil || !regexp.MustCompile(`^statement is right: account anna, nothing new since drop \d+; balance [\d.]+ stones, \d+ crystals[^\n]*\n$`).Match(text.Bytes()) {
		t.Errorf("%s, %v", &text, err)
	}
	w.credit(9)
	w.blocks(2)
	for _, from := range []uint64{next, next - 2} {
		if _, _, err := w.verify(w.statement(from, false), nil); err == nil || !strings.HasSuffix(err.Error(), stateless) {
			t.Errorf("from drop %d without its state: %v", from, err)
		}
	}
	b, err := state.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, []byte("x"), b[1:], encode(nothing)} {
		if _, err := DecodeState(bad); err == nil || err.Error() != "cannot accept state: it is damaged, or something else than a state" {
			t.Errorf("a state that is none: %v", err)
		}
	}
}

// TestFlippedBits flips single bits all over a statement: each error is one sentence for its owner.
func TestFlippedBits(t *testing.T) {
	w := short(t)
	good := encode(w.statement(0, false))
	odd := regexp.MustCompile(`\n|\*|\[\d+( \d+){8}|\b(ledger|statement|reward|wire|terms|account|codec)\.[A-Z]`)
	for at := 0; at < len(good); at += 41 {
		b := bytes.Clone(good)
		b[at] ^= 1 << (at % 8)
		_, _, err := Verify(bytes.NewReader(b), Config{Root: public(w.root), Account: anna})
		if err == nil {
			t.Fatalf("byte %d: accepted", at)
		}
		if odd.MatchString(err.Error()) {
			t.Errorf("byte %d: %v", at, err)
		}
	}
}

// TestReportJSON holds that keys are lower case, and hashes hexadecimal.
func TestReportJSON(t *testing.T) {
	w := life(t)
	report, _, err := w.verify(w.statement(0, false), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	if keys := regexp.MustCompile(`"[A-Z][^"]*":`).FindAllString(string(b), -1); len(keys) > 0 {
		t.Errorf("keys %v", keys)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil || got["program"] != report.Program.String() || got["log_root"] != report.LogRoot.String() ||
		got["account"] != anna || len(got["days"].([]any)) != len(report.Days) || got["milli"] != float64(report.Milli) {
		t.Errorf("%s, %v", b, err)
	}
	if b, err := json.Marshal(Report{}); err != nil || !strings.Contains(string(b), `"days":[]`) || strings.Contains(string(b), "null") {
		t.Errorf("%s, %v", b, err)
	}
}
