package equity

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/reward"
)

func statement(t *testing.T) *Statement {
	t.Helper()
	s := &Statement{Day: 9, ValueFen: 1_000_003, PerMille: reward.EquityPerMille}
	portions, err := reward.Equity(s.ValueFen, []reward.Holding{{Account: "ben", Milli: 500}, {Account: "anna", Milli: 1000}, {Account: "carl", Milli: 7}})
	if err != nil {
		t.Fatal(err)
	}
	for i, milli := range []uint64{1000, 500, 7} {
		s.Portions = append(s.Portions, Portion{portions[i].Account, milli, portions[i].Cents})
		s.AllMilli += milli
	}
	return s
}

// TestRead reads what was written, and refuses every altered number: an owner is shown what follows from the stones or nothing.
func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "equity.json")
	write := func(s *Statement) {
		t.Helper()
		var b bytes.Buffer
		if err := s.Write(&b); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := statement(t)
	write(want)
	got, err := Read(path)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Fatal(err, diff)
	}
	if p := got.Of("ben"); p != want.Portions[1] {
		t.Errorf("ben gets %+v", p)
	}
	if p := got.Of("bea"); p != (Portion{Account: "bea"}) {
		t.Errorf("an account without stones gets %+v", p)
	}
	for name, spoil := range map[string]func(s *Statement){
		"a portion":  func(s *Statement) { s.Portions[0].Fen++ },
		"stones":     func(s *Statement) { s.Portions[2].Milli = 70 },
		"value":      func(s *Statement) { s.ValueFen *= 2 },
		"per mille":  func(s *Statement) { s.PerMille++ },
		"all stones": func(s *Statement) { s.AllMilli++ },
		"order":      func(s *Statement) { s.Portions[0], s.Portions[1] = s.Portions[1], s.Portions[0] },
		"twice":      func(s *Statement) { s.Portions[1].Account = "anna" },
		"beyond":     func(s *Statement) { s.Portions[1].Milli = reward.Supply },
		"nobody":     func(s *Statement) { s.Portions = nil },
	} {
		s := statement(t)
		spoil(s)
		write(s)
		if _, err := Read(path); err == nil {
			t.Errorf("%s altered: accepted", name)
		}
	}
	if err := os.WriteFile(path, []byte(`{"day": 1, "more": 2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil || !strings.Contains(err.Error(), "more") {
		t.Errorf("an unknown key: %v", err)
	}
}

// TestLacking names what a statement cannot be made without.
func TestLacking(t *testing.T) {
	for want, c := range map[string]Config{
		"it lacks a program day (--day)":                                             {Openings: "x", ValueFen: 1},
		"it lacks a value of at least 1 fen (--value-fen) and openings (--openings)": {Day: 1},
	} {
		if _, err := Make(t.Context(), c); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	path := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil || !strings.HasSuffix(err.Error(), "give the file that `collector equity` wrote") {
		t.Error(err)
	}
}
