package opener

import (
	"errors"
	"strings"
	"testing"

	"rawstone/collector/internal/disclosure"
	"rawstone/pkg/account"
	"rawstone/pkg/audit"
	"rawstone/pkg/ledger"
)

var _ audit.Opener = (*Opener)(nil)

func entry(t *testing.T, number uint64, typ ledger.Type, opening any, named string, secret ...byte) disclosure.Entry {
	t.Helper()
	e := disclosure.Entry{Number: number, Type: typ, Account: named, Secret: secret}
	if err := e.Open(opening); err != nil {
		t.Fatal(err)
	}
	return e
}

// TestOpener replays a batch: openings are those of what is looked at, by number and type, and secrets are known from their entry on.
func TestOpener(t *testing.T) {
	secret := make([]byte, 32)
	secret[0] = 7
	entries := []disclosure.Entry{
		entry(t, 5, ledger.TypeCredit, &ledger.CreditOpening{Account: "anna", ToSeq: 3}, ""),
		entry(t, 6, ledger.TypeBinding, &ledger.BindingOpening{Account: "anna"}, "anna", secret...),
		entry(t, 7, ledger.TypeAccount, &account.ChangeOpening{Account: "ben"}, "ben", secret...),
	}
	o := New()
	end := o.Look(entries)
	if c, ok := o.Credit(5); !ok || c.ToSeq != 3 {
		t.Errorf("credit opens as %+v, %t", c, ok)
	}
	if _, ok := o.Binding(5); ok {
		t.Error("a credit opens as a binding")
	}
	for _, n := range []uint64{4, 8} {
		if _, ok := o.Credit(n); ok {
			t.Errorf("entry %d, which nobody looks at, opens", n)
		}
	}
	known := func(id string, want bool) {
		t.Helper()
		if s, ok := o.Secret(id); ok != want || ok && s[0] != 7 {
			t.Errorf("the secret of %s: %t, want %t", id, ok, want)
		}
	}
	for i, e := range entries {
		if err := o.Replay(&e, func() error {
			known("anna", i >= 1)
			known("ben", i >= 2)
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	end()
	if _, ok := o.Credit(5); ok {
		t.Error("an entry opens that nobody looks at any more")
	}
	known("ben", true)
	// What is refused leaves no secret behind.
	chen := entry(t, 8, ledger.TypeAccount, &account.ChangeOpening{Account: "chen"}, "chen", secret...)
	refusal := errors.New("refused")
	if err := o.Replay(&chen, func() error { return refusal }); !errors.Is(err, refusal) {
		t.Error(err)
	}
	known("chen", false)
}

func TestSecrets(t *testing.T) {
	secret, other := make([]byte, 32), make([]byte, 31)
	binding := &ledger.BindingOpening{Account: "anna"}
	for name, e := range map[string]disclosure.Entry{
		"of a credit":     entry(t, 1, ledger.TypeCredit, &ledger.CreditOpening{Account: "anna"}, "anna", secret...),
		"of another":      entry(t, 1, ledger.TypeBinding, binding, "ben", secret...),
		"too short":       entry(t, 1, ledger.TypeBinding, binding, "anna", other...),
		"no such opening": entry(t, 1, ledger.TypeBinding, &account.ChangeOpening{Account: "anna"}, "anna", secret...),
	} {
		if err := New().Replay(&e, func() error { t.Errorf("%s: it is replayed", name); return nil }); err == nil || !strings.Contains(err.Error(), "cannot accept entry 1") {
			t.Errorf("%s: %v", name, err)
		}
	}
	o := New()
	first := entry(t, 1, ledger.TypeBinding, binding, "anna", secret...)
	if err := o.Replay(&first, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	first.Secret = append([]byte{1}, other...)
	if err := o.Replay(&first, func() error { return nil }); err == nil || !strings.Contains(err.Error(), "not the one that was disclosed before") {
		t.Error(err)
	}
}

// TestBlind replays entries that were erased unseen: a block that comes after them ends it, and nothing else does.
func TestBlind(t *testing.T) {
	o := New()
	take := func(e disclosure.Entry, err error) {
		t.Helper()
		if got := o.Replay(&e, func() error { return err }); !errors.Is(got, err) {
			t.Fatal(got)
		}
	}
	blind := func(want bool) {
		t.Helper()
		if err := o.Blind(); (err != nil) != want {
			t.Errorf("%v, want blind %t", err, want)
		}
	}
	take(disclosure.Entry{Number: 1, Type: ledger.TypeCredit, Erased: true, Seen: true}, nil)
	blind(false)
	take(disclosure.Entry{Number: 2, Type: ledger.TypeCredit, Erased: true}, nil)
	blind(true)
	take(disclosure.Entry{Number: 3, Type: ledger.TypeLeaves}, nil)
	take(disclosure.Entry{Number: 4, Type: ledger.TypeBlock}, errors.New("no quorum"))
	blind(true)
	take(disclosure.Entry{Number: 4, Type: ledger.TypeBlock}, nil)
	blind(false)
}
