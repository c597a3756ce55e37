package statement

import (
	"bytes"
	"errors"
	"testing"

	"rawstone/collector/internal/person"
	"rawstone/collector/internal/stones"
	"rawstone/collector/internal/store"
	"rawstone/pkg/statement"
)

// remembering is the view of a validator, which forgets nothing that it was told until it is started again.
type remembering struct {
	stones.Opener
	secrets map[string][32]byte
}

func (r remembering) Secret(account string) ([32]byte, bool) {
	if s, ok := r.secrets[account]; ok {
		return s, true
	}
	s, ok := r.Opener.Secret(account)
	if ok {
		r.secrets[account] = s
	}
	return s, ok
}

// TestErasedNeighbour erases ben, whose car's ECU is chen's now and who was in the trees of most days: everybody else's statements hold, whole ones from
// trees that are made anew and those that go on from before, and ben has none.
func TestErasedNeighbour(t *testing.T) {
	w := newWorld(t)
	before := make(map[string]*statement.State)
	w.life(func(drop uint64) {
		if drop == 44 {
			for _, a := range []string{"anna", "chen"} {
				_, before[a] = w.verify(a, w.write(a, 0), nil)
			}
		}
	})
	w.update(func(tx *store.Tx) error { return tx.RevokeVehicle(t.Context(), "BEN") })
	e, err := person.Erase(t.Context(), person.Config{Reader: w.db, Writer: w.db}, "ben")
	if err != nil || e.Entries != 3 {
		t.Fatalf("%d entries are erased, %v", e.Entries, err)
	}
	w.at(48)
	w.at(52)
	cfg := w.config()
	cfg.Days = t.TempDir()
	fresh, err := Open(t.Context(), store.Config{Path: w.recordsPath()}, cfg)
	w.must(err)
	t.Cleanup(func() { fresh.Close() })
	for _, a := range []string{"anna", "chen", "dora"} {
		var b bytes.Buffer
		w.must(fresh.Write(t.Context(), &b, a, 0))
		whole, _ := w.verify(a, b.Bytes(), nil)
		if audited := w.audited(); whole.Milli == 0 || whole.Milli != audited.Balances[a] || whole.To != 52 {
			t.Errorf("%s has %d milli-stones by the statement, %d by the audit", a, whole.Milli, audited.Balances[a])
		}
		if s := before[a]; s != nil {
			if r, _ := w.verify(a, w.write(a, s.Next()), s); r.Milli != whole.Milli {
				t.Errorf("%s has %d milli-stones going on, %d from the beginning", a, r.Milli, whole.Milli)
			}
		}
	}
	if err := fresh.Write(t.Context(), new(bytes.Buffer), "ben", 0); !errors.Is(err, ErrNoAccount) {
		t.Errorf("ben has a statement: %v", err)
	}
}
